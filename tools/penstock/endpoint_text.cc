#include "tools/penstock/endpoint_text.h"

#include <charconv>
#include <system_error>

namespace penstock::tool {
namespace {

// 1 to 65535, digits only.
std::optional<uint16_t> ParsePort(std::string_view text) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port == 0) return std::nullopt;
  return port;
}

}  // namespace

std::optional<Endpoint> ParseEndpoint(std::string_view text, std::optional<uint16_t> default_port) {
  std::string_view address = text;
  std::optional<std::string_view> port;
  const bool bracketed = text.starts_with('[');
  const size_t bracket = text.find(']');
  if (bracketed) {
    if (bracket == std::string_view::npos) return std::nullopt;
    address = text.substr(1, bracket - 1);
    const std::string_view rest = text.substr(bracket + 1);
    if (!rest.empty() && !rest.starts_with(':')) return std::nullopt;
    if (!rest.empty()) port = rest.substr(1);
  } else if (const size_t colon = text.find(':'); colon == text.rfind(':')) {
    address = text.substr(0, colon);
    if (colon != std::string_view::npos) port = text.substr(colon + 1);
  }
  const std::optional<IpAddress> parsed = IpAddress::Parse(address);
  const std::optional<uint16_t> number = port ? ParsePort(*port) : default_port;
  if (!parsed || !number || (bracketed && parsed->is_v4())) return std::nullopt;
  return Endpoint{*parsed, *number};
}

std::string EndpointText(const Endpoint& endpoint, PolicyProtocol protocol) {
  return protocol == PolicyProtocol::kIcmp ? endpoint.address.ToString() : endpoint.ToString();
}

}  // namespace penstock::tool
