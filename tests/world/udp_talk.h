// Both ends of what goes through published UDP ports: clients that ask, and a guest that
// answers (tests/support/udp_guest.h). Each datagram says in its first bytes who sent it
// to whom, as which one, and is a stream of its own behind that; so whatever arrives
// shows whether it is whole, whose it is and whether it has come before.
//
// What must hold, whatever the link loses:
//   - what arrives was sent, as it is, by who it says, and once (unless the link doubles);
//   - the guest sees the client as the port's identity demands, and nobody else as it;
//   - an answer reaches the client that asked, by the address that it asked, and not after
//     the timeout;
//   - between two ends, what arrives keeps its order (unless the link swaps or doubles);
//   - what neither arrives nor was lost by the link was counted, by cause.
// Throws Violation. One thread.
#ifndef PENSTOCK_TESTS_WORLD_UDP_TALK_H_
#define PENSTOCK_TESTS_WORLD_UDP_TALK_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/udp_guest.h"
#include "tests/world/random.h"
#include "tests/world/scenario.h"
#include "tests/world/sim_datagrams.h"
#include "tests/world/stepped_stack.h"
#include "tests/world/timeline.h"

namespace penstock::world {

// How the talk reaches the rest of the world.
struct UdpTalkEnds {
  std::function<void(std::span<const uint8_t> frame)> send;  // from the guest
  std::function<bool()> guest_paused;
  std::function<void(const std::string& what)> note;
};

class UdpTalk final {
 public:
  // All of it outlives the talk. Publishes, and puts what the clients do on the timeline.
  UdpTalk(const Scenario& scenario, Timeline& timeline, SteppedStack& stack, UdpTalkEnds ends);
  ~UdpTalk();
  UdpTalk(const UdpTalk&) = delete;
  UdpTalk& operator=(const UdpTalk&) = delete;

  // A frame reached the guest. True: it was UDP, whole or not.
  bool OnFrame(std::span<const uint8_t> frame);
  void Unpublish();
  // What sockets of the guest's own sent and got, of UDP, and what arrived of that. `asks`: it
  // uses them for more than answers from the wrong port, and the system may fail them.
  struct Others {
    bool asks = false;
    uint64_t to_host = 0, to_guest = 0;
    uint64_t arrived = 0;
  };
  // Everything has been said, and the link is quiet. `lossless`: nothing in the link lost,
  // doubled or made up a frame.
  void VerifyEnd(const CounterSnapshot& counters, const Others& others, bool lossless) const;
  // Time that the script takes.
  [[nodiscard]] Duration Length() const;
  // The clock has jumped, from `before`.
  void OnJump(Time before);

 private:
  // Who a datagram is from or to, and which one it is.
  struct Name {
    uint16_t port = 0;
    uint16_t peer = 0;
    uint32_t number = 0;
    friend auto operator<=>(const Name&, const Name&) = default;
  };
  enum class Kind : uint8_t { kQuestion, kAnswer, kMisled };
  struct Peer {
    DatagramPath path;
    uint32_t asked = 0;
    Time refreshed{};  // it was heard of last then, or before
    // Numbers of what arrived last, each way; -1: nothing.
    int64_t last_question = -1, last_answer = -1;
  };
  struct Port {
    uint32_t id = 0;
    std::shared_ptr<SimDatagrams> socket;
    Endpoint guest;
    std::vector<Peer> peers;
  };

  void Publish(size_t index);
  void Ask(uint16_t port, uint16_t peer);
  void AskOnce(uint16_t port, uint16_t peer);
  void OnQuestion(const GuestDatagram& datagram);
  void Answer(const GuestDatagram& question, const Name& name, bool misled);
  void OnAnswer(uint16_t port, const DatagramPath& to, std::span<const uint8_t> bytes);
  void NoteSent(const Name& answer);
  // Nothing between the two ends swaps datagrams but the link.
  void CheckOrder(int64_t& last, const Name& name) const;
  void CheckIdentity(const GuestDatagram& datagram, const Name& name);
  [[nodiscard]] bool MayBeSeenAgain() const;
  [[nodiscard]] std::vector<uint8_t> Content(Kind kind, const Name& name, size_t bytes) const;
  // The name in `bytes`, which must be exactly that datagram.
  [[nodiscard]] Name Read(Kind kind, std::span<const uint8_t> bytes) const;
  [[noreturn]] void Fail(const std::string& what) const;

  const Scenario& scenario_;
  Timeline& timeline_;
  SteppedStack& stack_;
  const UdpTalkEnds ends_;
  Dice dice_;
  UdpGuest guest_;
  std::vector<Port> ports_;
  bool unpublished_ = false;
  std::map<Name, std::pair<size_t, uint32_t>> questions_;  // bytes, times arrived
  std::map<Name, uint32_t> answers_;                       // times arrived
  std::set<Name> late_;                                    // answers
  uint32_t next_answer_ = 0;
  uint64_t questions_arrived_ = 0;
  // Who was seen last as a peer of a port of the guest's: port and number.
  std::map<std::pair<Endpoint, Endpoint>, std::pair<uint16_t, uint16_t>> seen_;
};

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_UDP_TALK_H_
