// An exchange without a connection: UDP with a host, or a question of DNS.
// What is lost is asked again, as applications do; nobody is told anything that is not so.
#ifndef PENSTOCK_TESTS_FAULTS_ASK_TALK_H_
#define PENSTOCK_TESTS_FAULTS_ASK_TALK_H_

#include <cstdint>

#include "tests/faults/fault_world.h"
#include "tests/faults/talk.h"
#include "tests/support/packet_builder.h"

namespace penstock::faults {

// A guest asks over UDP, as often as it must, until it is answered; by a host that repeats
// what it heard, or (`dns`) by the stack, which asks that host.
class AskTalk final : public Talk {
 public:
  // `server`: a UDP socket on loopback, not blocking, that outlives this; `asked`: where the
  // guest finds it.
  AskTalk(FaultWorld& world, int server, Endpoint asked, bool dns);

  bool Step() override;
  bool Over() override { return answered_; }
  bool Complete() override { return answered_; }
  void Judge() override {}

 private:
  void Ask();
  // True if somebody asked.
  bool Serve();

  FaultWorld& world_;
  const int server_;
  const Endpoint asked_;
  const bool dns_;
  Bytes question_;
  Time next_ask_{};
  bool answered_ = false;
};

}  // namespace penstock::faults

#endif  // PENSTOCK_TESTS_FAULTS_ASK_TALK_H_
