#include "stack/policy/policy_target.h"

#include <algorithm>
#include <string>
#include <utility>

#include "publisher/ascii.h"
#include "publisher/text_fault.h"
#include "stack/policy/canonical_name.h"

namespace penstock {
namespace {

constexpr std::string_view kGroups =
    "the groups are @host, @metadata, @loopback, @private, @link-local, @multicast and @public";

constexpr std::array kNamedGroups{
    AddressGroup::kHost,    AddressGroup::kMetadata,  AddressGroup::kLoopback,
    AddressGroup::kPrivate, AddressGroup::kLinkLocal, AddressGroup::kMulticast,
    AddressGroup::kPublic,
};

bool IsNumber(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), IsDigit);
}

// Made of nothing but what an IPv6 address is made of, and two colons at least; perhaps with
// a zone.
bool LooksLikeIpv6(std::string_view text) {
  text = text.substr(0, text.find('%'));
  return std::count(text.begin(), text.end(), ':') >= 2 &&
         text.find_first_not_of("0123456789abcdefABCDEF:.") == std::string_view::npos;
}

// Digits, at most `max`, no zero in front.
std::optional<uint32_t> Number(std::string_view text, uint32_t max) {
  if (!IsNumber(text) || text.size() > 5 || (text.size() > 1 && text[0] == '0')) {
    return std::nullopt;
  }
  uint32_t number = 0;
  for (const char c : text) number = number * 10 + static_cast<uint32_t>(c - '0');
  return number <= max ? std::optional(number) : std::nullopt;
}

IpAddress Masked(IpAddress address, int prefix_length) {
  for (int byte = 0; byte < static_cast<int>(address.wire().size()); ++byte) {
    const int bits = std::clamp(prefix_length - 8 * byte, 0, 8);
    address.bytes[static_cast<size_t>(byte)] &= static_cast<uint8_t>(0xff00 >> bits);
  }
  return address;
}

std::optional<AddressGroup> GroupNamed(std::string_view name) {
  const auto found = std::find_if(kNamedGroups.begin(), kNamedGroups.end(),
                                  [name](AddressGroup group) { return Name(group) == name; });
  return found == kNamedGroups.end() ? std::nullopt : std::optional(*found);
}

// Parts of the text are views into it, so that each knows where it stands. What returns
// bool leaves a fault behind where it is false.
class TargetReader final {
 public:
  TargetReader(std::string_view text, TargetFault& fault) : text_(text), fault_(fault) {}

  [[nodiscard]] std::optional<PolicyTarget> Read() {
    const bool read =
        CheckCharacters() && Split() && ReadDestination() && ReadPorts() && ReadProtocols();
    return read ? std::optional(std::move(target_)) : std::nullopt;
  }

 private:
  // At the start of `part`, which may be empty.
  template <typename... Parts>
  bool Wrong(std::string_view part, const Parts&... sentence) {
    fault_ = {.column = static_cast<size_t>(part.data() - text_.data()),
              .sentence = Sentence(sentence...)};
    return false;
  }

  bool CheckCharacters();
  bool Split();
  bool SplitAfterBracket();
  bool SplitBareIpv6();
  void SplitAt(size_t end);
  bool ReadDestination();
  bool ReadGroup();
  bool ReadNetwork(std::string_view address, std::optional<std::string_view> length);
  bool ReadAddress(std::string_view text);
  bool ReadName();
  bool ReadPorts();
  std::optional<PortRange> ReadRange(std::string_view part);
  bool ReadProtocols();
  bool ReadProtocol(std::string_view part);

  const std::string_view text_;
  TargetFault& fault_;
  std::string_view destination_;
  bool in_brackets_ = false;
  std::optional<std::string_view> ports_, protocols_;
  PolicyTarget target_;
};

bool TargetReader::CheckCharacters() {
  if (text_.empty()) return Wrong(text_, "nothing is written here: write such as example.test:443");
  if (text_.size() > kPolicyLineBytesMax) {
    return Wrong(text_, "the text has ", std::to_string(text_.size()), " bytes: at most ",
                 std::to_string(kPolicyLineBytesMax), " are read");
  }
  const auto wrong =
      std::find_if(text_.begin(), text_.end(), [](char c) { return c <= ' ' || c > '~'; });
  if (wrong == text_.end()) return true;
  const std::string_view rest = text_.substr(static_cast<size_t>(wrong - text_.begin()));
  if (*wrong == ' ') return Wrong(rest, "there is a space: write everything in one word");
  return Wrong(rest,
               "there is a character that is not of printable ASCII: write a name with other "
               "letters in its xn-- form");
}

bool TargetReader::Split() {
  if (const size_t scheme = text_.find("://"); scheme != std::string_view::npos) {
    return Wrong(text_.substr(scheme), "a URL is no destination: write its host and port alone");
  }
  if (text_[0] == '[') return SplitAfterBracket();
  const size_t slash = text_.find('/');
  if (LooksLikeIpv6(text_.substr(0, slash))) return SplitBareIpv6();
  size_t end = std::min(text_.size(), text_.find_first_of(":/"));
  // Behind an address a number is the length of a prefix: no protocol begins with a digit.
  if (end == slash && end + 1 < text_.size() && IsDigit(text_[end + 1])) {
    end = std::min(text_.size(), text_.find_first_of(":/", end + 1));
  }
  SplitAt(end);
  return true;
}

