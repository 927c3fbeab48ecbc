// The part of Boost.Asio that is not a template, compiled once for everybody
// (BOOST_ASIO_SEPARATE_COMPILATION): the other sources build in half the time.
#include <boost/asio/impl/src.hpp>
