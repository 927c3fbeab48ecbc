// RFC 9112 2.2 (lines), 3 (request line), 3.2 (target and Host), 5 (fields).
//
// A first line is HTTP if it begins like a method and a later word of it like a version,
// parted by what any server takes for white space. Whatever else is in it, or in the fields,
// has then to be exactly as the RFC says: a Host behind a folded line, a second one, one
// with a space before its colon are each seen by some servers and not by others.
//
// A header of the PROXY protocol, of either version, hides what follows from us and not from
// a server that takes it: unreadable, too.
#include "stack/policy/shown_http.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "publisher/ascii.h"
#include "relay/endpoint.h"
#include "stack/policy/canonical_name.h"

namespace penstock {
namespace {

using ShownKind = ShownName::Kind;

// Version 2 of the PROXY protocol begins with this, behind four bytes of empty lines.
constexpr std::string_view kProxyVersion2("\r\n\r\n\0\r\nQUIT\n", 12);

ShownName HttpShows(ShownKind kind, std::string name = {}) {
  return {.kind = kind, .protocol = ShownName::Protocol::kHttp, .name = std::move(name)};
}
ShownName Unreadable() { return HttpShows(ShownKind::kUnreadable); }
ShownName Other() { return {.kind = ShownKind::kNone}; }

bool IsAlphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}
// RFC 9110 5.6.2.
bool IsTokenCharacter(char c) {
  return IsAlphanumeric(c) ||
         (c != '\0' && std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos);
}
// RFC 9112 3 lets a recipient part the words of a request line by these.
bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\v' || c == '\f' || c == '\r'; }
bool IsControl(char c) { return (c >= 0 && c < ' ') || c == 127; }
bool EqualsIgnoringCase(std::string_view text, std::string_view lower) {
  return std::equal(text.begin(), text.end(), lower.begin(), lower.end(),
                    [](char a, char b) { return ToLower(a) == b; });
}

// The line at the front of `rest`, without its end, and `rest` behind it; nullopt if its end
// is not there. A line feed alone ends one, too (RFC 9112 2.2).
std::optional<std::string_view> TakeLine(std::string_view& rest) {
  const size_t end = rest.find('\n');
  if (end == std::string_view::npos) return std::nullopt;
  std::string_view line = rest.substr(0, end);
  rest.remove_prefix(end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

// The front of a first line: false if no request line begins like this.
bool MayBeRequest(std::string_view front) {
  const auto behind_method = std::find_if_not(front.begin(), front.end(), IsTokenCharacter);
  if (behind_method == front.end()) return true;
  return behind_method != front.begin() && IsSpace(*behind_method);
}

struct RequestLine {
  std::string_view method, target, version;
};

// Its words, at most four of them.
std::vector<std::string_view> WordsOf(std::string_view line) {
  std::vector<std::string_view> words;
  while (words.size() < 4) {
    const auto begin = std::find_if_not(line.begin(), line.end(), IsSpace);
    const auto end = std::find_if(begin, line.end(), IsSpace);
    if (begin == end) break;
    words.emplace_back(begin, end);
    line = std::string_view(end, line.end());
  }
  return words;
}

// Some server may take it for the line of a request.
bool LooksLikeRequest(std::string_view line) {
  for (size_t at = 1; at + 5 <= line.size(); ++at) {
    if (IsSpace(line[at - 1]) && EqualsIgnoringCase(line.substr(at, 5), "http/")) return true;
  }
  return false;
}

// nullopt unless it is "METHOD TARGET HTTP/1.x" to the letter.
std::optional<RequestLine> ReadRequestLine(std::string_view line) {
  const std::vector<std::string_view> words = WordsOf(line);
  if (words.size() != 3 || std::any_of(line.begin(), line.end(), IsControl)) return std::nullopt;
  // One space between two words, and nothing in front or behind.
  if (words[0].size() + words[1].size() + words[2].size() + 2 != line.size()) return std::nullopt;
  const bool is_version_1 = words[2].size() == 8 && words[2].starts_with("HTTP/1.") &&
                            words[2][7] >= '0' && words[2][7] <= '9';
  if (!is_version_1) return std::nullopt;
  return RequestLine{.method = words[0], .target = words[1], .version = words[2]};
}

// The host of `authority` = uri-host [":" port]; nullopt if it is none. Empty: it names
// nobody, as it is empty or an address.
std::optional<std::string> HostOf(std::string_view authority) {
  const size_t bracket = authority.starts_with('[') ? authority.find(']') : 0;
  if (bracket == std::string_view::npos) return std::nullopt;
  const size_t colon = authority.find(':', bracket);
  const std::string_view host = authority.substr(0, colon);
  if (colon != std::string_view::npos) {
    const std::string_view port = authority.substr(colon + 1);
    const bool is_port = port.size() <= 5 && port.find_first_not_of("0123456789") == port.npos;
    if (!is_port) return std::nullopt;
  }
  if (host.empty()) return std::string();
  if (bracket > 0) {
    if (host.size() != bracket + 1) return std::nullopt;
    const auto address = IpAddress::Parse(host.substr(1, bracket - 1));
    return address && address->is_v6() ? std::optional(std::string()) : std::nullopt;
  }
  if (IpAddress::Parse(host)) return std::string();
  std::optional<std::string> name = CanonicalName(host);
  // Other ways to write an address than the one above.
  if (name && LooksLikeIpv4(*name)) return std::nullopt;
  return name;
}

// The authority in the target, if it has one (RFC 9112 3.2.2, 3.2.3); false if the target
// is of no form.
bool ReadTarget(const RequestLine& request, std::optional<std::string_view>& authority) {
  const std::string_view target = request.target;
  if (target.starts_with('/') || target == "*") return true;
  if (request.method == "CONNECT") {
    authority = target;
    return !target.empty();
  }
  const size_t scheme_end = target.find("://");
  if (scheme_end == std::string_view::npos || scheme_end == 0) return false;
  const std::string_view behind = target.substr(scheme_end + 3);
  authority = behind.substr(0, behind.find_first_of("/?#"));
  return !authority->empty();
}

// The fields of a head, one line each; the values of Host.
class Fields final {
 public:
  // False: it is not as the RFC says.
  [[nodiscard]] bool Read(std::string_view line) {
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0) return false;
    const std::string_view name = line.substr(0, colon);
    // White space in front of the line folds it, behind the name some servers ignore.
    if (!std::all_of(name.begin(), name.end(), IsTokenCharacter)) return false;
    std::string_view value = line.substr(colon + 1);
    if (std::any_of(value.begin(), value.end(), [](char c) { return IsControl(c) && c != '\t'; })) {
      return false;
    }
    if (!EqualsIgnoringCase(name, "host")) return true;
    const auto is_blank = [](char c) { return c == ' ' || c == '\t'; };
    while (!value.empty() && is_blank(value.front())) value.remove_prefix(1);
    while (!value.empty() && is_blank(value.back())) value.remove_suffix(1);
    ++host_count_;
    host_ = value;
    return true;
  }
  [[nodiscard]] int host_count() const { return host_count_; }
  [[nodiscard]] std::string_view host() const { return host_; }

 private:
  int host_count_ = 0;
  std::string_view host_;
};

// What a whole head says. Target and Host have to agree where both name a host: the target
// takes precedence (RFC 9112 3.2.2), but not every server knows.
ShownName FromHead(const RequestLine& request, const Fields& fields) {
  std::optional<std::string_view> authority;
  if (!ReadTarget(request, authority)) return Unreadable();
  if (fields.host_count() > 1) return Unreadable();
  if (fields.host_count() == 0 && request.version != "HTTP/1.0") return Unreadable();
  std::optional<std::string> host;
  if (fields.host_count() == 1) {
    host = HostOf(fields.host());
    if (!host) return Unreadable();
  }
  if (authority) {
    std::optional<std::string> target_host = HostOf(*authority);
    if (!target_host || (host && *host != *target_host)) return Unreadable();
    host = std::move(target_host);
  }
  if (!host || host->empty()) return HttpShows(ShownKind::kNone);
  return HttpShows(ShownKind::kName, *std::move(host));
}

}  // namespace

ShownName ShownByHttp(std::span<const uint8_t> bytes) {
  std::string_view rest(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (rest.starts_with(kProxyVersion2)) return {.kind = ShownKind::kUnreadable};
  if (kProxyVersion2.starts_with(rest)) return {.kind = ShownKind::kNeedMore};
  // A server ignores empty lines in front (RFC 9112 2.2), and some of them more.
  const size_t blank_bytes = std::min(rest.size(), rest.find_first_not_of(" \t\v\f\r\n"));
  const bool is_empty_lines =
      rest.substr(0, blank_bytes).find_first_not_of("\r\n") == std::string_view::npos;
  rest.remove_prefix(blank_bytes);
  if (!MayBeRequest(rest.substr(0, rest.find('\n')))) return Other();
  const std::optional<std::string_view> line = TakeLine(rest);
  if (!line) return {.kind = ShownKind::kNeedMore};
  if (line->starts_with("PROXY ")) return {.kind = ShownKind::kUnreadable};
  if (!LooksLikeRequest(*line)) return Other();
  const std::optional<RequestLine> request = ReadRequestLine(*line);
  if (!request || !is_empty_lines) return Unreadable();
  Fields fields;
  for (;;) {
    const std::optional<std::string_view> field = TakeLine(rest);
    if (!field) return HttpShows(ShownKind::kNeedMore);
    if (field->empty()) return FromHead(*request, fields);
    if (!fields.Read(*field)) return Unreadable();
  }
}

}  // namespace penstock