bool TargetReader::SplitBareIpv6() {
  const size_t slash = text_.find('/');
  destination_ = text_;
  if (slash == std::string_view::npos || IsNumber(text_.substr(slash + 1))) return true;
  const bool has_length = slash + 1 < text_.size() && IsDigit(text_[slash + 1]);
  const size_t end =
      has_length ? std::min(text_.size(), text_.find_first_of(":/", slash + 1)) : slash;
  const std::string_view rest = text_.substr(end);
  return Wrong(rest, "behind an IPv6 address ports and protocols need brackets around it: write [",
               text_.substr(0, end), "]", rest);
}

bool TargetReader::SplitAfterBracket() {
  const size_t close = text_.find(']');
  if (close == std::string_view::npos) {
    return Wrong(text_, "the bracket is not closed: write such as [2001:db8::/32]:443");
  }
  const std::string_view rest = text_.substr(close + 1);
  if (!rest.empty() && rest[0] != ':' && rest[0] != '/') {
    return Wrong(rest,
                 "behind the bracket come ports or protocols: write such as "
                 "[2001:db8::/32]:443/tcp");
  }
  if (rest.size() > 1 && rest[0] == '/' && IsDigit(rest[1])) {
    return Wrong(rest, "the length of the prefix stands inside of the brackets: write such as [",
                 text_.substr(1, close - 1), "/64]");
  }
  SplitAt(close + 1);
  destination_ = text_.substr(1, close - 1);
  in_brackets_ = true;
  return true;
}

void TargetReader::SplitAt(size_t end) {
  destination_ = text_.substr(0, end);
  std::string_view rest = text_.substr(end);
  const size_t slash = rest.find('/');
  if (slash != std::string_view::npos) protocols_ = rest.substr(slash + 1);
  rest = rest.substr(0, slash);
  if (!rest.empty()) ports_ = rest.substr(1);
}

bool TargetReader::ReadDestination() {
  if (destination_.empty()) {
    return Wrong(destination_,
                 "the destination is missing: write such as any, @public, 192.0.2.0/24 or "
                 "example.test");
  }
  if (in_brackets_ && destination_.find(':') == std::string_view::npos) {
    return Wrong(destination_, "brackets are for IPv6 addresses: write ", destination_,
                 " without them");
  }
  if (destination_ == "any") return true;
  const size_t slash = destination_.find('/');
  if (destination_[0] == '@' && slash == std::string_view::npos) return ReadGroup();
  const std::string_view address = destination_.substr(0, slash);
  if (address.find(':') != std::string_view::npos || LooksLikeIpv4(address)) {
    return ReadNetwork(address, slash == std::string_view::npos
                                    ? std::nullopt
                                    : std::optional(destination_.substr(slash + 1)));
  }
  if (slash == std::string_view::npos) return ReadName();
  return Wrong(destination_.substr(slash),
               "only an address has the length of a prefix behind it: leave ",
               destination_.substr(slash), " out");
}

bool TargetReader::ReadGroup() {
  const std::optional<AddressGroup> group = GroupNamed(destination_.substr(1));
  if (!group) return Wrong(destination_, "there is no group \"", destination_, "\": ", kGroups);
  target_.kind = PolicyTarget::Kind::kGroup;
  target_.group = *group;
  return true;
}

bool TargetReader::ReadNetwork(std::string_view address, std::optional<std::string_view> length) {
  target_.kind = PolicyTarget::Kind::kNetwork;
  if (!ReadAddress(address)) return false;
  const int bits = target_.address.is_v4() ? 32 : 128;
  target_.prefix_length = bits;
  if (length) {
    const std::optional<uint32_t> number = Number(*length, static_cast<uint32_t>(bits));
    if (!number) {
      return Wrong(*length, "the length of the prefix is \"", *length, "\": it must be 0 to ",
                   std::to_string(bits), ", without a zero in front");
    }
    target_.prefix_length = static_cast<int>(*number);
  }
  const IpAddress masked = Masked(target_.address, target_.prefix_length);
  if (masked != target_.address) {
    return Wrong(destination_, "the address has bits behind its prefix: write ", masked.ToString(),
                 "/", *length, " for the network, or ", target_.address.ToString(),
                 " for the one address");
  }
  if (const IpAddress plain = masked.Unmapped(); plain != masked) {
    // No bit is set behind the prefix, so it holds the 96 bits that map an address.
    target_.address = plain;
    target_.prefix_length -= 96;
  }
  return true;
}

