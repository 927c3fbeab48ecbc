#include "publisher/proxy_header.h"

#include <array>

#include "relay/check.h"

namespace penstock {

std::vector<uint8_t> ProxyHeader(PortProtocol protocol, const Endpoint& client,
                                 const Endpoint& host) {
  PENSTOCK_CHECK(client.address.family == host.address.family);
  constexpr std::array<uint8_t, 12> kSignature{0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                               0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
  constexpr uint8_t kVersion2Proxy = 0x21;
  const bool v4 = client.address.is_v4();
  const int family = v4 ? 0x10 : 0x20, transport = protocol == PortProtocol::kTcp ? 1 : 2;
  std::vector<uint8_t> header(kSignature.begin(), kSignature.end());
  const auto append16 = [&header](uint16_t value) {
    header.push_back(static_cast<uint8_t>(value >> 8));
    header.push_back(static_cast<uint8_t>(value));
  };
  header.push_back(kVersion2Proxy);
  header.push_back(static_cast<uint8_t>(family | transport));
  append16(v4 ? 12 : 36);  // bytes that follow
  for (const IpAddress* address : {&client.address, &host.address}) {
    header.insert(header.end(), address->wire().begin(), address->wire().end());
  }
  append16(client.port);
  append16(host.port);
  return header;
}

}  // namespace penstock
