// Both ends of the guest's own datagrams: ports and echo identifiers of the guest's that ask
// hosts, and hosts that answer with none, one or two datagrams, later than they may, from a
// port or an address that nobody asked, or with an ICMP error instead. Each datagram says in
// its first bytes who asked whom, as which one, and is a stream of its own behind that.
//
// What must hold, whatever the link loses:
//   - what arrives was sent, as it is, once (unless the link doubles) and in order between
//     two ends (unless it swaps), to and from the ports that are concerned;
//   - a port of the guest's has one socket of the host's while it lives, whomever it asks;
//     beyond the limit the one used least recently gives way;
//   - nobody answers whom the guest did not ask, as the filtering says, nor after the timeout;
//   - hop limit (one less), DSCP and the don't-fragment bit are carried;
//   - an error quotes the guest's packet, and says what the host's side was told;
//   - on a good link all of it arrives that was in time, and what does not is counted.
// Throws Violation. One thread.
#ifndef PENSTOCK_TESTS_WORLD_GUEST_TALK_H_
#define PENSTOCK_TESTS_WORLD_GUEST_TALK_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tests/support/udp_guest.h"
#include "tests/world/random.h"
#include "tests/world/scenario.h"
#include "tests/world/sim_datagrams.h"
#include "tests/world/stepped_stack.h"
#include "tests/world/timeline.h"

namespace penstock::world {

struct GuestTalkEnds {
  std::function<void(std::span<const uint8_t> frame, const Offload& offload)> send;
  std::function<bool()> guest_paused;
  std::function<bool()> forgets;  // some conversation gave way to others
};

class GuestTalk final {
 public:
  // All of it outlives the talk. Puts what the guest asks on the timeline.
  GuestTalk(const Scenario& scenario, Timeline& timeline, SteppedStack& stack, GuestTalkEnds ends);
  ~GuestTalk();
  GuestTalk(const GuestTalk&) = delete;
  GuestTalk& operator=(const GuestTalk&) = delete;

  // A frame reached the guest. True: it was UDP, or for a port of ours.
  bool OnFrame(std::span<const uint8_t> frame);
  // Everything has been said. `lossless`: nothing in the link lost, doubled or made up a frame.
  void VerifyEnd(const CounterSnapshot& counters, bool lossless) const;
  [[nodiscard]] Duration Length() const;
  // The clock has jumped, from `before`.
  void OnJump(Time before);
  // UDP datagrams.
  [[nodiscard]] uint64_t answers_arrived() const { return udp_arrived_; }

 private:
  enum class Kind : uint8_t { kQuestion, kAnswer, kOtherPort, kOtherAddress };
  struct Name {
    uint16_t asker = 0;
    uint16_t host = 0;
    uint32_t number = 0;
    friend auto operator<=>(const Name&, const Name&) = default;
  };
  // Of the packet that carries it.
  struct Header {
    uint8_t hop_limit = 64;
    uint8_t traffic_class = 0;
    bool dont_fragment = true;
  };
  struct Question {
    size_t bytes = 0;
    Header header;
    Time pushed{};
    uint32_t arrived = 0;
  };
  struct Answer {
    Kind kind = Kind::kAnswer;
    size_t bytes = 0;
    bool allowed = false;  // else it must not arrive
    bool due = false;      // it must
    uint32_t arrived = 0;
  };
  struct ExpectedFault {
    DatagramFault what;
    bool due = false;
    uint32_t arrived = 0;
  };
  // What one asker has with one host. It is remembered until some moment between the two.
  struct Conversation {
    Time until_min = Time::min(), until_max = Time::min();
    Time asked_max = Time::min();  // the last question is with the stack by then
    bool answered = false;
    int64_t last_question = -1, last_answer = -1;
  };
  struct Asker {
    bool echo = false;
    Endpoint guest;  // of echo: the identifier is the port
    std::vector<Conversation> hosts;
    uint32_t asked = 0;
    uint64_t serial = 0;  // of its newest socket
    std::shared_ptr<SimDatagrams> socket;
    Time used_min = Time::min(), used_max = Time::min();
  };
  // An IP packet to the guest, as far as it is of use here.
  struct IcmpMessage {
    IpAddress source, destination;
    std::span<const uint8_t> bytes;
  };

