#include "publisher/port_selector.h"

#include <algorithm>
#include <utility>

#include "publisher/port_fault.h"
#include "publisher/port_text.h"

namespace penstock {
namespace {

bool Holds(const PortRange& range, uint16_t port) {
  return port >= range.first && port <= range.last;
}

bool IsUnspecified(const IpAddress& address) {
  return std::all_of(address.bytes.begin(), address.bytes.end(), [](uint8_t b) { return b == 0; });
}

bool IsAt(const BindPlace& place, const PublishedPort& port) {
  const bool of_interface = port.exposure == Exposure::kInterface;
  switch (place.kind) {
    case BindPlace::Kind::kAddress:
      return !of_interface && port.bound.address == place.address &&
             port.interface == place.interface;
    case BindPlace::Kind::kInterface:
      return of_interface && port.interface == place.interface;
    case BindPlace::Kind::kEverywhere:
      return !of_interface && IsUnspecified(port.bound.address);
  }
  return false;
}

}  // namespace

absl::StatusOr<PortSelector> ParsePortSelector(std::string_view text) {
  absl::StatusOr<PortText> read = ReadPortText(text, GuestPorts::kOptional);
  if (!read.ok()) return read.status();
  PortSpec& spec = read->spec;
  if (spec.host == PortRange{}) {
    return WrongText(text, read->host_at,
                     "the host's port is 0: write the one that the system chose, as the list of "
                     "published ports shows it");
  }
  if (const auto fault = FindFault(spec)) return WrongText(text, *read, *fault);
  PortSelector selector{.host = spec.host, .protocol = spec.protocol};
  selector.excluded = std::move(spec.excluded);
  if (read->has_place) selector.place = std::move(spec.place);
  if (read->has_guest) selector.guest = spec.guest;
  return selector;
}

std::string ToString(const PortSelector& selector) {
  std::string text;
  if (selector.place) text = Sentence(ToString(*selector.place), ":");
  text += HostPortsToString(selector.host, selector.excluded);
  if (selector.guest) text += Sentence(":", ToString(*selector.guest));
  return Sentence(text, "/", Name(selector.protocol));
}

bool Matches(const PortSelector& selector, const PublishedPort& port) {
  if (port.protocol != selector.protocol || !Holds(selector.host, port.bound.port)) return false;
  if (selector.place && !IsAt(*selector.place, port)) return false;
  if (std::any_of(selector.excluded.begin(), selector.excluded.end(),
                  [&](const PortRange& range) { return Holds(range, port.bound.port); })) {
    return false;
  }
  if (!selector.guest) return true;
  return port.guest.port - selector.guest->first == port.bound.port - selector.host.first;
}

}  // namespace penstock
