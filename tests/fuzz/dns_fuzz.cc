// Any bytes as questions of the guest's, and any bytes as what name servers answer: each
// question is answered once, by a message with its id that it has room for, and nothing is
// left afterwards.
#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "relay/check.h"
#include "relay/doorbell.h"
#include "stack/dns/dns_service.h"
#include "tests/support/dns_builder.h"
#include "tests/support/memory_link.h"
#include "tests/support/packet_builder.h"
#include "tests/support/played_socket.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

class Guest final : public DnsAsker {
 public:
  struct Question {
    Bytes message;
    bool by_udp = true;
    bool answered = false;
  };

  void Answer(uint64_t token, std::span<const uint8_t> message) override {
    Question& question = questions.at(token);
    PENSTOCK_CHECK(!std::exchange(question.answered, true));
    if (message.empty()) return;
    PENSTOCK_CHECK(question.message.size() >= 12 && message.size() >= 12);
    PENSTOCK_CHECK(DnsIdOf(message) == DnsIdOf(question.message));
    PENSTOCK_CHECK((message[2] & 0x80) != 0);
    const DnsQueryView view = ReadDnsQuery(question.message);
    if (question.by_udp && view.kind == DnsQueryKind::kQuestion) {
      PENSTOCK_CHECK(message.size() <= std::max<size_t>(view.udp_bytes_max, 512));
    }
  }
  std::map<uint64_t, Question> questions;
};

// Denies some names and some addresses, and reads what it is told.
class Rules final : public DnsPolicy {
 public:
  bool MayAsk(std::string_view name, Time) override { return !name.ends_with("denied"); }
  bool MayAnswer(std::string_view name, const IpAddress& address, Time) override {
    return name.starts_with('a') || address.bytes[0] == 10;
  }
  void Pin(std::string_view, const IpAddress&, Duration ttl, Time) override {
    PENSTOCK_CHECK(ttl >= 1s);
  }
  void OnOutcome(const DnsSubject& subject, DnsOutcome outcome, const IpAddress*, Time) override {
    PENSTOCK_CHECK(subject.name.size() < 1'024 && !Name(outcome).empty());
  }
};

class World final {
 public:
  World() {
    PlayedSockets().clear();
    service_.emplace(config_, ends_, rules_, counters_);
  }
  ~World() {
    relay_->Shutdown();
    ends_.ShutdownBatch();
    service_->Shutdown();
    PENSTOCK_CHECK(relay_->datagrams().bytes_out() == 0);
    for (const auto& socket : PlayedSockets()) socket->self = nullptr;
    PlayedSockets().clear();
  }

  void Ask(const Bytes& message, bool by_udp) {
    const uint64_t token = next_token_++;
    guest_.questions[token] = {.message = message, .by_udp = by_udp};
    service_->Ask({.message = message,
                   .transport = by_udp ? DnsTransport::kUdp : DnsTransport::kTcp,
                   .asker = &guest_,
                   .token = token},
                  now_);
    Pass();
  }
  // To the question asked last that is known, with its id; `with_question`: and question.
  void Answer(Bytes message, bool with_question) {
    if (asked_ == nullptr || last_.size() < 12) return;
    if (message.size() < 12) message.resize(12);
    std::copy_n(last_.begin(), 2, message.begin());
    if (with_question) {
      message[2] |= 0x80;
      message[2] &= 0x87;
      Put16(message, 4, 1);
      message.insert(message.begin() + 12, last_.begin() + 12, last_.end());
    }
    asked_->Arrive(upstream_, message);
    Pass();
  }
  void Fail(FaultKind kind) {
    if (asked_ == nullptr) return;
    asked_->Arrive(upstream_, last_, {.kind = kind});
    Pass();
  }
  void Forget() {
    const uint64_t token = next_token_ - 1;
    const size_t before = service_->outstanding();
    service_->Forget(guest_, token);
    if (service_->outstanding() != before) guest_.questions.at(token).answered = true;
  }
  void Wait(Duration duration) {
    now_ += duration;
    Pass();
  }
  void Finish() {
    for (int i = 0; i < 4; ++i) Wait(4s);
    PENSTOCK_CHECK(service_->outstanding() == 0);
    for (const auto& [token, question] : guest_.questions) PENSTOCK_CHECK(question.answered);
    Wait(10s);
    for (const auto& socket : PlayedSockets()) PENSTOCK_CHECK(socket->closed);
    PENSTOCK_CHECK(service_->NextDeadline() == kNever);
  }

 private:
  void Pass() {
    service_->BeginPass(now_);
    ends_.TakeFromRelays();
    (void)ends_.ServeReady(1'024);
    ends_.AfterFlush();
    ends_.RingRelays();
    relay_->ServePipes();
    for (const auto& socket : PlayedSockets()) {
      if (socket->closed) continue;
      for (const Datagram& datagram : socket->Sent()) upstream_ = datagram.path.peer;
      if (socket->contents.empty()) continue;
      asked_ = socket.get();
      last_ = socket->contents.back();
      socket->contents.clear();
    }
    if (asked_ != nullptr && asked_->closed) asked_ = nullptr;
  }
  static Config MakeConfig() {
    Config config;
    config.dns.upstreams = {{Address("192.0.2.53"), 53}, {Address("2001:db8::53"), 53}};
    config.dns.domains = {{"corp.test", {{Address("192.0.2.54"), 53}}}};
    config.dns.hosts = {{"db.corp.test", {Address("10.1.2.3"), Address("fd99::3")}}};
    config.dns.zones = {"zone.test"};
    config.dns.outstanding_max = 16;
    config.isn_key = {7, 11};
    return config;
  }

  const Config config_ = MakeConfig();
  Counters counters_;
  MemoryLink link_;
  FrameBatch batch_{link_, counters_};
  boost::asio::io_context io_;
  Doorbell bell_;
  std::shared_ptr<Relay> relay_ =
      std::make_shared<Relay>(io_, RelayOptions{.make_guest_socket = &PlaySocket}, bell_);
  DatagramEnds ends_{batch_, counters_, {relay_.get()}};
  Rules rules_;
  Guest guest_;
  std::optional<DnsService> service_;
  PlayedSocket* asked_ = nullptr;
  Endpoint upstream_;
  Bytes last_;
  uint64_t next_token_ = 1;
  Time now_{1h};
};

}  // namespace
}  // namespace penstock

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  constexpr FaultKind kFaults[] = {FaultKind::kPort, FaultKind::kNoSocket, FaultKind::kTooBig,
                                   FaultKind::kStreamBroken};
  World world;
  std::span<const uint8_t> rest(data, size);
  // Steps of "what, length, bytes"; at most 256, for each may open sockets.
  for (int steps = 0; steps < 256 && rest.size() >= 2; ++steps) {
    const uint8_t head = rest[0];
    const size_t length =
        std::min<size_t>(size_t{rest[1]} * (head >= 0x80 ? 16 : 1), rest.size() - 2);
    const Bytes bytes(rest.begin() + 2, rest.begin() + 2 + static_cast<ptrdiff_t>(length));
    rest = rest.subspan(2 + length);
    switch (head % 8) {
      case 0:
      case 1:
        world.Ask(bytes, true);
        break;
      case 2:
        world.Ask(bytes, false);
        break;
      case 3:
        world.Answer(bytes, false);
        break;
      case 4:
        world.Answer(bytes, true);
        break;
      case 5:
        world.Fail(kFaults[head / 8 % 4]);
        break;
      case 6:
        world.Wait(std::chrono::milliseconds(500 * (head / 8)));
        break;
      default:
        world.Forget();
    }
  }
  world.Finish();
  return 0;
}
