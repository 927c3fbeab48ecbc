#include "tools/penstock/denials.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "stack/dns/dns_policy.h"
#include "tools/penstock/endpoint_text.h"

namespace penstock::tool {
namespace {

std::string Text(std::string_view text) { return std::string(text); }

bool HasPlainName(const Event& event) { return IsPlainName(event.name.view()); }

// A question of DNS is about a name, whomever it was asked of: the outcomes have texts of
// their own (stack/dns/dns_policy.h).
bool IsOfName(const Event& event) {
  return event.reason == Name(DnsOutcome::kDenied) || event.reason == Name(DnsOutcome::kRebinding);
}

// What was denied: "tcp 10.1.2.3:5432 (db.test, private)".
std::string Subject(const Event& event) {
  const std::string protocol = Text(Name(event.protocol));
  if (IsOfName(event)) {
    std::string name =
        HasPlainName(event) ? "the name " + Text(event.name.view()) : std::string("a name");
    if (event.reason == Name(DnsOutcome::kDenied)) return name;
    return absl::StrCat(name, " at ", event.peer.address.ToString(), ", which is not public");
  }
  if (event.layer == EventLayer::kLink) {
    return absl::StrCat("what came from ", event.guest.address.ToString(), " (", Text(event.reason),
                        ")");
  }
  if (event.direction == Direction::kIngress) {
    return absl::StrCat(protocol, " client ", event.peer.ToString(), " (", Text(event.reason),
                        ") of ", event.guest.ToString());
  }
  const std::string name = HasPlainName(event) ? Text(event.name.view()) + ", " : "";
  return absl::StrCat(protocol, " ", EndpointText(event.peer, event.protocol), " (", name,
                      Text(event.reason), ")");
}

// The name that was shown would be allowed there, were it that address's: to allow it once
// more is of no use.
bool IsForged(const Event& event, const Policy* tenant) {
  return tenant != nullptr &&
         tenant->MayReach({.name = event.name.view(), .address = event.peer.address}, {}).verdict ==
             Verdict::kAllow;
}

// What --allow takes for it; empty: nothing that could be written.
std::string Target(const Event& event, const Policy* tenant) {
  if (HasPlainName(event) && (IsOfName(event) || !IsForged(event, tenant))) {
    return Text(event.name.view());
  }
  if (IsOfName(event)) return {};
  return absl::StrCat(EndpointText(event.peer, event.protocol), "/", Text(Name(event.protocol)));
}

}  // namespace

bool IsPlainName(std::string_view name) {
  return !name.empty() && name.front() != '-' && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
  });
}

std::optional<std::string> DenialTeller::Tell(const Event& event, const Policy* tenant) {
  if (event.kind != EventKind::kDenied) return std::nullopt;
  const Kind kind{event.protocol, event.direction, event.layer, event.reason};
  if (told_.contains(kind) || told_.size() == kDenialKindCountMax) {
    ++untold_;
    return std::nullopt;
  }
  told_.insert(kind);
  return absl::StrCat("denied ", Subject(event), Remedy(event, tenant));
}

std::string DenialTeller::Remedy(const Event& event, const Policy* tenant) const {
  const std::string rule = event.rule == nullptr ? "" : ": " + event.rule->text;
  switch (event.layer) {
    case EventLayer::kPlatform:
      return absl::StrCat(" by the platform's policy", rule);
    case EventLayer::kLink:
      return "; --guest-prefix NETWORK lets a network behind the sandbox send";
    case EventLayer::kAddress:
      return "; it never leaves the sandbox, whatever the policy";
    case EventLayer::kTenant:
    case EventLayer::kNone:
      break;
  }
  if (event.direction == Direction::kIngress) {
    return absl::StrCat(" by the policy", rule.empty() ? "'s default" : rule);
  }
  const std::string target = Target(event, tenant);
  if (target.empty()) return "";
  const bool by_option = event.rule != nullptr && event.rule->line <= option_lines_;
  if (!by_option) return absl::StrCat("; ", allow_option_, " ", target, " lets it through");
  return absl::StrCat(" by an option", rule, "; --allow ", target,
                      " in front of it lets it through");
}

}  // namespace penstock::tool
