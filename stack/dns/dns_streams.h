// DNS over TCP as the stack serves it: the guest's connections to port 53, whose own ends
// TcpFlows hands over (stack/flow/local_ports.h). Each is a pipe of messages
// (relay/framed_task.h); each message is a question, and its answer is written when it
// comes, in whatever order (RFC 7766 6.2.1.1).
//
// Bounds, for a guest may do anything. kConnectionsMax connections: the one used least
// recently gives way. kQuestionsMax questions of one that are not answered, or
// kUnsentBytesMax of answers that it does not take: no more of it is read. One that has no
// room for an answer at all is closed. kIdleTimeout without a message: closed (RFC 7766 6.2.3);
// with a question that is not answered, kAnswerRounds times that.
//
// A guest that has asked everything may finish first; the connection ends when all answers
// are written. Closing sends FIN, not RST, unless questions were left unread; the service is
// told which answers are not wanted any more.
//
// Poll thread only. Time is Poll's.
//
// Read first: RFC 7766.
#ifndef PENSTOCK_STACK_DNS_DNS_STREAMS_H_
#define PENSTOCK_STACK_DNS_DNS_STREAMS_H_

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "relay/relay.h"
#include "relay/time.h"
#include "stack/counters.h"
#include "stack/dns/dns_service.h"
#include "stack/flow/datagram_ends.h"
#include "stack/flow/local_ports.h"
#include "stack/flow/recency.h"

namespace penstock {

// Who answers: DnsService's Ask and Forget, and where it is asked.
struct DnsStreamsService {
  std::function<bool(const Endpoint& destination)> serves;
  std::function<void(const DnsQuery& query, Time now)> ask;
  std::function<void(DnsAsker& asker, uint64_t token)> forget;
};

class DnsStreams final : public LocalPorts, private DatagramOwner, private DnsAsker {
 public:
  static constexpr size_t kConnectionsMax = 64;
  static constexpr size_t kQuestionsMax = 128;
  static constexpr uint64_t kUnsentBytesMax = kStreamUnsentBytesMax;
  static constexpr Duration kIdleTimeout = std::chrono::seconds(10);
  static constexpr int kAnswerRounds = 3;

  // References outlive this; the service is asked nothing after Shutdown.
  DnsStreams(DatagramEnds& ends, Counters& counters, DnsStreamsService service);
  ~DnsStreams();
  DnsStreams(const DnsStreams&) = delete;
  DnsStreams& operator=(const DnsStreams&) = delete;

  void BeginPass(Time now);
  [[nodiscard]] bool Serves(const Endpoint& destination) const override;
  void Open(const TcpTuple& tuple, std::unique_ptr<AcceptedSocket> end) override;
  [[nodiscard]] Time NextDeadline() const;

  // After the relays and `ends`' batch were shut down: every message goes home.
  void Shutdown();

 private:
  friend class FlowAudit;  // tests/world

  struct Connection final : DatagramEnd {
    uint64_t id = 0;
    Endpoint guest;
    Endpoint asked;
    std::bitset<kQuestionsMax> questions;  // that are not answered
    bool guest_finished = false;
    bool ending = false;  // on the list of those
    Time used{};          // a message went either way, or a round of waiting began
    int rounds = 0;
    RecencyLinks<Connection> in_order;
  };

  // Connections that are over, and that the relay has not closed yet.
  static constexpr size_t kLeavingMax = 64;

  [[nodiscard]] bool ToGuest(DatagramEnd& end, Datagram& datagram) override;
  void Forget(DatagramEnd& end) override;
  void OnHome(DatagramEnd& end) override;
  void Answer(uint64_t token, std::span<const uint8_t> message) override;

  void AskOne(Connection& connection, std::span<const uint8_t> message);
  // What follows from the bounds now. `may_close` false: the service is in the middle of
  // something, and must not be told to forget; the next pass closes.
  void Settle(Connection& connection, bool may_close);
  void CloseSoon(Connection& connection);
  void Close(Connection& connection);
  void Use(Connection& connection);
  void SetLevel();

  DatagramEnds& ends_;
  Counters& counters_;
  const DnsStreamsService service_;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Connection>> connections_;
  absl::flat_hash_map<const DatagramEnd*, std::unique_ptr<Connection>> leaving_;
  Recency<Connection, &Connection::in_order> order_;
  std::vector<uint64_t> ending_;  // to be closed by the next pass
  uint64_t next_id_ = 1;
  size_t next_relay_ = 0;
  Time now_{};
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_DNS_DNS_STREAMS_H_
