// Both ends of the guest's connections to DNS: clients in the guest, on its own TCP, and in
// the stack a service that answers later, in any order, or not at all. Between them are the
// real flow, both tasks of the relay and DnsStreams, over a stream pair (sim_pair.cc).
//
// A question says in its first bytes whose it is and which one, and is a stream of its own
// behind that; so is its answer. What must hold, whatever the link loses:
//   - the service is asked what a client wrote, whole, once and in order, and is told to
//     forget exactly what it still owes when a connection is gone;
//   - a client reads answers to its own questions, whole, each once, in the order in which
//     the service gave them;
//   - who finishes first gets every answer, and then the end; unless a bound, the idle
//     timeout, the script or the link say why not;
//   - in the end no connection and no question is left.
// A seam: what is below `service` is stack/dns/dns_service.h's in a real stack.
// Throws Violation. One thread.
#ifndef PENSTOCK_TESTS_WORLD_DNS_TALK_H_
#define PENSTOCK_TESTS_WORLD_DNS_TALK_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tests/world/guest_tcp.h"
#include "tests/world/random.h"
#include "tests/world/scenario.h"
#include "tests/world/stepped_stack.h"
#include "tests/world/timeline.h"

namespace penstock::world {

class DnsTalk final {
 public:
  // All of it outlives the talk. Puts what the clients do on the timeline. `note` for the
  // trace.
  DnsTalk(const Scenario& scenario, const Config& config, Timeline& timeline, SteppedStack& stack,
          GuestTcp& guest, std::function<void(const std::string&)> note);
  DnsTalk(const DnsTalk&) = delete;
  DnsTalk& operator=(const DnsTalk&) = delete;

  // After each step; `guest_runs`: false while the guest is paused. `guest_has_run`: in that
  // step, or the script did. The clients are the guest's alone: what the stack and the relay do
  // comes to them in frames.
  void Turn(bool guest_runs, bool guest_has_run);
  // How many clients broke off, by the script.
  [[nodiscard]] uint64_t left() const;
  // No client has anything to do any more, and no connection is left.
  [[nodiscard]] bool Over() const;
  // `good`: nothing disturbs. `limited`: the stack refused SYNs because of a limit.
  void VerifyEnd(const CounterSnapshot& counters, bool good, bool limited) const;
  [[nodiscard]] std::string Describe() const;
  // Time that the script takes.
  [[nodiscard]] Duration Length() const;

 private:
  enum class End : uint8_t {
    kFinishFirst,  // when all is asked
    kFinishLast,   // when all is answered
    kNever,        // waits for the stack's end
    kAbort,        // in the middle
    kClose,        // likewise, as close(2)
  };
  struct Client {
    size_t index = 0;
    GuestConnection* connection = nullptr;
    Endpoint destination;
    End end = End::kFinishFirst;
    uint32_t questions = 0;  // to be asked
    uint32_t asked = 0;      // put into `unwritten`, or written
    std::vector<uint8_t> unwritten;
    bool finished = false;
    bool left = false;  // by the script
    bool gave_up = false;
    // At the service.
    int64_t at_once = 0;  // per mille of the answers that are
    uint32_t heard = 0;
    std::deque<uint32_t> answers;  // given, in order, and not read
    uint32_t silent = 0;           // had none
    // Of the stream from the stack.
    std::vector<uint8_t> read;
    uint32_t answered = 0;
    bool at_end = false;
  };
  struct Question {
    size_t client = 0;
    uint32_t number = 0;
    DnsAsker* asker = nullptr;
  };

  void Connect(Client& client);
  void AskBurst(Client& client);
  void Write(Client& client);
  void Read(Client& client);
  void TakeMessages(Client& client);
  void Finish(Client& client);
  [[nodiscard]] bool Done(const Client& client) const;
  [[nodiscard]] bool Broken(const Client& client) const;

  void OnQuestion(const DnsQuery& query);
  void OnForget(uint64_t token);
  void AnswerSoon(uint64_t token);
  void Answer(uint64_t token);

  enum class Kind : uint8_t { kQuestion, kAnswer };
  [[nodiscard]] std::vector<uint8_t> Content(Kind kind, size_t client, uint32_t number) const;
  // The number in `bytes`, which must be exactly that message.
  [[nodiscard]] uint32_t NumberOf(Kind kind, size_t client, std::span<const uint8_t> bytes) const;
  [[noreturn]] void Fail(const Client& client, const std::string& what) const;

  const Scenario& scenario_;
  Timeline& timeline_;
  SteppedStack& stack_;
  GuestTcp& guest_;
  const std::function<void(const std::string&)> note_;
  Dice dice_;
  std::vector<std::unique_ptr<Client>> clients_;
  bool told_silence_ = false;  // a client waits for one answer less, and did not have its turn
  std::map<Endpoint, size_t> by_guest_;
  std::map<uint64_t, Question> outstanding_;  // by token
  IpAddress guest4_, guest6_;
  uint64_t strangers_ = 0;  // questions of nobody's: a stray's
};

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_DNS_TALK_H_
