#include "publisher/port_spec.h"

#include "publisher/port_fault.h"
#include "publisher/port_text.h"

namespace penstock {

absl::StatusOr<PortSpec> ParsePortSpec(std::string_view text) {
  absl::StatusOr<PortText> read = ReadPortText(text, GuestPorts::kRequired);
  if (!read.ok()) return read.status();
  if (const auto fault = FindFault(read->spec)) return WrongText(text, *read, *fault);
  return std::move(read->spec);
}

std::string ToString(const PortSpec& spec) {
  return Sentence(ToString(spec.place), ":", HostPortsToString(spec.host, spec.excluded), ":",
                  ToString(spec.guest), "/", Name(spec.protocol));
}

std::string ToString(const PortRange& range) {
  const std::string first = std::to_string(range.first);
  return range.first == range.last ? first : Sentence(first, "-", std::to_string(range.last));
}

std::string ToString(const BindPlace& place) {
  switch (place.kind) {
    case BindPlace::Kind::kEverywhere:
      return "*";
    case BindPlace::Kind::kInterface:
      return place.interface;
    case BindPlace::Kind::kAddress:
      break;
  }
  std::string address = place.address.ToString();
  if (place.address.is_v4()) return address;
  const std::string_view percent = place.interface.empty() ? "" : "%";
  return Sentence("[", address, percent, place.interface, "]");
}

std::string_view Name(PortProtocol protocol) {
  return protocol == PortProtocol::kTcp ? "tcp" : "udp";
}

std::string_view Name(ClientIdentity identity) {
  switch (identity) {
    case ClientIdentity::kGateway:
      return "gateway";
    case ClientIdentity::kPreserveSource:
      return "preserve-source";
    case ClientIdentity::kProxyProtocol:
      return "proxy-protocol";
  }
  return "?";
}

std::optional<ClientIdentity> ClientIdentityNamed(std::string_view name) {
  for (const auto identity : {ClientIdentity::kGateway, ClientIdentity::kPreserveSource,
                              ClientIdentity::kProxyProtocol}) {
    if (name == Name(identity)) return identity;
  }
  return std::nullopt;
}

absl::Status Validate(const PortSpec& spec) {
  if (const auto fault = FindFault(spec)) return absl::InvalidArgumentError(fault->sentence);
  return absl::OkStatus();
}

}  // namespace penstock
