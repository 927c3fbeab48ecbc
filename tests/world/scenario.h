// What happens in one run of the simulated world, as plain numbers: drawn from a seed,
// written and read as text, made smaller by the shrinker. The run adds nothing but what
// follows from these numbers.
//
//   seed 17
//   world form=1 mtu=1280 drop=20
//   flow at_ms=3 guest_bytes=70000 guest_end=1 guest_end_at=5000
//
// A field that is not named has its simplest value. X(field, simplest, largest, help).
#ifndef PENSTOCK_TESTS_WORLD_SCENARIO_H_
#define PENSTOCK_TESTS_WORLD_SCENARIO_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace penstock::world {

#define PENSTOCK_WORLD_FIELDS(X)                                                              \
  X(form, 0, 2, "0: one thread, 1: a relay thread, 2: one thread, busy")                      \
  X(mid_pass, 0, 1000, "per mille: the relay runs in the middle of a pass, at a link's call") \
  X(relay_lag, 0, 1000, "per mille: the relay's turn goes to somebody else")                  \
  X(stack_lag, 0, 1000, "per mille: a pass that is due has to wait")                          \
  X(mtu, 1500, 65520, "bytes")                                                                \
  X(path_mtu, 0, 65520, "larger packets to the guest come back as 'too big'; 0: none do")     \
  X(offload, 0, 1, "1: super-segments and partial checksums on the link, both ways")          \
  X(buffer_kib, 262144, 262144, "Config::buffer_bytes_max")                                   \
  X(flow_max, 16384, 16384, "Config::flow_count_max")                                         \
  X(half_open_max, 1024, 1024, "Config::half_open_count_max")                                 \
  X(guest_window_kib, 256, 256, "the guest's receive buffers")                                \
  X(delay_us, 0, 1000000, "of the link, each way")                                            \
  X(jitter_us, 0, 1000000, "more than that at most")                                          \
  X(drop, 0, 1000, "per mille of the frames, each way")                                       \
  X(segment_drop, 0, 1000, "per mille of the segments of super-segments to the guest")        \
  X(duplicate, 0, 1000, "per mille")                                                          \
  X(reorder, 0, 1000, "per mille")                                                            \
  X(corrupt, 0, 1000, "per mille: a byte is flipped")                                         \
  X(bad_until_ms, 0, 100000000, "the link is good afterwards; 0: always as it is")            \
  X(refuse, 0, 1000, "per mille of the link's Send calls that take fewer frames")             \
  X(pause_at_ms, 0, 1000000, "the guest stops, as a virtual machine that is paused")          \
  X(pause_ms, 0, 1000000, "for so long")                                                      \
  X(mac_unknown, 0, 1, "1: the stack has to learn the guest's MAC address")                   \
  X(unpublish_at_ms, 0, 100000000, "the published ports are removed; 0: never")               \
  X(unpublish_reset, 0, 1, "1: with their connections")                                       \
  X(strays, 0, 1000, "segments that no sane TCP would send, into live flows and without one") \
  X(stray_gap_us, 1000, 10000000, "between two of them")                                      \
  X(stray_fragments, 0, 1000, "per mille of them: IP fragments, hostile or of nothing")       \
  X(fragment, 0, 1000, "per mille: a segment of the guest's comes in IP fragments")           \
  X(cut_at_ms, 0, 100000000, "the stack is destroyed in the middle; 0: never")                \
  X(udp_ports, 0, 4, "published UDP ports")                                                   \
  X(udp_peers, 1, 100, "clients of each of them")                                             \
  X(udp_datagrams, 1, 100, "that each client sends")                                          \
  X(udp_bytes, 64, 65507, "of a datagram at most")                                            \
  X(udp_gap_us, 1000, 10000000, "between two of a client's at most")                          \
  X(udp_burst, 1, 500, "datagrams of a client at once")                                       \
  X(udp_answer_ms, 0, 300000, "the guest answers after so long at most")                      \
  X(udp_identity, 0, 2, "ClientIdentity")                                                     \
  X(udp_away, 0, 1, "1: the clients are not on the host's loopback")                          \
  X(udp_peer_max, 16384, 16384, "Config::udp_peer_count_max")                                 \
  X(udp_timeout_ms, 120000, 120000, "Config::udp_peer_timeout")                               \
  X(udp_errors, 0, 1000, "per mille of the calls of the relay's UDP sockets that fail")       \
  X(udp_full, 0, 1000, "per mille of the datagrams that leave their socket full for a while") \
  X(udp_batch, 64, 64, "datagrams that one call moves at most")                               \
  X(guest_asks, 0, 16, "UDP ports and echo identifiers of the guest's that ask hosts")        \
  X(guest_hosts, 1, 8, "that each of them asks")                                              \
  X(guest_questions, 1, 100, "times that each asks")                                          \
  X(guest_burst, 1, 200, "datagrams at once")                                                 \
  X(guest_bytes, 64, 60000, "of a datagram at most, either way")                              \
  X(guest_gap_us, 1000, 100000000, "between two questions of one at most")                    \
  X(guest_answer_ms, 0, 300000, "a host answers after so long at most")                       \
  X(guest_timeout_ms, 120000, 120000, "Config::udp_timeout; twice that after an answer")      \
  X(guest_mapping_max, 4096, 4096, "Config::udp_mapping_count_max, and of echo")              \
  X(guest_filtering, 0, 2, "UdpFiltering")                                                    \
  X(guest_faults, 0, 1000, "per mille of the questions that meet an ICMP error")              \
  X(guest_errors, 0, 1000, "per mille of the calls of the guest's sockets that fail")         \
  X(guest_no_socket, 0, 1000, "per mille: the system gives none")                             \
  X(guest_full, 0, 1000, "per mille of the datagrams that leave their socket full")           \
  X(guest_batch, 64, 64, "datagrams that one call moves at most")                             \
  X(guest_join, 1, 64, "datagrams that arrive as one at most")                                \
  X(dns_clients, 0, 200, "connections of the guest's to the name server")                     \
  X(dns_questions, 1, 1000, "that each asks at most")                                         \
  X(dns_burst, 1, 200, "of them at once at most")                                             \
  X(dns_gap_us, 1000, 100000000, "between two bursts of a connection's at most")              \
  X(dns_bytes, 64, 65535, "of a question or an answer at most")                               \
  X(dns_answer_ms, 0, 300000, "the service answers after so long at most")                    \
  X(dns_silent, 0, 1000, "per mille of the questions for which it has no answer")             \
  X(dns_rude, 0, 1000, "per mille of the connections that break off, or never finish")        \
  X(dns_buffer, 262144, 1000000, "bytes that wait at an end of a stream pair at most")        \
  X(dns_call, 0, 65536, "bytes that one call on such an end moves at most; 0: all")           \
  X(dns_no_pair, 0, 1000, "per mille: the system gives no pair")                              \
  X(policy, 0, 1, "1: a policy that denies ads.test looks at all that the guest opens")       \
  X(policy_at_ms, 0, 100000000, "another one cuts and denies the flows of deny_later; 0: no") \
  X(denial_answer, 0, 2, "DenialAnswer")                                                      \
  X(event_max, 0, 65536, "Config::event_count_max")                                           \
  X(jump_at_ms, 0, 100000000, "the clock jumps: all are suspended, guest and hosts, too")     \
  X(jump_ms, 0, 100000000, "by so much; 0: never")

