#include "publisher/port_text.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "publisher/ascii.h"

namespace penstock {
namespace {

// No valid spec is longer than what may be read: place, host's and guest's range, each
// excluded range with its ",~", and the protocol.
constexpr size_t kRangeBytesMax = sizeof "65535-65535" - 1;
constexpr size_t kPlaceBytesMax =
    sizeof "[0000:0000:0000:0000:0000:0000:255.255.255.255%fifteen_letters]" - 1;
static_assert(kPlaceBytesMax + 2 + 2 * kRangeBytesMax + kExcludedCountMax * (2 + kRangeBytesMax) +
                  sizeof "/udp" - 1 <=
              kPortSpecBytesMax);

// Made of nothing but what ports are made of.
bool LooksLikePorts(std::string_view part) {
  return std::all_of(part.begin(), part.end(),
                     [](char c) { return IsDigit(c) || c == '-' || c == ',' || c == '~'; });
}

bool LooksLikePlace(std::string_view part) {
  return !part.empty() && (std::isalpha(static_cast<unsigned char>(part[0])) != 0 ||
                           part[0] == '_' || part.find_first_of(".*") != std::string_view::npos);
}

bool IsIpv6(std::string_view part) {
  const std::optional<IpAddress> address = IpAddress::Parse(part.substr(0, part.find('%')));
  return address && address->is_v6();
}

// Parts of the text are views into it, so that each knows where it stands.
class Reader final {
 public:
  Reader(std::string_view text, GuestPorts guest)
      : text_(text), guest_required_(guest == GuestPorts::kRequired) {}

  [[nodiscard]] absl::StatusOr<PortText> Read();

 private:
  [[nodiscard]] size_t ColumnOf(std::string_view part) const {
    return static_cast<size_t>(part.data() - text_.data());
  }
  // At the start of `part`, which may be empty.
  template <typename... Parts>
  [[nodiscard]] absl::Status Wrong(std::string_view part, const Parts&... sentence) const {
    return WrongText(text_, ColumnOf(part), Sentence(sentence...));
  }

  [[nodiscard]] absl::Status CheckCharacters() const;
  [[nodiscard]] absl::Status ReadProtocol();
  [[nodiscard]] absl::Status Split();
  [[nodiscard]] absl::Status SplitAfterBracket();
  [[nodiscard]] absl::Status SplitAtColons();
  [[nodiscard]] absl::Status TooManyColons() const;
  [[nodiscard]] absl::Status ReadPlace();
  [[nodiscard]] absl::Status ReadBracket(std::string_view inside);
  [[nodiscard]] absl::Status ReadIpv4();
  [[nodiscard]] absl::Status ReadHost();
  [[nodiscard]] absl::Status ReadGuest();
  [[nodiscard]] absl::Status GuestIsMissing() const;
  [[nodiscard]] absl::StatusOr<PortRange> ReadRange(std::string_view part,
                                                    std::string_view whose) const;
  [[nodiscard]] absl::StatusOr<uint16_t> ReadPort(std::string_view part,
                                                  std::string_view whose) const;

