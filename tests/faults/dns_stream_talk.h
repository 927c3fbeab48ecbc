// A question of DNS over TCP: the guest's connection to the stack, and the stack's to an
// upstream. Where one ends without an answer the guest asks again by a new one, as resolvers
// do; nobody is told anything that is not so.
#ifndef PENSTOCK_TESTS_FAULTS_DNS_STREAM_TALK_H_
#define PENSTOCK_TESTS_FAULTS_DNS_STREAM_TALK_H_

#include <deque>
#include <string>

#include "tests/faults/fault_world.h"
#include "tests/faults/talk.h"
#include "tests/support/host_side.h"

namespace penstock::faults {

class DnsStreamTalk final : public Talk {
 public:
  // `upstream`: where the stack asks; outlives this. `service`: where the guest finds DNS.
  DnsStreamTalk(FaultWorld& world, HostListener& upstream, Endpoint service);

  bool Step() override;
  bool Over() override { return answered_; }
  bool Complete() override { return answered_; }
  void Judge() override {}

 private:
  // True if something happened.
  bool StepGuest();
  bool StepHost();
  void Ask();
  void Hear();

  FaultWorld& world_;
  HostListener& upstream_;
  const Endpoint service_;
  std::string question_;  // with its length in front
  world::GuestConnection* guest_ = nullptr;
  Time ask_again_{};
  size_t wrote_ = 0;
  std::string heard_;
  bool answered_ = false;
  struct Asker {
    HostSocket socket;
    bool served = false;
  };
  std::deque<Asker> askers_;  // the stack's connections to the upstream
};

}  // namespace penstock::faults

#endif  // PENSTOCK_TESTS_FAULTS_DNS_STREAM_TALK_H_
