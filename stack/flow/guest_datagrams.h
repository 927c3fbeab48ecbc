// The guest's own datagrams of one kind, UDP or ICMP echo: out through a socket of the
// host's for each mapping (mappings.h), and what comes back there to the guest.
//
// To host: the payload is copied into a datagram of the stack's pool, with the packet's hop
// limit (one less), DSCP and don't-fragment bit, and handed to the relay. To guest: a datagram
// of whom the guest has sent to leaves from the relay's own buffer; a fault becomes an ICMP
// error that quotes the guest's packet. Whatever is dropped is counted, by cause.
//
// A pass calls BeginPass, then FromGuest for each packet; the rest arrives by way of
// DatagramEnds. Time is Poll's. Poll thread only.
//
// Read first: RFC 4787 (UDP), RFC 5508 (ICMP), RFC 1812 4.3 (what errors say).
#ifndef PENSTOCK_STACK_FLOW_GUEST_DATAGRAMS_H_
#define PENSTOCK_STACK_FLOW_GUEST_DATAGRAMS_H_

#include <cstdint>
#include <memory>
#include <span>

#include "absl/container/flat_hash_map.h"
#include "relay/relay.h"
#include "stack/config.h"
#include "stack/counters.h"
#include "stack/flow/datagram_ends.h"
#include "stack/flow/datagrams_to_guest.h"
#include "stack/flow/gate.h"
#include "stack/flow/mappings.h"
#include "stack/stack.h"
#include "stack/wire/packet.h"

namespace penstock {

class GuestDatagrams final : private DatagramOwner {
 public:
  // All references outlive this.
  GuestDatagrams(DatagramKind kind, const Config& config, DatagramsToGuest& to_guest,
                 DatagramEnds& ends, Counters& counters, Gate& gate);
  ~GuestDatagrams();
  GuestDatagrams(const GuestDatagrams&) = delete;
  GuestDatagrams& operator=(const GuestDatagrams&) = delete;

  void BeginPass(Time now);
  // A UDP packet, or an echo request, that is not for the stack itself; its hop limit is
  // above 1. To the gateway it is for the host's loopback, if the policy has the host named.
  // Counts it.
  void FromGuest(const Packet& packet);
  [[nodiscard]] Time NextDeadline() { return mappings_.next_expiry(); }
  // A row for each conversation.
  void AddTo(std::vector<FlowInfo>& rows) const;
  // Ends the conversations that the policies deny now.
  void CutDenied();

  // After the relays and `ends`' batch were shut down: every datagram goes home.
  void Shutdown();

 private:
  friend class FlowAudit;  // tests/world
  // Mappings that may end in one pass; more end in the next.
  static constexpr int kExpiriesPerPass = 1'024;
  // Mappings that are over, and whose socket the relay has not closed yet.
  static constexpr size_t kLeavingMax = 1'024;

  [[nodiscard]] bool ToGuest(DatagramEnd& end, Datagram& datagram) override;
  void Forget(DatagramEnd& end) override;

  [[nodiscard]] const FamilyConfig& FamilyOf(const IpAddress& address) const;
  // Where the guest's packets to `destination` go, and whom the guest sees there.
  [[nodiscard]] IpAddress HostOf(const IpAddress& destination) const;
  [[nodiscard]] IpAddress SeenAs(const IpAddress& host) const;
  [[nodiscard]] GateQuestion QuestionOf(const Endpoint& guest, const Endpoint& host) const;
  // The policy denies the packet: the guest is told.
  void Deny(const Packet& packet);
  // The mapping of `guest`, perhaps a new one; nullptr if none can be.
  [[nodiscard]] Mapping* MappingFor(const Endpoint& guest);
  void Close(Mapping& mapping);
  // False: there is no room for it.
  [[nodiscard]] bool SendOne(Mapping& mapping, const Packet& packet, const Endpoint& host,
                             std::span<const uint8_t> payload);
  [[nodiscard]] bool ReplyToGuest(const Mapping& mapping, Datagram& datagram);
  void FaultToGuest(Mapping& mapping, const Datagram& datagram);
  // The system gave `mapping` no socket. What the guest is to be told, if anything.
  [[nodiscard]] FaultKind OnNoSocket(Mapping& mapping, int error);
  void SetLevel();

  const DatagramKind kind_;
  const Config& config_;
  DatagramsToGuest& to_guest_;
  DatagramEnds& ends_;
  Counters& counters_;
  Gate& gate_;
  Mappings mappings_;
  absl::flat_hash_map<const DatagramEnd*, std::unique_ptr<Mapping>> leaving_;
  size_t next_relay_ = 0;
  bool warned_ = false;
  Time now_{};
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_FLOW_GUEST_DATAGRAMS_H_