// An inbound flow is opened by a client of a published port; its answers are the guest's
// (1 refuses, 3 silence) and the ingress hook's (4 denies). 5, of both: the policy denies it. Ends:
// 0 FIN after the last byte · 1 reset at end_at · 2 FIN only after the other side's (the guest's
// yields if both would) · 3 close(2) of both directions at end_at.
#define PENSTOCK_FLOW_FIELDS(X)                                                         \
  X(at_ms, 0, 100000000, "when the guest connects")                                     \
  X(ipv6, 0, 1, "")                                                                     \
  X(inbound, 0, 1, "1: opened by a client of a published port")                         \
  X(client_away, 0, 1, "1: the client is not on the host's loopback")                   \
  X(identity, 0, 2, "ClientIdentity: gateway, preserve source, PROXY header")           \
  X(accept_errors, 0, 100, "times that accept finds no descriptor first")               \
  X(answer, 0, 5, "0 accept, 1 refuse, 2 unreachable, 3 silence, 4 no descriptor left") \
  X(answer_ms, 0, 100000, "after so long")                                              \
  X(guest_bytes, 0, 100000000, "that the guest sends")                                  \
  X(guest_write, 65536, 65536, "bytes of one write")                                    \
  X(guest_write_ms, 0, 100000, "between two writes")                                    \
  X(guest_read, 65536, 65536, "bytes of one read")                                      \
  X(guest_read_ms, 0, 100000, "between two reads")                                      \
  X(guest_stall_at, 0, 100000000, "the guest stops reading at this byte")               \
  X(guest_stall_ms, 0, 1000000, "for so long")                                          \
  X(guest_end, 0, 3, "see above")                                                       \
  X(guest_end_at, 0, 100000000, "bytes sent, or received where that is more")           \
  X(host_bytes, 0, 100000000, "that the host sends")                                    \
  X(host_write, 65536, 65536, "bytes of one write")                                     \
  X(host_write_ms, 0, 100000, "between two writes")                                     \
  X(host_read, 65536, 65536, "bytes of one read")                                       \
  X(host_read_ms, 0, 100000, "between two reads")                                       \
  X(host_stall_at, 0, 100000000, "the host stops reading at this byte")                 \
  X(host_stall_ms, 0, 1000000, "for so long")                                           \
  X(host_end, 0, 3, "see above")                                                        \
  X(host_end_at, 0, 100000000, "bytes sent, or received where that is more")            \
  X(send_buffer, 262144, 1000000, "of the relay's socket")                              \
  X(short_write, 0, 65536, "bytes that one write of the relay's takes; 0: all")         \
  X(short_read, 0, 65536, "bytes that one read of the relay's gets; 0: all")            \
  X(interrupt_every, 0, 1000, "every so manieth system call is interrupted; 0: none")   \
  X(again, 0, 100, "rounds that follow, from the same port to the same port")           \
  X(again_ms, 0, 1000000, "between two rounds, beyond a second")                        \
  X(says, 0, 2, "the guest's first bytes: 0 noise, HTTP for 1 www.test, 2 ads.test")    \
  X(deny_later, 0, 1, "1: the policy that replaces the first one denies it")