  const std::string_view text_;
  const bool guest_required_;
  std::string_view body_;  // without the protocol
  std::optional<std::string_view> place_;
  std::string_view host_;
  std::optional<std::string_view> guest_;
  PortText read_;
};

absl::StatusOr<PortText> Reader::Read() {
  if (absl::Status s = CheckCharacters(); !s.ok()) return s;
  body_ = text_.substr(0, text_.find('/'));
  if (absl::Status s = Split(); !s.ok()) return s;
  if (absl::Status s = ReadProtocol(); !s.ok()) return s;
  if (absl::Status s = ReadPlace(); !s.ok()) return s;
  if (absl::Status s = ReadHost(); !s.ok()) return s;
  if (absl::Status s = ReadGuest(); !s.ok()) return s;
  return std::move(read_);
}

absl::Status Reader::CheckCharacters() const {
  if (text_.empty()) return Wrong(text_, "nothing is written here: write such as 8080:80");
  if (text_.size() > kPortSpecBytesMax) {
    return absl::InvalidArgumentError(
        Sentence("the text has ", std::to_string(text_.size()), " characters: at most ",
                 std::to_string(kPortSpecBytesMax), " are read, publish the parts apart"));
  }
  const auto wrong = std::find_if_not(text_.begin(), text_.end(), IsPrintable);
  if (wrong == text_.end()) return absl::OkStatus();
  const std::string_view rest = text_.substr(static_cast<size_t>(wrong - text_.begin()));
  if (*wrong == ' ' || *wrong == '\t' || *wrong == '\n') {
    return Wrong(rest, "there is a space: write everything in one word, such as 8080:80/udp");
  }
  return Wrong(rest,
               "there is a character that is not of printable ASCII: write letters, digits "
               "and signs only");
}

absl::Status Reader::ReadProtocol() {
  if (body_.size() == text_.size()) return absl::OkStatus();
  const std::string_view name = text_.substr(body_.size() + 1);
  if (name == "tcp" || name == "udp") {
    read_.spec.protocol = name == "tcp" ? PortProtocol::kTcp : PortProtocol::kUdp;
    return absl::OkStatus();
  }
  if (name.empty()) return Wrong(name, "the protocol is missing: write /tcp or /udp, or no /");
  if (name.find(':') != std::string_view::npos) {
    return Wrong(name, "the protocol comes last: write such as 8080:80/udp");
  }
  return Wrong(name, "the protocol is \"", name, "\": it must be tcp or udp");
}

absl::Status Reader::Split() {
  if (body_.empty()) return Wrong(body_, "the ports are missing: write such as 8080:80/udp");
  return body_.starts_with('[') ? SplitAfterBracket() : SplitAtColons();
}

absl::Status Reader::SplitAfterBracket() {
  const size_t close = body_.find(']');
  if (close == std::string_view::npos) {
    return Wrong(body_, "the bracket is not closed: write such as [::1]:8080:80");
  }
  place_ = body_.substr(0, close + 1);
  std::string_view rest = body_.substr(close + 1);
  if (rest.empty()) return Wrong(rest, "the ports are missing: write such as [::1]:8080:80");
  if (rest[0] != ':') {
    return Wrong(rest, "after the bracket comes a colon: write such as [::1]:8080:80");
  }
  rest.remove_prefix(1);
  const size_t colon = rest.find(':');
  host_ = rest.substr(0, colon);
  if (colon == std::string_view::npos) return absl::OkStatus();
  guest_ = rest.substr(colon + 1);
  const size_t third = guest_->find(':');
  if (third == std::string_view::npos) return absl::OkStatus();
  return Wrong(guest_->substr(third),
               "this colon is too much: behind the address stand the host's and the guest's "
               "ports, such as [::1]:8080:80");
}

absl::Status Reader::SplitAtColons() {
  const auto colons = std::count(body_.begin(), body_.end(), ':');
  if (colons > 2 || IsIpv6(body_)) return TooManyColons();
  const size_t first = body_.find(':');
  const size_t last = body_.rfind(':');
  host_ = body_.substr(0, first);
  if (colons == 0) return absl::OkStatus();
  if (colons == 2) {
    place_ = host_;
    host_ = body_.substr(first + 1, last - first - 1);
    guest_ = body_.substr(last + 1);
    return absl::OkStatus();
  }
  // One colon: PLACE:HOST if it cannot be HOST:GUEST. Where that is a mistake anyway,
  // "80a:80" rather has a wrong port than an interface 80a.
  if (guest_required_ ? LooksLikePlace(host_) : !LooksLikePorts(host_)) {
    place_ = std::exchange(host_, body_.substr(first + 1));
  } else {
    guest_ = body_.substr(first + 1);
  }
  return absl::OkStatus();
}

absl::Status Reader::TooManyColons() const {
  const size_t last = body_.rfind(':');
  const size_t before = body_.rfind(':', last - 1);
  for (const size_t colon : {before, last}) {
    if (!IsIpv6(body_.substr(0, colon))) continue;
    return Wrong(body_, "an IPv6 address stands in brackets: write [", body_.substr(0, colon), "]",
                 text_.substr(colon));
  }
  if (IsIpv6(body_)) {
    return Wrong(body_, "an IPv6 address stands in brackets, and ports behind it: write [", body_,
                 "]:8080:80");
  }
  size_t third = body_.find(':');
  third = body_.find(':', body_.find(':', third + 1) + 1);
  return Wrong(body_.substr(third),
               "this colon is too much: write ADDRESS:HOSTPORTS:GUESTPORTS, and an IPv6 address in "
               "brackets");
}

absl::Status Reader::ReadPlace() {
  if (!place_) return absl::OkStatus();
  read_.has_place = true;
  read_.place_at = ColumnOf(*place_);
  BindPlace& place = read_.spec.place;
  if (place_->empty()) {
    return Wrong(*place_,
                 "the address is missing: leave its colon out, too, or write such as 0.0.0.0 or "
                 "* (every address)");
  }
  if (*place_ == "*") {
    place.kind = BindPlace::Kind::kEverywhere;
    return absl::OkStatus();
  }
  if (place_->starts_with('[')) return ReadBracket(place_->substr(1, place_->size() - 2));
  if (std::all_of(place_->begin(), place_->end(), [](char c) { return IsDigit(c) || c == '.'; })) {
    return ReadIpv4();
  }
  if (*place_ == "localhost") {
    return Wrong(*place_, "names are not looked up: write 127.0.0.1 or [::1]");
  }
  place.kind = BindPlace::Kind::kInterface;
  place.interface = *place_;
  return absl::OkStatus();
}

absl::Status Reader::ReadBracket(std::string_view inside) {
  const size_t percent = inside.find('%');
  const std::string_view digits = inside.substr(0, percent);
  const std::optional<IpAddress> address = IpAddress::Parse(digits);
  if (address && address->is_v4()) {
    return Wrong(digits, "an IPv4 address stands without brackets: write ", digits);
  }
  if (!address) {
    return Wrong(digits, "\"", digits, "\" is no IPv6 address: write such as [::1] or [fd00::7]");
  }
  read_.spec.place.address = *address;
  read_.zone_at = ColumnOf(inside) + digits.size();
  if (percent == std::string_view::npos) return absl::OkStatus();
  const std::string_view zone = inside.substr(percent + 1);
  if (zone.empty()) {
    return Wrong(zone, "the interface is missing behind the %: write such as [", digits, "%eth0]");
  }
  read_.spec.place.interface = zone;
  return absl::OkStatus();
}

absl::Status Reader::ReadIpv4() {
  if (const std::optional<IpAddress> address = IpAddress::Parse(*place_)) {
    read_.spec.place.address = *address;
    return absl::OkStatus();
  }
  // A zero in front makes a number octal for some programs and decimal for others.
  for (size_t at = 0; at + 1 < place_->size(); ++at) {
    const bool starts = at == 0 || (*place_)[at - 1] == '.';
    if (starts && (*place_)[at] == '0' && IsDigit((*place_)[at + 1])) {
      return Wrong(place_->substr(at),
                   "a number of the address has a zero in front: write it without");
    }
  }
  return Wrong(*place_, "\"", *place_,
               "\" is no IPv4 address: write four numbers from 0 to 255, such as 127.0.0.1");
}

absl::Status Reader::ReadHost() {
  read_.host_at = ColumnOf(host_);
  const size_t comma = host_.find(',');
  if (host_.starts_with('~')) {
    return Wrong(host_, "nothing is there yet to exclude from: write such as 8000-8010,~8003");
  }
  absl::StatusOr<PortRange> range = ReadRange(host_.substr(0, comma), "host's");
  if (!range.ok()) return range.status();
  read_.spec.host = *range;
  for (size_t at = comma; at != std::string_view::npos; at = host_.find(',', at + 1)) {
    const std::string_view rest = host_.substr(at + 1);
    const std::string_view item = rest.substr(0, rest.find(','));
    if (!item.starts_with('~')) {
      return Wrong(item,
                   "behind a comma stands what is excluded, such as ~8003: publish a second "
                   "range apart");
    }
    range = ReadRange(item.substr(1), "excluded");
    if (!range.ok()) return range.status();
    read_.excluded_at.push_back(ColumnOf(item));
    read_.spec.excluded.push_back(*range);
  }
  return absl::OkStatus();
}

absl::Status Reader::ReadGuest() {
  if (!guest_) {
    if (guest_required_) return GuestIsMissing();
    read_.guest_at = read_.host_at;
    read_.spec.guest = read_.spec.host;
    return absl::OkStatus();
  }
  read_.has_guest = true;
  read_.guest_at = ColumnOf(*guest_);
  if (const size_t comma = guest_->find_first_of(",~"); comma != std::string_view::npos) {
    return Wrong(guest_->substr(comma),
                 "the guest's ports have no exclusions: exclude the host's, and those that they "
                 "lead to stay out, too");
  }
  const absl::StatusOr<PortRange> range = ReadRange(*guest_, "guest's");
  if (!range.ok()) return range.status();
  read_.spec.guest = *range;
  return absl::OkStatus();
}

absl::Status Reader::GuestIsMissing() const {
  const PortRange& host = read_.spec.host;
  const std::string guest = host == PortRange{} ? "80" : ToString(host);
  return WrongText(text_, body_.size(),
                   Sentence("the guest's port is missing: write ", body_, ":", guest,
                            text_.substr(body_.size())));
}

absl::StatusOr<PortRange> Reader::ReadRange(std::string_view part, std::string_view whose) const {
  const size_t dash = part.find('-');
  const absl::StatusOr<uint16_t> first = ReadPort(part.substr(0, dash), whose);
  if (!first.ok()) return first.status();
  if (dash == std::string_view::npos) return PortRange{*first, *first};
  const absl::StatusOr<uint16_t> last = ReadPort(part.substr(dash + 1), whose);
  if (!last.ok()) return last.status();
  // {0, 0} means more than a range from 0 to 0.
  if (*first == 0) return Wrong(part, "a range cannot hold 0: start it at 1");
  return PortRange{*first, *last};
}

absl::StatusOr<uint16_t> Reader::ReadPort(std::string_view part, std::string_view whose) const {
  if (part.empty()) {
    return Wrong(part, "the ", whose, " port is missing here: write a number such as 8080");
  }
  const auto wrong = std::find_if_not(part.begin(), part.end(), IsDigit);
  if (wrong != part.end()) {
    return Wrong(part.substr(static_cast<size_t>(wrong - part.begin())), "the ", whose, " port \"",
                 part, "\" is no number: it must be 1 to 65535");
  }
  const std::string_view zeros = part.substr(0, part.find_first_not_of('0'));
  if (!zeros.empty() && part.size() > 1) {
    return Wrong(part, "the ", whose, " port ", part, " has a zero in front: write it without");
  }
  uint32_t number = 0;
  for (size_t i = 0; i < part.size() && number <= 65535; ++i) {
    number = number * 10 + static_cast<uint32_t>(part[i] - '0');
  }
  if (number > 65535) {
    return Wrong(part, "the ", whose, " port is ", part, ": it must be 1 to 65535");
  }
  return static_cast<uint16_t>(number);
}

size_t ColumnOf(const PortText& read, const PortFault& fault) {
  switch (fault.part) {
    case PortFault::Part::kPlace:
      return read.place_at;
    case PortFault::Part::kZone:
      return read.zone_at;
    case PortFault::Part::kHost:
      return read.host_at;
    case PortFault::Part::kGuest:
      return read.guest_at;
    case PortFault::Part::kExcluded:
      return read.excluded_at[fault.index];
  }
  return 0;
}

}  // namespace

absl::StatusOr<PortText> ReadPortText(std::string_view text, GuestPorts guest) {
  return Reader(text, guest).Read();
}

absl::Status WrongText(std::string_view text, const PortText& read, const PortFault& fault) {
  return WrongText(text, ColumnOf(read, fault) + fault.offset, fault.sentence);
}

std::string HostPortsToString(const PortRange& host, const std::vector<PortRange>& excluded) {
  std::string text = ToString(host);
  for (const PortRange& range : excluded) text += Sentence(",~", ToString(range));
  return text;
}

}  // namespace penstock
