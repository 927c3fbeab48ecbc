// What a snapshot of the counters is called where it is told: the stable names of metrics, in
// `penstock run --stats-file` and through the C ABI. Any thread.
#ifndef PENSTOCK_STACK_METRICS_H_
#define PENSTOCK_STACK_METRICS_H_

#include <cstddef>
#include <cstdint>

#include "stack/counters.h"

namespace penstock {

// Calls visit(name, value, help) for everything that is counted but drops. Names are in static
// storage, and their order is always the same.
template <typename Visit>
void ForEachMetric(const CounterSnapshot& counters, Visit visit) {
#define PENSTOCK_X(field, help) visit(#field, counters.field, help);
  PENSTOCK_COUNTERS(PENSTOCK_X)
#undef PENSTOCK_X
  visit("flows_dialing", uint64_t{counters.flows_dialing}, "flows whose host is being dialled");
  visit("flows_handshake", uint64_t{counters.flows_handshake}, "flows in handshake");
  visit("flows_open", uint64_t{counters.flows_open}, "flows established");
  visit("flows_closing", uint64_t{counters.flows_closing}, "flows that are closing");
  visit("udp_peers", uint64_t{counters.udp_peers}, "peers of published UDP ports");
  visit("udp_mappings", uint64_t{counters.udp_mappings}, "sockets for the guest's UDP ports");
  visit("echo_mappings", uint64_t{counters.echo_mappings},
        "sockets for the guest's echo identifiers");
  visit("dns_streams", uint64_t{counters.dns_streams}, "connections of the guest's to DNS");
  visit("buffer_bytes_to_host", counters.buffer_bytes_to_host, "guest bytes held for host sockets");
  visit("buffer_bytes_to_guest", counters.buffer_bytes_to_guest, "host bytes held for the guest");
  visit("host_routes_ipv4", uint64_t{counters.host_routes_ipv4}, "1: the host has IPv4 routes");
  visit("host_routes_ipv6", uint64_t{counters.host_routes_ipv6}, "1: the host has IPv6 routes");
  visit("fragments_held", uint64_t{counters.fragments_held},
        "frames that wait for the rest of their datagram");
}

// Calls visit(name, value) for each cause of a drop: "drop_tcp_option".
template <typename Visit>
void ForEachDrop(const CounterSnapshot& counters, Visit visit) {
  size_t cause = 0;
#define PENSTOCK_X(enumerator, name) visit("drop_" name, counters.drops[cause++]);
  PENSTOCK_DROP_CAUSES(PENSTOCK_X)
#undef PENSTOCK_X
}

}  // namespace penstock

#endif  // PENSTOCK_STACK_METRICS_H_
