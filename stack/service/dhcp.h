// The DHCP server of the link, for IPv4. There is one guest, by its MAC address; still
// it may ask in several names (a boot loader, then a system), and each gets a lease of
// its own.
//
// Who asks is told by the client identifier, or by the hardware address where there is
// none; one that is just the hardware address with its type is the same client. The first
// client gets ipv4.guest, a client that comes back what it had, one that asks for a free
// address of the pool that one, all others the next free one. Nothing is remembered over
// the stack's life, and nobody else serves this link: so an address that is free and ours
// is given also to a client that remembers it from an earlier stack, and every other one
// is refused at once (NAK) rather than left to time out.
//
// At most kLeaseCountMax leases; the work for one message is in proportion to them. A
// message allocates nothing but the place of a lease, the first time. Poll thread.
//
// Read first: RFC 2131 3 and 4.3, RFC 2132, RFC 3397 (search list), RFC 3442 (why there
// are no classless routes here: one router is all), RFC 6842 (the identifier is echoed).
#ifndef PENSTOCK_STACK_SERVICE_DHCP_H_
#define PENSTOCK_STACK_SERVICE_DHCP_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "relay/time.h"
#include "stack/config.h"
#include "stack/counters.h"
#include "stack/service/dhcp_message.h"
#include "stack/service/host_routes.h"
#include "stack/service/service_frames.h"
#include "stack/wire/packet.h"

namespace penstock {

class DhcpServer final {
 public:
  static constexpr size_t kLeaseCountMax = 256;
  // How long an offer is kept for who got it, and an address that the guest found taken
  // for nobody.
  static constexpr Duration kOfferTime = std::chrono::seconds(60);
  static constexpr Duration kDeclinedTime = std::chrono::minutes(10);

  // All but `config` must live as long as this.
  DhcpServer(const Config& config, const HostRoutes& routes, const LinkAddresses& link,
             Counters& counters);

  // True for what this server reads: UDP to its port, to the gateway or everybody.
  [[nodiscard]] bool IsFor(const Packet& packet) const;
  // `packet` is one of those, from Parse; `out` has room for a frame of the MTU. At most
  // one frame, to 255.255.255.255 or to the client.
  [[nodiscard]] ServiceAnswer Handle(const Packet& packet, Time now, std::span<uint8_t> out);

  // The address that was leased last and not given back.
  [[nodiscard]] const std::optional<IpAddress>& leased() const { return leased_; }
  [[nodiscard]] size_t lease_count() const { return leases_.size(); }

 private:
  enum class State : uint8_t { kOffered, kLeased, kDeclined };
  struct Lease {
    uint64_t client = 0;
    uint32_t address = 0;  // host order, as all addresses below
    State state = State::kOffered;
    Time until{};
  };

  [[nodiscard]] ServiceAnswer Discover(const DhcpMessage& message);
  [[nodiscard]] ServiceAnswer Request(const DhcpMessage& message);
  [[nodiscard]] ServiceAnswer Inform(const DhcpMessage& message);
  [[nodiscard]] ServiceAnswer GiveBack(const DhcpMessage& message, DhcpType type);

  [[nodiscard]] bool IsOurs(uint32_t address) const;
  [[nodiscard]] bool IsFreeFor(uint64_t client, uint32_t address) const;
  [[nodiscard]] Lease* FindClient(uint64_t client);
  [[nodiscard]] std::optional<uint32_t> Choose(const DhcpMessage& message, uint64_t client);
  // The client's lease at this address, which is free for it; nullptr if there are as many
  // leases as may be.
  [[nodiscard]] Lease* Take(uint64_t client, uint32_t address);
  void PutSettings(DhcpWriter& writer) const;
  void PutLeaseTimes(DhcpWriter& writer) const;
  [[nodiscard]] ServiceAnswer Send(const DhcpMessage& message, DhcpWriter& writer,
                                   const IpAddress& client_address, bool broadcast);
  [[nodiscard]] DhcpFields Reply(const DhcpMessage& message) const;

  const bool enabled_;
  const FamilyConfig ipv4_;
  const uint16_t mtu_;
  const uint32_t lease_seconds_;
  const std::string host_name_;
  const std::string domain_;
  const std::vector<uint8_t> search_;
  const HostRoutes& routes_;
  const LinkAddresses& link_;
  Counters& counters_;

  uint32_t network_ = 0, broadcast_ = 0;
  uint32_t pool_first_ = 0, pool_last_ = 0;
  uint32_t next_ = 0;
  std::vector<Lease> leases_;
  std::optional<IpAddress> leased_;

  // Of the message that is being handled.
  Time now_{};
  MacAddress to_{};
  std::span<uint8_t> out_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_SERVICE_DHCP_H_