  [[nodiscard]] Endpoint HostOf(const Asker& asker, size_t host) const;
  // Somebody whom nobody asked.
  [[nodiscard]] Endpoint OtherThan(const Asker& asker, size_t host, Kind kind) const;
  // As the guest sees it.
  [[nodiscard]] Endpoint SeenAs(const Asker& asker, size_t host) const;
  [[nodiscard]] static bool IsAlias(const Asker& asker, size_t host);
  [[nodiscard]] Duration TimeoutOf(const Asker& asker, size_t host, bool answered) const;
  [[nodiscard]] Asker* AskerOf(bool echo, const Endpoint& guest);

  // ---- The guest.
  void Ask(uint16_t asker);
  void AskBurst(uint16_t asker);
  // A question of `bytes`, noted as sent now.
  [[nodiscard]] Bytes NewQuestion(uint16_t asker, uint16_t host, size_t bytes,
                                  const Header& header);
  void SendPacket(const Asker& asker, size_t host, const Bytes& payload, const Header& header);
  // Several questions of one length as one frame.
  void SendSegments(const Asker& asker, size_t host, const Bytes& payload, size_t segment_bytes,
                    const Header& header);
  void OnAnswer(const Asker& asker, const Endpoint& source, std::span<const uint8_t> bytes);
  bool OnIcmp(std::span<const uint8_t> frame);
  bool OnEchoReply(const IcmpMessage& message);
  bool OnError(const IcmpMessage& message);
  void CheckError(const IcmpMessage& message, const Name& name, FaultKind kind);

  // ---- The hosts.
  void OnSocket(const std::shared_ptr<SimDatagrams>& socket);
  void OnClose(uint64_t serial);
  void CheckEviction(const std::string& who, bool echo, Time used);
  void OnQuestion(uint64_t serial, const std::shared_ptr<SimDatagrams>& socket,
                  const Datagram& datagram);
  void AdoptSocket(Asker& asker, uint64_t serial, const std::shared_ptr<SimDatagrams>& socket);
  void CheckQuestion(const Asker& asker, const Name& name, const Datagram& datagram);
  void AnswerOnce(const Name& asked, const std::shared_ptr<SimDatagrams>& socket, Kind kind);
  [[nodiscard]] bool MayAnswer(Kind kind) const;
  // Notes when it comes, and whether it may still, or must.
  void NoteAnswer(Asker& asker, size_t host, bool newest, Answer& answer);
  void FaultOnce(const Name& asked, const std::shared_ptr<SimDatagrams>& socket,
                 const Datagram& datagram);
  [[nodiscard]] DatagramFault Refuse(const Datagram& datagram);

  [[nodiscard]] Bytes Content(Kind kind, const Name& name, size_t bytes) const;
  // nullopt: it is nobody's here. It must be, as far as it goes, exactly that datagram.
  // Two bits that flip in two fragments of it may cancel in the checksum.
  [[nodiscard]] bool MayBeSpoilt(std::span<const uint8_t> bytes) const {
    return scenario_.corrupt > 0 && bytes.size() + 48 > static_cast<size_t>(scenario_.mtu);
  }
  [[nodiscard]] std::optional<std::pair<Kind, Name>> Read(std::span<const uint8_t> bytes) const;
  [[nodiscard]] bool Swaps() const;
  [[noreturn]] void Fail(const std::string& what) const;

  const Scenario& scenario_;
  Timeline& timeline_;
  const std::shared_ptr<SimHost> host_;  // may outlive the stack
  const GuestTalkEnds ends_;
  Dice dice_;
  UdpGuest guest_;
  uint32_t identification_ = 0;
  std::vector<Asker> askers_;
  uint64_t sockets_ = 0;
  uint64_t questions_sent_ = 0, questions_arrived_ = 0, udp_arrived_ = 0;
  bool gave_way_ = false;  // some socket was closed before its time
  std::map<Name, Question> questions_;
  std::map<Name, Answer> answers_;
  std::map<Name, std::vector<ExpectedFault>> faults_;
  uint32_t next_answer_ = 0;
};

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_GUEST_TALK_H_
