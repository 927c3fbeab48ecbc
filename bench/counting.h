// Which instructions count: the scopes that callgrind collects in, and those inside them
// that stand for a kernel and do not count. Without callgrind they cost a few instructions
// and mean nothing. One thread.
#ifndef PENSTOCK_BENCH_COUNTING_H_
#define PENSTOCK_BENCH_COUNTING_H_

#include <valgrind/callgrind.h>

#include <string>
#include <utility>

namespace penstock::bench {

class Counting final {
 public:
  // What happens from here to the end of the scope is penstock's.
  Counting() : Counting(true) {}
  ~Counting() { Switch(before_); }
  Counting(const Counting&) = delete;
  Counting& operator=(const Counting&) = delete;

  // Forgets what was counted so far, and counts from now on. Before the first one programs
  // run some ten times faster.
  static void Begin() {
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
  }
  // A profile of its own for what was counted since Begin; `name` is its description.
  static void End(const std::string& name) {
    CALLGRIND_DUMP_STATS_AT(name.c_str());
    CALLGRIND_STOP_INSTRUMENTATION;
  }

 private:
  friend class NotCounting;
  explicit Counting(bool on) : before_(on_) { Switch(on); }
  static void Switch(bool on) {
    if (std::exchange(on_, on) != on) CALLGRIND_TOGGLE_COLLECT;
  }

  inline static bool on_ = false;
  const bool before_;
};

// Inside a Counting: a system call, or what stands for one.
class NotCounting final {
 public:
  NotCounting() : scope_(false) {}

 private:
  const Counting scope_;
};

}  // namespace penstock::bench

#endif  // PENSTOCK_BENCH_COUNTING_H_
