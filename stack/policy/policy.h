// What a sandbox may reach, and who may reach it: ordered rules, the first that matches
// decides, with a default for each direction. A Policy is immutable and compiled; it is
// replaced whole. Its text form is described in stack/policy/README.md.
//
// A rule says: direction, allow or deny, a destination (any, network, group, name or the
// names below one), protocols and ports. For egress the destination is whom the guest
// speaks to and the port the one that it speaks to; for ingress the peer is the client on
// the host's side and the port the guest's own.
//
// Groups are disjoint, and an address is in the first of these that has it: host (the
// link's gateway addresses), metadata (169.254.169.254, fd00:ec2::254), loopback, private
// (RFC 1918, 100.64.0.0/10, fc00::/7), link-local, multicast, public. Unspecified
// addresses are in none. IPv4-mapped addresses are taken as the IPv4 address.
//
// Some destinations are shut to the guest unless a rule names them: metadata; and host, but
// for ICMP, or where PolicyContext::host_named says that something else named it. What
// names them is their group, an address or a network; "any", a network of length 0, a
// default and a name do not (who owns a name chooses its address). To a shut destination an
// allow that does not name it is as if it were not there; a deny denies.
//
// Names: a rule with a name matches an address only if a pin ties a matching name to it
// (name_pins.h). The name that a connection's first bytes show (PolicyQuestion::name) counts
// instead of the pinned ones, once it is known: then a rule with a name matches only if
// that name does, and an allow only if that very name is pinned to the address, too. A deny
// needs no pin.
//
// Cost: a decision does not grow with the number of rules (stack/policy/README.md says what
// it is made of). Any thread (immutable).
#ifndef PENSTOCK_STACK_POLICY_POLICY_H_
#define PENSTOCK_STACK_POLICY_POLICY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "relay/endpoint.h"
#include "relay/time.h"

namespace penstock {

class NamePins;

enum class Direction : uint8_t { kEgress, kIngress };
enum class PolicyProtocol : uint8_t { kTcp, kUdp, kIcmp };
enum class AddressGroup : uint8_t {
  kHost,
  kMetadata,
  kLoopback,
  kPrivate,
  kLinkLocal,
  kMulticast,
  kPublic,
  kNone,
};

// Two policies stand on top of each other, and both must allow: that of whoever runs the
// platform, and that of whoever runs the sandbox.
enum class PolicyLayer : uint8_t { kPlatform, kTenant };

[[nodiscard]] std::string_view Name(PolicyLayer layer);        // "tenant"
[[nodiscard]] std::string_view Name(Direction direction);      // "egress"
[[nodiscard]] std::string_view Name(PolicyProtocol protocol);  // "tcp"
[[nodiscard]] std::string_view Name(AddressGroup group);       // "link-local"

// What of the stack a decision depends on.
struct PolicyContext {
  // Group host.
  std::optional<IpAddress> gateway4, gateway6, gateway6_link_local;
  bool host_named = false;  // Config::host_loopback
};

// As above.
[[nodiscard]] AddressGroup GroupOf(const IpAddress& address, const PolicyContext& context);

struct PolicyQuestion {
  Direction direction = Direction::kEgress;
  PolicyProtocol protocol = PolicyProtocol::kTcp;
  IpAddress address;  // the destination, or the client
  uint16_t port = 0;  // of the destination, or the guest's own; 0 for ICMP
  // Shown by the first bytes; canonical: lower case, no last dot; empty: not known.
  std::string_view name;
  // The first bytes were looked at, or there are none to be looked at (UDP): `name` is
  // all that will be known. Else the answer may be kLook, of TCP egress.
  bool looked = false;
};

enum class Verdict : uint8_t {
  kAllow,
  kDeny,
  // TCP egress: may connect, but no byte of the guest may pass until its name was looked
  // for (shown_name.h) and the question asked again. Answered only where the name could
  // make a denial of what else is allowed.
  kLook,
};

struct PolicyRule {
  std::string text;   // as it was written, without comment, one space between its words
  uint32_t line = 0;  // in its text, from 1
};

struct Decision {
  Verdict verdict = Verdict::kDeny;
  // Which rule decided: of the default, and where something is shut unless named, nullptr.
  // kLook: the one that decides if no name is shown.
  std::shared_ptr<const PolicyRule> rule;
  AddressGroup group = AddressGroup::kNone;
};

class Policy final {
 public:
  // InvalidArgument with a sentence, line and column, the line and a caret under the place:
  //   policy:3:13: there is no group "@privat": the groups are @host, @metadata, …
  //     deny egress @privat
  //                 ^
  // `source` names the text in errors. Limits: policy_text.h.
  [[nodiscard]] static absl::StatusOr<std::shared_ptr<const Policy>> Parse(
      std::string_view text, std::string_view source = "policy");

  // "public": what is not private, loopback, metadata, link-local or multicast, and any
  // client of a published port. "none": nothing out; clients of published ports as before.
  // "all": anything. nullptr: there is no such profile.
  [[nodiscard]] static std::shared_ptr<const Policy> Profile(std::string_view name);
  // The text of a profile, with comments; empty: there is none.
  [[nodiscard]] static std::string_view ProfileText(std::string_view name);

  ~Policy();
  Policy(const Policy&) = delete;
  Policy& operator=(const Policy&) = delete;

  // `pins` as of `now`.
  [[nodiscard]] Decision Decide(const PolicyQuestion& question, const PolicyContext& context,
                                const NamePins& pins, Time now) const;

  // May anything be reached by the guest under this name, at this address or both? A rule
  // that is for some ports or protocols only says yes, but no no. Without an address (a
  // question of DNS), networks and groups other than public do not count: a name that
  // nobody has looked up is taken to be public. With both (an answer of DNS), it is as if
  // the name were pinned to the address. At least one is given.
  struct Reach {
    std::string_view name;  // canonical: lower case, no last dot; or empty
    std::optional<IpAddress> address;
  };
  [[nodiscard]] Decision MayReach(const Reach& reach, const PolicyContext& context) const;

  // For humans, one sentence: what Decide answers, by which rule, and why it is this one.
  [[nodiscard]] std::string Explain(const PolicyQuestion& question, const PolicyContext& context,
                                    const NamePins& pins, Time now) const;

  // The text that it was parsed from.
  [[nodiscard]] const std::string& text() const;
  [[nodiscard]] size_t rule_count() const;
  // True: some rule has a name, so pins and the first bytes of connections may matter.
  [[nodiscard]] bool has_names() const;

 private:
  struct Compiled;
  explicit Policy(std::unique_ptr<const Compiled> compiled);

  const std::unique_ptr<const Compiled> compiled_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_POLICY_POLICY_H_
