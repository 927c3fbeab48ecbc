// An oracle found something that must not be.
#ifndef PENSTOCK_TESTS_WORLD_VIOLATION_H_
#define PENSTOCK_TESTS_WORLD_VIOLATION_H_

#include <stdexcept>

namespace penstock::world {

// The text says what.
class Violation : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_VIOLATION_H_
