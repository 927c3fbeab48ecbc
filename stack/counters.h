// Every count the stack keeps, by name. One writer (the poll thread) and any
// reader: values are relaxed atomics, and a snapshot is a plain copy.
//
// A frame from the guest ends in exactly one place: consumed, or dropped under
// one DropCause. There is no unnamed discard. A fragment may wait before that for the
// rest of its datagram; all of them end where the datagram does. So at any moment
//
//   frames_to_host = frames_consumed + all drops + fragments_held
#ifndef PENSTOCK_STACK_COUNTERS_H_
#define PENSTOCK_STACK_COUNTERS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "relay/counter.h"

namespace penstock {

// X(enumerator, stable_name)
#define PENSTOCK_DROP_CAUSES(X)                               \
  X(kFrameTooShort, "frame_too_short")                        \
  X(kFrameOverMtu, "frame_over_mtu")                          \
  X(kVlanTag, "vlan_tag")                                     \
  X(kNotForGatewayMac, "not_for_gateway_mac")                 \
  X(kBroadcast, "broadcast")                                  \
  X(kMulticast, "multicast")                                  \
  X(kUnknownEtherType, "unknown_ether_type")                  \
  X(kFalseSourceMac, "false_source_mac")                      \
  X(kFalseSourceAddress, "false_source_address")              \
  X(kFamilyOff, "family_off")                                 \
  X(kArpMalformed, "arp_malformed")                           \
  X(kArpIgnored, "arp_ignored")                               \
  X(kIpv4Version, "ipv4_version")                             \
  X(kIpv4HeaderLength, "ipv4_header_length")                  \
  X(kIpv4TotalLength, "ipv4_total_length")                    \
  X(kIpv4Checksum, "ipv4_checksum")                           \
  X(kIpv4SourceRoute, "ipv4_source_route")                    \
  X(kIpv4Option, "ipv4_option")                               \
  X(kIpv6Version, "ipv6_version")                             \
  X(kIpv6PayloadLength, "ipv6_payload_length")                \
  X(kIpv6Jumbogram, "ipv6_jumbogram")                         \
  X(kIpv6RoutingTypeZero, "ipv6_routing_type_zero")           \
  X(kIpv6ExtensionHeader, "ipv6_extension_header")            \
  X(kIpv6TooManyExtensions, "ipv6_too_many_extensions")       \
  X(kMartianAddress, "martian_address")                       \
  X(kUnknownProtocol, "unknown_protocol")                     \
  X(kOffloadMismatch, "offload_mismatch")                     \
  X(kTcpHeaderLength, "tcp_header_length")                    \
  X(kTcpOption, "tcp_option")                                 \
  X(kTcpFlags, "tcp_flags")                                   \
  X(kTcpPortZero, "tcp_port_zero")                            \
  X(kTcpChecksum, "tcp_checksum")                             \
  X(kUdpLength, "udp_length")                                 \
  X(kUdpChecksum, "udp_checksum")                             \
  X(kUdpRefused, "udp_refused")                               \
  X(kUdpQueueFull, "udp_queue_full")                          \
  X(kUdpMappingLimit, "udp_mapping_limit")                    \
  X(kEchoQueueFull, "echo_queue_full")                        \
  X(kEchoLimit, "echo_limit")                                 \
  X(kHopLimit, "hop_limit")                                   \
  X(kIcmpMalformed, "icmp_malformed")                         \
  X(kIcmpChecksum, "icmp_checksum")                           \
  X(kIcmpIgnored, "icmp_ignored")                             \
  X(kNdpMalformed, "ndp_malformed")                           \
  X(kNdpIgnored, "ndp_ignored")                               \
  X(kDhcpMalformed, "dhcp_malformed")                         \
  X(kDhcpIgnored, "dhcp_ignored")                             \
  X(kDhcpNoAddress, "dhcp_no_address")                        \
  X(kDhcpv6Malformed, "dhcpv6_malformed")                     \
  X(kDhcpv6Ignored, "dhcpv6_ignored")                         \
  X(kRouterSolicitationLimit, "router_solicitation_limit")    \
  X(kFragmentMalformed, "fragment_malformed")                 \
  X(kFragmentOverlap, "fragment_overlap")                     \
  X(kFragmentOversized, "fragment_oversized")                 \
  X(kFragmentDuplicate, "fragment_duplicate")                 \
  X(kFragmentLimit, "fragment_limit")                         \
  X(kFragmentTimeout, "fragment_timeout")                     \
  X(kNoBuffer, "no_buffer")                                   \
  X(kNoFlow, "no_flow")                                       \
  X(kSynWhileDialing, "syn_while_dialing")                    \
  X(kNotSynWhileDialing, "not_syn_while_dialing")             \
  X(kHalfOpenLimit, "half_open_limit")                        \
  X(kHalfOpenDestinationLimit, "half_open_destination_limit") \
  X(kFlowLimit, "flow_limit")                                 \
  X(kForbiddenDestination, "forbidden_destination")           \
  X(kPolicyDenied, "policy_denied")                           \
  X(kTimeWait, "time_wait")                                   \
  X(kBeyondWindow, "beyond_window")                           \
  X(kShutdown, "shutdown")

enum class DropCause : uint8_t {
#define PENSTOCK_X(enumerator, name) enumerator,
  PENSTOCK_DROP_CAUSES(PENSTOCK_X)
#undef PENSTOCK_X
};

inline constexpr size_t kDropCauseCount = 0
#define PENSTOCK_X(enumerator, name) +1
    PENSTOCK_DROP_CAUSES(PENSTOCK_X)
#undef PENSTOCK_X
    ;

// "tcp_option"; stable, for metrics.
[[nodiscard]] std::string_view Name(DropCause cause);

// X(field, help)
#define PENSTOCK_COUNTERS(X)                                                                   \
  X(frames_to_host, "frames received from the guest")                                          \
  X(frames_to_guest, "frames handed to the link")                                              \
  X(link_bytes_to_host, "bytes of frames received from the guest")                             \
  X(link_bytes_to_guest, "bytes of frames handed to the link")                                 \
  X(frames_consumed, "frames from the guest that were not dropped")                            \
  X(frames_lost_by_link, "frames that the link itself lost")                                   \
  X(link_framing_errors, "times that the link got what cannot be frames, and ended")           \
  X(polls, "passes of Poll")                                                                   \
  X(wakes_to_stack, "wake-ups of the poll thread by a doorbell")                               \
  X(wakes_to_relay, "wake-ups of relay threads by a doorbell")                                 \
  X(flows_opened, "flows for which a dial was begun")                                          \
  X(inbound_opened, "clients of published ports for whom the guest was dialled")               \
  X(inbound_refused, "of those, refused by the guest: reset")                                  \
  X(inbound_dial_timeout, "of those, given up because the guest did not answer: reset")        \
  X(inbound_refused_limit, "clients of published ports reset by a limit of flows")             \
  X(inbound_cut, "connections of published ports reset because the port was removed")          \
  X(inbound_denied, "clients of published ports that the ingress hook refused")                \
  X(accept_errors, "errors from accept: the client is gone, or there are no descriptors")      \
  X(accept_pauses, "pauses of a listener for want of descriptors or memory")                   \
  X(solicitations_sent, "questions for the guest's MAC address")                               \
  X(flows_established, "flows whose handshake with the guest completed")                       \
  X(flows_closed, "flows that ended after both directions were finished")                      \
  X(flows_reset_by_guest, "flows that the guest reset")                                        \
  X(flows_reset_by_host, "flows that the host peer reset or that failed there")                \
  X(flows_refused, "dials answered with RST")                                                  \
  X(flows_unreachable, "dials answered with ICMP unreachable")                                 \
  X(flows_dial_timeout, "dials given up in silence after the dial timeout")                    \
  X(flows_handshake_timeout, "flows whose guest never completed the handshake")                \
  X(flows_silent_timeout, "flows reset because the guest answered no retransmission")          \
  X(flows_stalled_timeout, "flows reset because the guest took no byte for the stall timeout") \
  X(flows_keepalive_timeout, "flows reset because the guest answered no keepalive")            \
  X(flows_out_of_memory, "flows that ended for want of memory")                                \
  X(flows_refused_limit, "flows refused by the flow limit")                                    \
  X(flows_local, "connections of the guest's to ports that the stack itself serves")           \
  X(flows_local_refused, "such connections answered with RST for want of descriptors")         \
  X(retransmits_by_timer, "retransmissions by timeout")                                        \
  X(retransmits_by_dupack, "fast retransmissions after duplicate ACKs")                        \
  X(zero_window_probes, "probes of a guest's closed window")                                   \
  X(keepalives_sent, "keepalive probes sent to the guest")                                     \
  X(resets_to_guest, "RST segments sent to the guest")                                         \
  X(payload_bytes_to_host, "TCP payload bytes handed to the relay")                            \
  X(payload_bytes_to_guest, "TCP payload bytes taken from the relay")                          \
  X(replies_lost, "answers to the guest that a full link had no room for")                     \
  X(host_route_changes, "times that the host lost or got its routes of a family")              \
  X(link_resets, "times that the guest's MAC was learned anew, because its link was reset")    \
  X(link_refusals, "times that the link took fewer frames than offered")                       \
  X(path_mtu_updates, "flows whose segment size an ICMP error lowered")                        \
  X(time_wait_recycled, "TIME_WAIT tuples reused by a new SYN")                                \
  X(dhcp_offers_sent, "addresses offered by DHCP")                                             \
  X(dhcp_leases_given, "leases given or renewed by DHCP")                                      \
  X(dhcp_naks_sent, "addresses that DHCP refused")                                             \
  X(dhcp_leases_released, "leases that the guest gave back")                                   \
  X(dhcp_leases_declined, "addresses that the guest found taken")                              \
  X(dhcp_informs_answered, "guests with an address of their own that DHCP told the rest")      \
  X(dhcpv6_replies_sent, "answers by DHCPv6")                                                  \
  X(router_advertisements_sent, "router advertisements, asked for or not")                     \
  X(dns_streams_opened, "connections of the guest's to DNS")                                   \
  X(dns_streams_expired, "of those, closed because nothing was said for the idle timeout")     \
  X(dns_streams_evicted, "of those, closed because another one was new at the limit")          \
  X(dns_streams_overrun, "of those, closed because the guest takes too few answers")           \
  X(dns_streams_refused, "connections to DNS closed at once: too many wait for their end")     \
  X(stream_messages_lost, "messages that a stream did not take before its end")                \
  X(udp_datagrams_to_host, "UDP datagrams handed to the relay")                                \
  X(udp_datagrams_to_guest, "UDP datagrams handed to the link")                                \
  X(udp_bytes_to_host, "payload bytes of the UDP datagrams to host")                           \
  X(udp_bytes_to_guest, "payload bytes of the UDP datagrams to guest")                         \
  X(udp_mappings_opened, "sockets opened for a UDP port of the guest's")                       \
  X(udp_mappings_expired, "of those, closed because nothing came or went for their timeout")   \
  X(udp_mappings_evicted, "of those, closed because another one was new at the limit")         \
  X(conversations_evicted,                                                                     \
    "hosts that a port of the guest's hears no more: another one was new at the limit")        \
  X(udp_filtered, "datagrams from whom the guest's port had not sent to, not passed on")       \
  X(udp_lost_no_socket, "datagrams and echo requests lost because the system gave no socket")  \
  X(echo_requests_to_host, "echo requests handed to the relay")                                \
  X(echo_replies_to_guest, "echo replies handed to the link")                                  \
  X(echo_forbidden, "echo requests refused because the system forbids ping sockets")           \
  X(denied_to_host,                                                                            \
    "connections, conversations and questions of the guest's that a policy denied")            \
  X(denied_to_guest, "clients of published ports that a policy denied")                        \
  X(flows_cut, "live flows that ended because a policy that denies them was set")              \
  X(flows_denied, "connections that ended because of the name that their first bytes showed")  \
  X(first_bytes_looked_at, "connections whose first bytes were looked at for a name")          \
  X(pages_to_guest, "denied HTTP requests that were answered with a page")                     \
  X(name_pins_displaced, "names at an address that gave way, before their time, to others")    \
  X(events_lost, "events for which there was no room")                                         \
  X(host_errors_to_guest, "ICMP errors to the guest for what the host side reported")          \
  X(udp_peers_opened, "peers of published UDP ports that were new")                            \
  X(udp_peers_expired, "of those, forgotten because nothing was heard for the timeout")        \
  X(udp_peers_evicted, "of those, forgotten because another one was new to a full port")       \
  X(udp_denied, "datagrams of peers that the ingress hook refused")                            \
  X(udp_lost_queue, "datagrams to guest lost because the stack was behind")                    \
  X(udp_lost_link_full, "datagrams to guest that a full link had no room for")                 \
  X(udp_lost_no_guest, "datagrams to guest lost because its MAC address is not known")         \
  X(udp_lost_no_port, "datagrams of new peers lost because no gateway port was free")          \
  X(udp_lost_closed, "datagrams and errors to guest that waited as their socket was closed")   \
  X(udp_lost_oversize, "datagrams to guest too long for an IP packet of its family")           \
  X(udp_lost_at_socket, "datagrams to host that the host's socket did not take")               \
  X(udp_socket_errors, "errors that the host's UDP sockets reported")                          \
  X(dns_questions_udp, "messages to DNS by UDP, but for those repeated")                       \
  X(dns_questions_tcp, "messages to DNS by TCP")                                               \
  X(dns_repeated, "messages to DNS by UDP that still wait for their answer")                   \
  X(dns_ignored, "messages to DNS that are no question: not answered")                         \
  X(dns_malformed, "messages to DNS without one whole question: format error")                 \
  X(dns_not_implemented, "messages to DNS of other kinds: not implemented")                    \
  X(dns_denied, "questions refused by policy: no such name")                                   \
  X(dns_local, "questions answered from own names, hosts and zones")                           \
  X(dns_no_family, "questions for addresses that lead nowhere: no record")                     \
  X(dns_limit, "questions beyond the limit: silence by UDP, failure by TCP")                   \
  X(dns_forwarded, "questions asked of an upstream")                                           \
  X(dns_answered, "of those, answered by one")                                                 \
  X(dns_rebinding_refused, "of those, answered with a denied address: no record")              \
  X(dns_servfail, "of those, answered by none in time: server failure")                        \
  X(dns_forgotten, "of those, given up because the guest left")                                \
  X(dns_truncated, "answers too long for the client by UDP: cut")                              \
  X(dns_failovers, "times that a question was asked anew, or of another upstream")             \
  X(dns_timeouts, "times that an upstream did not answer in time")                             \
  X(dns_upstream_errors, "times that an upstream could not be reached")                        \
  X(dns_answers_false, "answers that are late, to no question, or from others")                \
  X(dns_answers_malformed, "answers that cannot be read: another upstream is asked")           \
  X(dns_upstream_changes, "times that the host's name servers became others")

// All of it at one moment; plain values, a copy.
struct CounterSnapshot {
#define PENSTOCK_X(field, help) uint64_t field = 0;
  PENSTOCK_COUNTERS(PENSTOCK_X)
#undef PENSTOCK_X
  std::array<uint64_t, kDropCauseCount> drops{};
  // Levels, not totals.
  uint32_t flows_dialing = 0;
  uint32_t flows_handshake = 0;
  uint32_t flows_open = 0;             // established, both or one direction open
  uint32_t flows_closing = 0;          // waiting for the relay's last word
  uint64_t buffer_bytes_to_host = 0;   // guest bytes held for host sockets
  uint64_t buffer_bytes_to_guest = 0;  // host bytes held for the guest
  uint32_t udp_peers = 0;              // of published UDP ports
  uint32_t udp_mappings = 0;           // sockets for the guest's UDP ports
  uint32_t echo_mappings = 0;          // sockets for the guest's echo identifiers
  uint32_t dns_streams = 0;            // connections of the guest's to DNS
  uint32_t dns_outstanding = 0;        // questions that wait for an upstream
  uint32_t fragments_held = 0;         // frames that wait for the rest of their datagram
  // 1: the host has a route of that family, or nobody follows them.
  uint32_t host_routes_ipv4 = 0;
  uint32_t host_routes_ipv6 = 0;
  // The configured flow limit, or what the process's descriptor limit leaves of it.
  uint32_t flow_count_max = 0;

  [[nodiscard]] uint64_t drops_of(DropCause cause) const {
    return drops[static_cast<size_t>(cause)];
  }
  [[nodiscard]] uint64_t drops_total() const;
};

struct Counters {
#define PENSTOCK_X(field, help) Counter field;
  PENSTOCK_COUNTERS(PENSTOCK_X)
#undef PENSTOCK_X
  std::array<Counter, kDropCauseCount> drops;
  Counter flows_dialing, flows_handshake, flows_open, flows_closing;
  Counter buffer_bytes_to_host, buffer_bytes_to_guest, fragments_held, flow_count_max;
  Counter udp_peers, udp_mappings, echo_mappings, dns_streams, dns_outstanding;
  Counter host_routes_ipv4, host_routes_ipv6;

  void Drop(DropCause cause, uint64_t frames = 1) noexcept {
    drops[static_cast<size_t>(cause)].Add(frames);
  }
  // Counts `frames` more frames as that one was which came since `before`: consumed, or
  // dropped by the same cause.
  void CountAgain(const CounterSnapshot& before, uint64_t frames) noexcept;
  // Any thread.
  [[nodiscard]] CounterSnapshot Snapshot() const;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_COUNTERS_H_
