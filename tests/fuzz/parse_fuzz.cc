// The frame parser and what acts on its packets at once (option defusing, path-MTU
// reports, the gateway), fed with any bytes. The first eight bytes of the input choose
// what the link says of the frame and how the parser is configured, the rest is the
// frame, in a buffer of exactly its size.
#include <cstdint>
#include <cstdlib>
#include <span>
#include <variant>
#include <vector>

#include "stack/service/gateway.h"
#include "stack/wire/icmp.h"
#include "stack/wire/packet.h"

namespace {

using namespace penstock;

constexpr size_t kChoiceBytes = 8;

bool Inside(std::span<const uint8_t> part, std::span<const uint8_t> whole) {
  return part.empty() ||
         (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

ParseOptions OptionsFor(uint8_t choice, const Config& config) {
  return {.ethernet = (choice & 1) == 0,
          .gateway_mac = config.gateway_mac,
          .mtu = (choice & 2) != 0 ? 65'521u : 1'500u,
          .unsegmented_tcp_to_host = (choice & 4) != 0,
          .ipv4 = config.ipv4,
          .ipv6 = config.ipv6};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < kChoiceBytes || size - kChoiceBytes > kFrameBytesMax) return 0;
  static const Config config;
  static const Gateway gateway(config);
  const ParseOptions options = OptionsFor(data[0], config);
  std::vector<uint8_t> bytes(data + kChoiceBytes, data + size);
  FrameToHost frame{.room = bytes, .length = static_cast<uint32_t>(bytes.size())};
  frame.offload = {.checksum = static_cast<ChecksumState>(data[1] % 3),
                   .gso = static_cast<Gso>(data[2] % 4),
                   .checksum_start = data[3],
                   .checksum_offset = data[4],
                   .segment_bytes = static_cast<uint16_t>(data[5] << 4),
                   .header_bytes = data[6]};
  auto parsed = Parse(frame, options);
  auto* packet = std::get_if<Packet>(&parsed);
  if (packet == nullptr) return 0;
  for (const auto part : {packet->ip, packet->transport, packet->payload}) {
    if (!Inside(part, bytes)) std::abort();
  }
  if (packet->protocol == Protocol::kTcp) {
    DefuseTcpOptions(packet->transport.first(packet->tcp.header_bytes));
    return 0;
  }
  if (packet->protocol == Protocol::kUdp) return 0;
  (void)ParsePathMtu(*packet);
  std::vector<uint8_t> answer(kFrameBytesMax);
  (void)gateway.Handle(*packet, {.ethernet = options.ethernet}, answer);
  return 0;
}
