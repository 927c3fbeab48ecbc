// What happened in a run, for a person: one line for each event, with its virtual time.
// Costs nothing where nobody asked for it.
#ifndef PENSTOCK_TESTS_WORLD_TRACE_H_
#define PENSTOCK_TESTS_WORLD_TRACE_H_

#include <cstdio>
#include <string>
#include <vector>

namespace penstock::world {

class Trace final {
 public:
  void Note(double seconds, const std::string& what) {
    char time[32];
    std::snprintf(time, sizeof time, "%12.6f  ", seconds);
    lines_.push_back(time + what);
  }
  [[nodiscard]] const std::vector<std::string>& lines() const { return lines_; }

 private:
  std::vector<std::string> lines_;
};

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_TRACE_H_
