// stack/asio_driver.h on an io_context of the embedder's: the guest's end goes, the driver
// tells it, and run() returns.
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/system/error_code.hpp>
#include <cstdio>
#include <utility>

#include "stack/asio_driver.h"
#include "stack/link/frame_ring.h"

int main() {
  boost::asio::io_context io;
  auto rings = penstock::FrameRings::Create({});
  if (!rings.ok()) return 1;
  auto driver = penstock::AsioDriver::Create(io, {.relay_threads = 0}, std::move(rings->stack_end));
  if (!driver.ok()) {
    std::fprintf(stderr, "with_asio: %s\n", driver.status().ToString().c_str());
    return 1;
  }
  bool ended = false;
  (*driver)->OnLinkEnd([&] {
    ended = true;
    (*driver)->Stop();
  });
  boost::asio::post(io, [&] { rings->vmm_end.reset(); });
  // A deprecated function: penstock does not keep its embedder from them.
  boost::system::error_code error;
  io.run(error);
  return ended && !error ? 0 : 1;
}
