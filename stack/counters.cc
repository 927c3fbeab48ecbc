#include "stack/counters.h"

namespace penstock {

std::string_view Name(DropCause cause) {
  static constexpr std::array<std::string_view, kDropCauseCount> kNames = {
#define PENSTOCK_X(enumerator, name) name,
      PENSTOCK_DROP_CAUSES(PENSTOCK_X)
#undef PENSTOCK_X
  };
  return kNames[static_cast<size_t>(cause)];
}

uint64_t CounterSnapshot::drops_total() const {
  uint64_t total = 0;
  for (uint64_t count : drops) total += count;
  return total;
}

void Counters::CountAgain(const CounterSnapshot& before, uint64_t frames) noexcept {
  frames_consumed.Add((frames_consumed.value() - before.frames_consumed) * frames);
  for (size_t i = 0; i < kDropCauseCount; ++i) {
    drops[i].Add((drops[i].value() - before.drops[i]) * frames);
  }
}

CounterSnapshot Counters::Snapshot() const {
  CounterSnapshot copy;
#define PENSTOCK_X(field, help) copy.field = field.value();
  PENSTOCK_COUNTERS(PENSTOCK_X)
#undef PENSTOCK_X
  for (size_t i = 0; i < kDropCauseCount; ++i) copy.drops[i] = drops[i].value();
  copy.flows_dialing = static_cast<uint32_t>(flows_dialing.value());
  copy.flows_handshake = static_cast<uint32_t>(flows_handshake.value());
  copy.flows_open = static_cast<uint32_t>(flows_open.value());
  copy.flows_closing = static_cast<uint32_t>(flows_closing.value());
  copy.buffer_bytes_to_host = buffer_bytes_to_host.value();
  copy.buffer_bytes_to_guest = buffer_bytes_to_guest.value();
  copy.udp_peers = static_cast<uint32_t>(udp_peers.value());
  copy.udp_mappings = static_cast<uint32_t>(udp_mappings.value());
  copy.echo_mappings = static_cast<uint32_t>(echo_mappings.value());
  copy.dns_streams = static_cast<uint32_t>(dns_streams.value());
  copy.dns_outstanding = static_cast<uint32_t>(dns_outstanding.value());
  copy.fragments_held = static_cast<uint32_t>(fragments_held.value());
  copy.host_routes_ipv4 = static_cast<uint32_t>(host_routes_ipv4.value());
  copy.host_routes_ipv6 = static_cast<uint32_t>(host_routes_ipv6.value());
  copy.flow_count_max = static_cast<uint32_t>(flow_count_max.value());
  return copy;
}

}  // namespace penstock
