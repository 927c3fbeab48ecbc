// DnsService with the guest on one side and upstreams on the other, both played by the test,
// on virtual time.
#ifndef PENSTOCK_TESTS_STACK_DNS_DNS_RIG_H_
#define PENSTOCK_TESTS_STACK_DNS_DNS_RIG_H_

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "relay/doorbell.h"
#include "stack/dns/dns_datagrams.h"
#include "stack/dns/dns_service.h"
#include "tests/support/dns_builder.h"
#include "tests/support/memory_link.h"
#include "tests/support/packet_builder.h"
#include "tests/support/played_socket.h"
#include "tests/support/udp_guest.h"

namespace penstock {

// Says what the test told it to, and writes down what it hears.
class ScriptedDnsPolicy final : public DnsPolicy {
 public:
  bool MayAsk(std::string_view name, Time) override { return may_ask(std::string(name)); }
  bool MayAnswer(std::string_view name, const IpAddress& address, Time) override {
    return may_answer(std::string(name), address.ToString());
  }
  void Pin(std::string_view name, const IpAddress& address, Duration ttl, Time) override {
    pins.push_back(std::string(name) + " " + address.ToString() + " " +
                   std::to_string(std::chrono::duration_cast<std::chrono::seconds>(ttl).count()));
  }
  void OnOutcome(const DnsSubject& subject, DnsOutcome outcome, const IpAddress* refused,
                 Time) override {
    outcomes.push_back(std::string(subject.name) + " " + std::string(Name(outcome)) +
                       (refused == nullptr ? "" : " " + refused->ToString()));
  }

  std::function<bool(const std::string&)> may_ask = [](const std::string&) { return true; };
  std::function<bool(const std::string&, const std::string&)> may_answer =
      [](const std::string&, const std::string&) { return true; };
  std::vector<std::string> pins, outcomes;
};

// Who asks otherwise than by UDP.
class CountingAsker final : public DnsAsker {
 public:
  void Answer(uint64_t token, std::span<const uint8_t> message) override {
    answers.emplace_back(token, Bytes(message.begin(), message.end()));
  }
  std::vector<std::pair<uint64_t, Bytes>> answers;
};

class DnsRig final {
 public:
  // What left for an upstream.
  struct Sent {
    PlayedSocket* socket = nullptr;
    Endpoint upstream;
    uint32_t interface = 0;
    Bytes message;
  };

  // Two upstreams, unless the configuration has some.
  explicit DnsRig(Config config = {});
  ~DnsRig();
  DnsRig(const DnsRig&) = delete;
  DnsRig& operator=(const DnsRig&) = delete;

  // Frames of the guest's, then a pass.
  void Pass(const std::vector<Bytes>& frames = {});
  void Wait(Duration duration) {
    now += duration;
    Pass();
  }
  // Asks and makes a pass; from `port`, of the DNS address unless another is given.
  void Ask(const Bytes& message, uint16_t port = 5'000, std::optional<Endpoint> asked = {});
  // What the guest got since, of its datagrams.
  std::vector<GuestDatagram> Received();
  // The one answer; an empty message if there is none, or are several.
  Bytes Answer();
  // What upstreams got since.
  std::vector<Sent> Questions();
  // The one question; fails the test if there is none, or are several.
  Sent Question();
  // From whom it was sent to, and a pass.
  void AnswerTo(const Sent& sent, const Bytes& message);
  // Asks as a connection of the guest's would; the answer comes to `asker`.
  void AskByStream(const Bytes& message, DnsAsker& asker, uint64_t token = 1);
  // Whatever was sent did not arrive.
  void Fail(const Sent& sent, FaultKind kind = FaultKind::kPort);
  // Asks of the upstream, and passes on what it answers.
  Bytes Resolve(const Bytes& question, const std::vector<DnsRecordSpec>& records);

  static inline const Endpoint kFirst{*IpAddress::Parse("192.0.2.53"), 53};
  static inline const Endpoint kSecond{*IpAddress::Parse("2001:db8::53"), 53};
  static inline const Endpoint kDns4{kTestConfig.ipv4.dns, 53};

  const Config config;
  Counters counters;
  ScriptedDnsPolicy policy;
  Time now{std::chrono::hours(1)};

 private:
  LinkCapabilities capabilities_;
  LinkAddresses addresses_{.gateway_mac = kGatewayMac, .guest_mac = kGuestMac};
  MemoryLink link_;
  FrameBatch batch_{link_, counters};
  boost::asio::io_context io_;
  Doorbell stack_bell_;
  std::shared_ptr<Relay> relay_ =
      std::make_shared<Relay>(io_, RelayOptions{.make_guest_socket = &PlaySocket}, stack_bell_);
  DatagramsToGuest to_guest_{config, capabilities_, addresses_, batch_, counters};
  DatagramEnds ends_{batch_, counters, {relay_.get()}};
  UdpGuest guest_;
  std::vector<GuestDatagram> received_;

 public:
  DnsService service{config, ends_, policy, counters};
  DnsDatagrams datagrams{service, to_guest_, counters};
};

}  // namespace penstock

#endif  // PENSTOCK_TESTS_STACK_DNS_DNS_RIG_H_
