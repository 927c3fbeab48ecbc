// Virtual time and what is due at which moment. Nothing here reads a clock: time goes
// by when the world says so. Events of one moment run in the order they were set.
#ifndef PENSTOCK_TESTS_WORLD_TIMELINE_H_
#define PENSTOCK_TESTS_WORLD_TIMELINE_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "relay/time.h"

namespace penstock::world {

// Where virtual time begins: not at zero, so that a difference to an unset time shows.
inline constexpr Time kBegin{std::chrono::hours(1)};

class Timeline final {
 public:
  [[nodiscard]] Time now() const { return now_; }
  // Seconds since the beginning, for people.
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(now_ - kBegin).count();
  }

  void At(Time when, std::function<void()> event) {
    events_.emplace(std::pair(std::max(when, now_), next_number_++), std::move(event));
  }
  void In(Duration after, std::function<void()> event) { At(After(now_, after), std::move(event)); }

  // When the next event is due; kNever if there is none.
  [[nodiscard]] Time next() const {
    return events_.empty() ? kNever : events_.begin()->first.first;
  }
  [[nodiscard]] size_t size() const { return events_.size(); }

  // Runs the next event if it is due now.
  bool RunDue() {
    if (next() > now_) return false;
    auto event = events_.extract(events_.begin());
    event.mapped()();
    return true;
  }
  // All of a sudden it is later. What was to happen is as far away as it was: whoever does it
  // was suspended, too.
  void Jump(Duration by) {
    now_ = After(now_, by);
    decltype(events_) later;
    for (auto& [when, event] : events_) {
      later.emplace(std::pair(After(when.first, by), when.second), std::move(event));
    }
    events_ = std::move(later);
  }
  // `when` must not be before now, nor behind next().
  void AdvanceTo(Time when) { now_ = std::max(now_, when); }

 private:
  Time now_ = kBegin;
  uint64_t next_number_ = 0;
  std::map<std::pair<Time, uint64_t>, std::function<void()>> events_;
};

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_TIMELINE_H_
