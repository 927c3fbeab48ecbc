// The host's sockets that upstreams are asked through (DatagramEnds, relay/datagram_pipe.h).
//
// Who would answer in an upstream's place has to guess the id of a question and the port
// that it left from (RFC 5452 4). So there are a few sockets of each family, one of which
// is taken at random for each question, and a socket is replaced after some questions or
// seconds: the kernel gives each another port at random. One that is replaced is closed
// when the last of its questions is over. All of them are closed when nothing has been
// asked for a while.
//
// Who asks by TCP is passed on by TCP: a connection for each question (framed_task.h), of
// which there are few, for each is a descriptor.
//
// Poll thread only. Time is an argument.
#ifndef PENSTOCK_STACK_DNS_DNS_SOCKETS_H_
#define PENSTOCK_STACK_DNS_DNS_SOCKETS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "relay/relay.h"
#include "relay/time.h"
#include "stack/dns/dns_upstreams.h"
#include "stack/flow/datagram_ends.h"
#include "stack/tcpip/siphash.h"

namespace penstock {

// Numbers that nobody can guess: a keyed hash of a counter.
class DnsRandom final {
 public:
  explicit DnsRandom(const SipKey& key) : key_(key) {}
  [[nodiscard]] uint64_t Next();

 private:
  const SipKey key_;
  uint64_t count_ = 0;
};

struct DnsSocket final : DatagramEnd {
  uint64_t serial = 0;  // another one for each
  Family family = Family::kIpv4;
  Time opened{};
  uint32_t questions = 0;    // asked through it so far
  uint32_t outstanding = 0;  // of those, not Done
  bool retired = false;      // asks nothing more
  bool stream = false;       // TCP, for one question
  uint16_t stream_id = 0;    // of that
};

// What comes through a socket.
class DnsSocketListener {
 public:
  // `message` may be written to, and lives until this returns.
  virtual void OnMessage(DnsSocket& socket, const DnsUpstream& from,
                         std::span<uint8_t> message) = 0;
  // What was sent with this id did not arrive.
  virtual void OnFault(DnsSocket& socket, FaultKind kind, uint16_t id) = 0;

 protected:
  ~DnsSocketListener() = default;
};

class DnsSockets final : private DatagramOwner {
 public:
  // Both outlive this.
  DnsSockets(DatagramEnds& ends, DnsSocketListener& listener, DnsRandom& random)
      : ends_(ends), listener_(listener), random_(random) {}
  DnsSockets(const DnsSockets&) = delete;
  DnsSockets& operator=(const DnsSockets&) = delete;

  // One for one question more, which is outstanding until Done.
  [[nodiscard]] DnsSocket& Take(Family family, Time now);
  // A stream for one question, likewise.
  [[nodiscard]] DnsSocket& TakeStream(Family family, Time now);
  // There is room for one.
  [[nodiscard]] bool MayTakeStream() const { return streams_ < kStreamsMax; }
  // False: it takes no more.
  [[nodiscard]] bool Send(DnsSocket& socket, const DnsUpstream& upstream,
                          std::span<const uint8_t> message);
  void Done(DnsSocket& socket);
  // It cannot ask: the next question is to have another one.
  void Retire(DnsSocket& socket);

  // Closes them all if nothing was asked for a while.
  void BeginPass(Time now);
  [[nodiscard]] Time NextDeadline() const { return idle_at_; }

  // Open ones and those that are being closed.
  [[nodiscard]] size_t count() const { return sockets_.size(); }

  // After the relays and `ends`' batch were shut down.
  void Shutdown();

 private:
  static constexpr size_t kPerFamily = 8;
  static constexpr uint32_t kQuestionsMax = 32;
  static constexpr Duration kLifetime = std::chrono::seconds(10);
  static constexpr Duration kIdleTimeout = std::chrono::seconds(10);
  // Beyond so many, sockets are kept for longer than they should: the relays are behind.
  static constexpr size_t kSocketsMax = 256;
  // Connections to upstreams, those being closed included.
  static constexpr size_t kStreamsMax = 64;

  [[nodiscard]] bool ToGuest(DatagramEnd& end, Datagram& datagram) override;
  void Forget(DatagramEnd& end) override;
  [[nodiscard]] DnsSocket& Open(const DatagramRequest& request, Time now);
  void CountQuestion(DnsSocket& socket, Time now);
  void Close(DnsSocket& socket);
  [[nodiscard]] std::array<DnsSocket*, kPerFamily>& PoolOf(Family family) {
    return family == Family::kIpv4 ? pool4_ : pool6_;
  }

  DatagramEnds& ends_;
  DnsSocketListener& listener_;
  DnsRandom& random_;
  absl::flat_hash_map<const DatagramEnd*, std::unique_ptr<DnsSocket>> sockets_;
  std::array<DnsSocket*, kPerFamily> pool4_{}, pool6_{};
  uint64_t next_serial_ = 1;
  size_t next_relay_ = 0;
  size_t streams_ = 0;
  uint64_t outstanding_ = 0;
  Time asked_at_{};
  Time idle_at_ = kNever;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_DNS_DNS_SOCKETS_H_