bool TargetReader::ReadAddress(std::string_view text) {
  const std::optional<IpAddress> address = IpAddress::Parse(text);
  if (address) {
    target_.address = *address;
    return true;
  }
  if (const size_t zone = text.find('%'); zone != std::string_view::npos) {
    return Wrong(text.substr(zone), "a rule's address has no zone: leave ", text.substr(zone),
                 " out");
  }
  if (text.find(':') != std::string_view::npos) {
    return Wrong(text, "\"", text, "\" is no IPv6 address: write such as 2001:db8::1");
  }
  return Wrong(text, "\"", text,
               "\" is no IPv4 address: write four numbers from 0 to 255, such as 192.0.2.1");
}

bool TargetReader::ReadName() {
  std::string_view name = destination_;
  if (name == "*" || name == "all") return Wrong(name, "everything is called any: write any");
  if (GroupNamed(name)) {
    return Wrong(name, "a group has an @ in front: write @", name, " (or ", name,
                 ". for a host of this name)");
  }
  const bool is_below = name.starts_with("*.");
  target_.kind = is_below ? PolicyTarget::Kind::kNameBelow : PolicyTarget::Kind::kName;
  if (is_below) name.remove_prefix(2);
  if (const size_t star = name.find('*'); star != std::string_view::npos) {
    return Wrong(name.substr(star),
                 "a * stands for whole labels in front: write such as *.example.test");
  }
  std::optional<std::string> canonical = CanonicalName(name);
  if (canonical) {
    target_.name = *std::move(canonical);
    return true;
  }
  const size_t odd =
      name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
  if (odd != std::string_view::npos) {
    return Wrong(name.substr(odd),
                 "a name holds letters, digits, hyphens, underscores and dots, "
                 "not \"",
                 name.substr(odd, 1), "\"");
  }
  return Wrong(name, "this is no name: it has 1 to ", std::to_string(kLabelBytesMax),
               " characters between two dots, and at most ", std::to_string(kNameBytesMax),
               " in all");
}

bool TargetReader::ReadPorts() {
  target_.protocols.fill(true);
  if (!ports_) return true;
  target_.protocols = {true, true, false};
  std::string_view rest = *ports_;
  for (;;) {
    const std::string_view part = rest.substr(0, rest.find(','));
    const std::optional<PortRange> range = ReadRange(part);
    if (!range) return false;
    if (target_.ports.size() == kPolicyPortRangesMax) {
      return Wrong(part, "a rule has at most ", std::to_string(kPolicyPortRangesMax),
                   " ranges of ports: divide it");
    }
    target_.ports.push_back(*range);
    if (part.size() == rest.size()) return true;
    rest.remove_prefix(part.size() + 1);
  }
}

std::optional<PortRange> TargetReader::ReadRange(std::string_view part) {
  const auto read = [this](std::string_view text) -> std::optional<uint16_t> {
    const std::optional<uint32_t> number = Number(text, 65'535);
    if (number && *number > 0) return static_cast<uint16_t>(*number);
    if (text.empty()) {
      Wrong(text, "a port is missing here: write a number such as 443");
    } else if (text.find(':') != std::string_view::npos) {
      Wrong(text.substr(text.find(':')),
            "this colon is too much: ports are parted by commas, such as 80,443");
    } else {
      Wrong(text, "the port is \"", text, "\": it must be 1 to 65535, without a zero in front");
    }
    return std::nullopt;
  };
  const size_t dash = part.find('-');
  const std::optional<uint16_t> first = read(part.substr(0, dash));
  if (!first) return std::nullopt;
  if (dash == std::string_view::npos) return PortRange{*first, *first};
  const std::optional<uint16_t> last = read(part.substr(dash + 1));
  if (!last) return std::nullopt;
  if (*first <= *last) return PortRange{*first, *last};
  Wrong(part, "the ports ", part, " go down: write ", part.substr(dash + 1), "-",
        part.substr(0, dash));
  return std::nullopt;
}

bool TargetReader::ReadProtocols() {
  if (!protocols_) return true;
  target_.protocols.fill(false);
  std::string_view rest = *protocols_;
  for (;;) {
    const std::string_view part = rest.substr(0, rest.find(','));
    if (!ReadProtocol(part)) return false;
    if (part.size() == rest.size()) return true;
    rest.remove_prefix(part.size() + 1);
  }
}

bool TargetReader::ReadProtocol(std::string_view part) {
  if (part.empty()) return Wrong(part, "a protocol is missing here: write tcp, udp or icmp");
  for (size_t i = 0; i < target_.protocols.size(); ++i) {
    const auto protocol = static_cast<PolicyProtocol>(i);
    if (part != Name(protocol)) continue;
    if (protocol == PolicyProtocol::kIcmp && ports_) {
      return Wrong(part, "icmp has no ports: give it a rule of its own, without ports");
    }
    target_.protocols[i] = true;
    return true;
  }
  if (part.find(':') != std::string_view::npos) {
    return Wrong(part, "protocols come last: write such as example.test:443/tcp");
  }
  return Wrong(part, "the protocol is \"", part, "\": it must be tcp, udp or icmp");
}

}  // namespace

std::optional<PolicyTarget> ReadTarget(std::string_view text, TargetFault& fault) {
  return TargetReader(text, fault).Read();
}

}  // namespace penstock
