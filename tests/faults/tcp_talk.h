// One connection between guest and host, of either's opening, with what both ends write and
// what they saw of it.
//
// Whatever fails, it has to end as one whose ends were told the truth: all arrived at both,
// in order, or whoever misses something was refused or reset.
#ifndef PENSTOCK_TESTS_FAULTS_TCP_TALK_H_
#define PENSTOCK_TESTS_FAULTS_TCP_TALK_H_

#include <cstddef>
#include <optional>
#include <string>

#include "tests/faults/fault_world.h"
#include "tests/faults/talk.h"

namespace penstock::faults {

struct TcpPlan {
  bool host_opens = false;  // through a published port
  size_t to_host_bytes = 8'000;
  size_t to_guest_bytes = 12'000;
  // Each end says FIN behind its last byte; else both stay open.
  bool finishes = true;
};

class TcpTalk final : public Talk {
 public:
  TcpTalk(FaultWorld& world, const TcpPlan& plan);

  bool Step() override;
  bool Over() override;
  bool Complete() override;
  void Judge() override;
  // Of one that stays open: both write some more, and it arrives.
  void ExpectAlive();

 private:
  void Open();
  bool StepGuest();
  bool StepHost();
  [[nodiscard]] bool GuestEnded() const;
  [[nodiscard]] bool HostEnded() const;

  FaultWorld& world_;
  const TcpPlan plan_;
  std::optional<HostListener> listener_;
  Endpoint published_;
  bool opened_ = false;
  world::GuestConnection* guest_ = nullptr;
  std::optional<HostSocket> host_;
  std::string to_host_, to_guest_;  // what is written in all
  std::string guest_read_;
  size_t guest_wrote_ = 0, host_wrote_ = 0;
  bool guest_finished_ = false, host_finished_ = false;
};

}  // namespace penstock::faults

#endif  // PENSTOCK_TESTS_FAULTS_TCP_TALK_H_
