// An exchange without a connection: UDP with a host, a question of DNS, an echo request, or a
// client of a published port. What is lost is asked again, as applications do; nobody is told
// anything that is not so.
#ifndef PENSTOCK_TESTS_FAULTS_ASK_TALK_H_
#define PENSTOCK_TESTS_FAULTS_ASK_TALK_H_

#include <cstdint>

#include "tests/faults/fault_world.h"
#include "tests/faults/talk.h"
#include "tests/support/packet_builder.h"

namespace penstock::faults {

enum class Asking : uint8_t {
  kHost,       // a guest asks a host, which repeats what it heard
  kDns,        // a guest asks the stack, which asks the host
  kEcho,       // a guest sends an echo request, which the host's kernel answers
  kPublished,  // a host's client asks a published port, where the guest repeats what it heard
};

// Who asks does so as often as it must, until it is answered.
class AskTalk final : public Talk {
 public:
  // `host`: a UDP socket on loopback, not blocking, that outlives this. `asked`: where the
  // guest finds whom it asks; of kPublished, the guest's own port.
  AskTalk(FaultWorld& world, int host, Endpoint asked, Asking asking);

  bool Step() override;
  bool Over() override { return answered_; }
  bool Complete() override { return answered_; }
  void Judge() override {}

 private:
  void Ask();
  // True if something came to the host's socket.
  bool StepHost();
  bool StepGuest();
  void Answer(const Bytes& heard, const Endpoint& from);
  void Hear(const GuestDatagram& datagram);
  [[nodiscard]] bool IsReply(const Bytes& frame) const;

  FaultWorld& world_;
  const int host_;
  const Endpoint asked_;
  const Asking asking_;
  Endpoint published_;
  Bytes question_;
  Time next_ask_{};
  bool answered_ = false;
};

}  // namespace penstock::faults

#endif  // PENSTOCK_TESTS_FAULTS_ASK_TALK_H_
