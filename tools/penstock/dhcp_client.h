// The DHCP client of `penstock run`: what the keeper says and hears to have the sandbox's
// IPv4 address, and to keep it. A state machine without a socket; time is an argument.
//
//   selecting ── offer ──▶ requesting ── ack ──▶ bound ── T1 ──▶ renewing ── ack ──▶ bound
//
// A message that is not answered is sent again after 200 ms, and each time after twice as
// long; a request that nobody answers becomes a discover again. A refusal (NAK) or the
// lease's end takes the lease away, and the client selects anew. Renewing goes to the
// server alone until then: it is the one on this link, so there is no rebinding. Hostname
// and such are not asked for. Any thread, one at a time.
//
// Read first: RFC 2131 3.1 and 4.4, RFC 2132.
#ifndef PENSTOCK_TOOLS_PENSTOCK_DHCP_CLIENT_H_
#define PENSTOCK_TOOLS_PENSTOCK_DHCP_CLIENT_H_

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "relay/endpoint.h"
#include "relay/time.h"
#include "stack/config.h"
#include "stack/service/dhcp_message.h"

namespace penstock::tool {

struct DhcpLease {
  IpAddress address;
  int prefix_length = 0;
  IpAddress server;
  std::optional<IpAddress> router;  // unset: no way out for this family
  std::vector<IpAddress> nameservers;
  std::vector<std::string> search;  // domains
  std::optional<uint16_t> mtu;
  uint32_t seconds = 0;  // kForever: without end
  static constexpr uint32_t kForever = 0xffff'ffff;
};

class DhcpClient final {
 public:
  static constexpr Duration kFirstWait = std::chrono::milliseconds(200);
  // 200 ms doubled eight times is 51 s; there it stays.
  static constexpr int kDoublingsMax = 8;
  static constexpr int kRequestsMax = 4;

  // `seed` makes transactions that nobody else has.
  DhcpClient(const MacAddress& hardware, uint32_t seed);

  struct Outgoing {
    IpAddress destination;  // everybody, or the server once there is an address
    std::vector<uint8_t> bytes;
  };
  // When Tick has something to do; the first time at once.
  [[nodiscard]] Time NextDeadline() const { return next_; }
  // What is to be sent now. The lease may be over afterwards.
  [[nodiscard]] std::optional<Outgoing> Tick(Time now);
  // What came to the client's port, whatever it is. True if the lease is another one than
  // before: given, renewed or taken away.
  bool Receive(std::span<const uint8_t> payload, Time now);

  [[nodiscard]] const std::optional<DhcpLease>& lease() const { return lease_; }
  // Nothing is awaited from the server.
  [[nodiscard]] bool idle() const { return state_ == State::kBound; }

 private:
  enum class State : uint8_t { kSelecting, kRequesting, kBound, kRenewing };

  void Enter(State state, Time now);
  void Select(Time now);
  bool Accept(const DhcpMessage& message, Time now);
  [[nodiscard]] Outgoing Write() const;

  const MacAddress hardware_;
  uint32_t transaction_;
  State state_ = State::kSelecting;
  int sent_ = 0;  // in this state
  Time next_{};
  IpAddress offered_;
  IpAddress server_;
  std::optional<DhcpLease> lease_;
  Time lease_ends_ = kNever;
};

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_DHCP_CLIENT_H_
