#include "tests/stack/policy/plain_policy.h"

#include <algorithm>

namespace penstock {
namespace {

using PlainKind = PlainRule::Kind;

bool IsIn(const IpAddress& address, const char* network, int prefix_length) {
  return InPrefix(address, *IpAddress::Parse(network), prefix_length);
}

bool HasProtocol(const PlainRule& rule, PolicyProtocol protocol) {
  return protocol == PolicyProtocol::kTcp   ? rule.tcp
         : protocol == PolicyProtocol::kUdp ? rule.udp
                                            : rule.icmp;
}

bool HasPort(const PlainRule& rule, uint16_t port) {
  return rule.ports.empty() || std::any_of(rule.ports.begin(), rule.ports.end(), [port](auto& r) {
           return r.first <= port && port <= r.second;
         });
}

bool IsName(const PlainRule& rule) {
  return rule.kind == PlainKind::kName || rule.kind == PlainKind::kNameBelow;
}

bool Means(const PlainRule& rule, std::string_view name) {
  if (rule.kind == PlainKind::kName) return rule.name == name;
  return name.size() > rule.name.size() + 1 && name.ends_with("." + rule.name);
}

bool HasAddress(const PlainRule& rule, const IpAddress& address, AddressGroup group) {
  if (rule.kind == PlainKind::kAny) return true;
  if (rule.kind == PlainKind::kGroup) return rule.group == group;
  return InPrefix(address, rule.address, rule.prefix_length);
}

// Group, address or network.
bool NamesIt(const PlainRule& rule) {
  return rule.kind == PlainKind::kGroup ||
         (rule.kind == PlainKind::kNetwork && rule.prefix_length > 0);
}

bool IsShut(Direction direction, PolicyProtocol protocol, AddressGroup group,
            const PolicyContext& context) {
  if (direction == Direction::kIngress) return false;
  if (group == AddressGroup::kMetadata) return true;
  return group == AddressGroup::kHost && protocol != PolicyProtocol::kIcmp && !context.host_named;
}

bool IsWhole(const PlainRule& rule) {
  return rule.ports.empty() && rule.tcp && rule.udp && rule.icmp;
}

}  // namespace

AddressGroup PlainGroup(const IpAddress& given, const PolicyContext& context) {
  const IpAddress address = given.Unmapped();
  if (address.ToString() == "0.0.0.0" || address.ToString() == "::") return AddressGroup::kNone;
  for (const auto& gateway : {context.gateway4, context.gateway6, context.gateway6_link_local}) {
    if (address == gateway) return AddressGroup::kHost;
  }
  if (IsIn(address, "169.254.169.254", 32) || IsIn(address, "fd00:ec2::254", 128)) {
    return AddressGroup::kMetadata;
  }
  if (IsIn(address, "127.0.0.0", 8) || IsIn(address, "::1", 128)) return AddressGroup::kLoopback;
  if (IsIn(address, "10.0.0.0", 8) || IsIn(address, "172.16.0.0", 12) ||
      IsIn(address, "192.168.0.0", 16) || IsIn(address, "100.64.0.0", 10) ||
      IsIn(address, "fc00::", 7)) {
    return AddressGroup::kPrivate;
  }
  if (IsIn(address, "169.254.0.0", 16) || IsIn(address, "fe80::", 10)) {
    return AddressGroup::kLinkLocal;
  }
  if (IsIn(address, "224.0.0.0", 4) || IsIn(address, "ff00::", 8)) return AddressGroup::kMulticast;
  return AddressGroup::kPublic;
}

std::string PlainRule::ToString() const {
  std::string text = allow ? "allow " : "deny ";
  text += std::string(penstock::Name(direction)) + " ";
  const bool has_more = !ports.empty() || !tcp || !udp || !icmp;
  switch (kind) {
    case PlainKind::kAny:
      text += "any";
      break;
    case PlainKind::kGroup:
      text += "@" + std::string(penstock::Name(group));
      break;
    case PlainKind::kNetwork: {
      const std::string network = address.ToString() + "/" + std::to_string(prefix_length);
      text += address.is_v6() && has_more ? "[" + network + "]" : network;
      break;
    }
    case PlainKind::kNameBelow:
      text += "*.";
      [[fallthrough]];
    case PlainKind::kName:
      text += name;
      break;
  }
  for (size_t i = 0; i < ports.size(); ++i) {
    const auto [first, last] = ports[i];
    text += (i == 0 ? ":" : ",") + std::to_string(first);
    if (last != first) text += "-" + std::to_string(last);
  }
  if (!has_more || (!ports.empty() && tcp && udp)) return text;
  std::string protocols;
  if (tcp) protocols += ",tcp";
  if (udp) protocols += ",udp";
  if (icmp) protocols += ",icmp";
  return text + "/" + protocols.substr(1);
}

std::string PlainPolicy::ToString() const {
  std::string text;
  for (const PlainRule& rule : rules) text += rule.ToString() + "\n";
  text += std::string("default egress ") + (allow_egress ? "allow" : "deny") + "\n";
  return text + "default ingress " + (allow_ingress ? "allow" : "deny") + "\n";
}

PlainPolicy::Answer PlainPolicy::Decide(const PolicyQuestion& question,
                                        const PolicyContext& context,
                                        const std::vector<PlainPin>& pins, Time now) const {
  const IpAddress address = question.address.Unmapped();
  const AddressGroup group = PlainGroup(address, context);
  const bool is_shut = IsShut(question.direction, question.protocol, group, context);
  const auto is_pinned = [&](auto&& means) {
    return std::any_of(pins.begin(), pins.end(), [&](const PlainPin& pin) {
      return pin.address.Unmapped() == address && pin.end > now && means(pin.name);
    });
  };
  // `worst`: the name is one that every deny means, and no pin.
  const auto matches = [&](const PlainRule& rule, bool worst) {
    if (rule.direction != question.direction) return false;
    if (!HasProtocol(rule, question.protocol) || !HasPort(rule, question.port)) return false;
    if (is_shut && rule.allow && !NamesIt(rule)) return false;
    if (!IsName(rule)) return HasAddress(rule, address, group);
    if (worst) return !rule.allow;
    if (question.name.empty()) {
      return is_pinned([&](const std::string& name) { return Means(rule, name); });
    }
    if (!Means(rule, question.name)) return false;
    return !rule.allow || is_pinned([&](const std::string& name) { return name == question.name; });
  };
  const auto decide = [&](bool worst) {
    for (size_t i = 0; i < rules.size(); ++i) {
      if (!matches(rules[i], worst)) continue;
      return Answer{rules[i].allow ? Verdict::kAllow : Verdict::kDeny, static_cast<int>(i) + 1};
    }
    const bool by_default = question.direction == Direction::kEgress ? allow_egress : allow_ingress;
    return Answer{by_default && !is_shut ? Verdict::kAllow : Verdict::kDeny, 0};
  };
  Answer answer = decide(false);
  const bool may_look = question.direction == Direction::kEgress &&
                        question.protocol == PolicyProtocol::kTcp && !question.looked &&
                        question.name.empty();
  if (may_look && answer.verdict == Verdict::kAllow && decide(true).verdict == Verdict::kDeny) {
    answer.verdict = Verdict::kLook;
  }
  return answer;
}

PlainPolicy::Answer PlainPolicy::MayReach(const Policy::Reach& reach,
                                          const PolicyContext& context) const {
  const IpAddress address = reach.address.value_or(IpAddress()).Unmapped();
  const AddressGroup group = reach.address ? PlainGroup(address, context) : AddressGroup::kPublic;
  // Whatever a protocol may reach may be reached.
  bool is_shut = true, host_by_icmp = false;
  is_shut = IsShut(Direction::kEgress, PolicyProtocol::kTcp, group, context);
  host_by_icmp = is_shut && !IsShut(Direction::kEgress, PolicyProtocol::kIcmp, group, context);
  const auto matches = [&](const PlainRule& rule) {
    if (rule.direction != Direction::kEgress || (!rule.allow && !IsWhole(rule))) return false;
    if (is_shut && rule.allow && !NamesIt(rule) && !(host_by_icmp && rule.icmp)) return false;
    if (IsName(rule)) return Means(rule, reach.name);
    if (reach.address) return HasAddress(rule, address, group);
    if (rule.kind == PlainKind::kNetwork) return rule.allow && rule.prefix_length == 0;
    return rule.kind == PlainKind::kAny || rule.group == AddressGroup::kPublic;
  };
  for (size_t i = 0; i < rules.size(); ++i) {
    if (!matches(rules[i])) continue;
    return {rules[i].allow ? Verdict::kAllow : Verdict::kDeny, static_cast<int>(i) + 1};
  }
  const bool allow = allow_egress && (!is_shut || host_by_icmp);
  return {allow ? Verdict::kAllow : Verdict::kDeny, 0};
}

}  // namespace penstock
