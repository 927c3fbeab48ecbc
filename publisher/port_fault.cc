#include "publisher/port_fault.h"

#include <algorithm>
#include <cctype>
#include <utility>
#include <vector>

#include "publisher/ascii.h"

namespace penstock {
namespace {

using Part = PortFault::Part;
using Found = std::optional<PortFault>;

// IFNAMSIZ without the zero at the end.
constexpr size_t kInterfaceNameBytesMax = 15;

Found At(Part part, std::string sentence, size_t offset = 0) {
  return PortFault{.part = part, .offset = offset, .sentence = std::move(sentence)};
}

// The kernel takes more (any byte but a space, '/' and ':'); what is refused beside
// those could not be told from an address or ports, or would upset a terminal.
Found InterfaceFault(const std::string& name, Part part) {
  const std::string named = Sentence("the interface \"", name, "\"");
  if (name.empty()) return At(part, "the interface's name is empty");
  const auto wrong = std::find_if(name.begin(), name.end(), [](char c) {
    return !IsPrintable(c) || std::string_view("/:%*[]").find(c) != std::string_view::npos;
  });
  const auto offset = static_cast<size_t>(wrong - name.begin());
  if (wrong != name.end() && !IsPrintable(*wrong)) {
    return At(part, "an interface's name must be of printable ASCII characters", offset);
  }
  if (wrong != name.end()) {
    return At(part, Sentence(named, " cannot be: its name holds no / : % * [ ]"), offset);
  }
  if (name.size() > kInterfaceNameBytesMax) {
    return At(part, Sentence(named, " cannot be: a name has at most 15 characters"),
              kInterfaceNameBytesMax);
  }
  const bool has_letter =
      std::any_of(name.begin(), name.end(), [](unsigned char c) { return std::isalpha(c) != 0; });
  if (!has_letter) {
    return At(part, Sentence("\"", name,
                             "\" is neither an address nor an interface: write such as 127.0.0.1, "
                             "[::1], eth0 or *"));
  }
  return std::nullopt;
}

bool IsLinkLocal(const IpAddress& address) {
  return address.is_v6() && address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0) == 0x80;
}

Found PlaceFault(const BindPlace& place) {
  if (place.kind == BindPlace::Kind::kEverywhere) return std::nullopt;
  if (place.kind == BindPlace::Kind::kInterface) {
    return InterfaceFault(place.interface, Part::kPlace);
  }
  const std::string address = place.address.ToString();
  if (place.address.Unmapped() != place.address) {
    return At(Part::kPlace, Sentence("[", address, "] is an IPv4 address in another form: write ",
                                     place.address.Unmapped().ToString()));
  }
  if (IsLinkLocal(place.address)) {
    if (!place.interface.empty()) {
      Found fault = InterfaceFault(place.interface, Part::kZone);
      if (fault) ++fault->offset;  // the "%"
      return fault;
    }
    return At(Part::kZone, Sentence("the link-local address ", address,
                                    " needs its interface: write such as [", address, "%eth0]"));
  }
  if (place.interface.empty()) return std::nullopt;
  const std::string plain = place.address.is_v6() ? Sentence("[", address, "]") : address;
  return At(Part::kZone, Sentence("only a link-local address (fe80::/10) has an interface behind "
                                  "a %: write ",
                                  plain, ", or only ", place.interface));
}

Found RangeFault(const PortRange& range, Part part, std::string_view whose) {
  if (range.first <= range.last) return std::nullopt;
  return At(part, Sentence("the ", whose, " ports ", ToString(range), " go down: write ",
                           ToString(PortRange{range.last, range.first})));
}

// What follows `range` so that it has `count` ports; nothing if there are no such.
std::optional<PortRange> Stretched(const PortRange& range, uint32_t count) {
  if (range.first + count - 1 > 65535) return std::nullopt;
  return PortRange{range.first, static_cast<uint16_t>(range.first + count - 1)};
}

std::string Count(uint32_t count, std::string_view whose) {
  return Sentence(std::to_string(count), " ", whose, count == 1 ? " port" : " ports");
}

Found CountFault(const PortRange& host, const PortRange& guest) {
  if (host.count() == guest.count()) return std::nullopt;
  const bool host_is_longer = host.count() > guest.count();
  const std::optional<PortRange> other_host =
      host_is_longer ? host : Stretched(host, guest.count());
  const std::optional<PortRange> other_guest =
      host_is_longer ? Stretched(guest, host.count()) : guest;
  std::string sentence = Sentence(Count(host.count(), "host"), " cannot lead to ",
                                  Count(guest.count(), "guest"), ": write as many of both");
  if (other_host && other_guest) {
    sentence += Sentence(", such as ", ToString(*other_host), ":", ToString(*other_guest));
  }
  return At(Part::kGuest, sentence);
}

Found OneExcludedFault(const PortRange& host, const PortRange& range) {
  if (Found fault = RangeFault(range, Part::kExcluded, "excluded")) return fault;
  if (range.first >= host.first && range.last <= host.last) return std::nullopt;
  return At(Part::kExcluded, Sentence("the excluded ~", ToString(range), " is not within ",
                                      ToString(host), ": leave it out, or write what is within"));
}

bool ExcludesAll(const PortRange& host, std::vector<PortRange> excluded) {
  std::sort(excluded.begin(), excluded.end(),
            [](const PortRange& a, const PortRange& b) { return a.first < b.first; });
  uint32_t next = host.first;  // the lowest port that may be left
  for (const PortRange& range : excluded) {
    if (range.first > next) return false;
    next = std::max(next, uint32_t{range.last} + 1);
  }
  return next > host.last;
}

Found ExcludedFault(const PortSpec& spec) {
  const auto of = [](Found fault, size_t index) {
    fault->index = index;
    return fault;
  };
  for (size_t i = 0; i < spec.excluded.size(); ++i) {
    if (i == kExcludedCountMax) {
      return of(At(Part::kExcluded, "a spec excludes at most 64 times: publish the parts apart"),
                i);
    }
    if (spec.host == PortRange{}) {
      return of(At(Part::kExcluded,
                   "nothing can be excluded from ports that the system chooses: leave the ~ out"),
                i);
    }
    if (Found fault = OneExcludedFault(spec.host, spec.excluded[i])) return of(fault, i);
  }
  if (spec.excluded.empty() || !ExcludesAll(spec.host, spec.excluded)) return std::nullopt;
  return of(At(Part::kExcluded,
               Sentence("every port of ", ToString(spec.host), " is excluded: leave one of them")),
            spec.excluded.size() - 1);
}

}  // namespace

std::optional<PortFault> FindFault(const PortSpec& spec) {
  if (Found fault = PlaceFault(spec.place)) return fault;
  if (Found fault = RangeFault(spec.host, Part::kHost, "host's")) return fault;
  const bool chosen = spec.host == PortRange{};
  if (spec.host.first == 0 && !chosen) {
    return At(Part::kHost,
              "a range of host ports cannot hold 0: write 0 alone to have them chosen, or start "
              "at 1");
  }
  if (spec.guest.first == 0) {
    return At(Part::kGuest, "the guest's port is 0: it must be 1 to 65535");
  }
  if (Found fault = RangeFault(spec.guest, Part::kGuest, "guest's")) return fault;
  if (Found fault = ExcludedFault(spec)) return fault;
  return chosen ? std::nullopt : CountFault(spec.host, spec.guest);
}

}  // namespace penstock