struct FlowScript {
#define PENSTOCK_X(field, simplest, largest, help) int64_t field = simplest;
  PENSTOCK_FLOW_FIELDS(PENSTOCK_X)
#undef PENSTOCK_X

  friend bool operator==(const FlowScript&, const FlowScript&) = default;
};

struct Scenario {
  uint64_t seed = 1;  // of everything that the numbers leave open
#define PENSTOCK_X(field, simplest, largest, help) int64_t field = simplest;
  PENSTOCK_WORLD_FIELDS(PENSTOCK_X)
#undef PENSTOCK_X
  std::vector<FlowScript> flows;

  friend bool operator==(const Scenario&, const Scenario&) = default;
};

// One number of a scenario, for whoever treats them all alike.
struct FieldInfo {
  absl::string_view name;
  int64_t simplest;
  int64_t largest;
  absl::string_view help;
};
struct WorldField : FieldInfo {
  int64_t Scenario::*member;
};
struct FlowField : FieldInfo {
  int64_t FlowScript::*member;
};
[[nodiscard]] const std::vector<WorldField>& WorldFields();
[[nodiscard]] const std::vector<FlowField>& FlowFields();

[[nodiscard]] Scenario DrawScenario(uint64_t seed);

// How many bytes to host of one stream may not be what was written: bits that flip in two
// fragments of one segment may cancel in its checksum, once in thousands of segments.
[[nodiscard]] inline uint64_t SpoiltBytesMax(const Scenario& scenario) {
  return scenario.corrupt > 0 && scenario.fragment > 0 ? 4 : 0;
}

[[nodiscard]] std::string ToText(const Scenario& scenario);
// The form above; '#' begins a comment. InvalidArgument names line and word.
[[nodiscard]] absl::StatusOr<Scenario> ParseScenario(absl::string_view text);

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_SCENARIO_H_
