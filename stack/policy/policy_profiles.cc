// The policies that have a name.
#include <array>

#include "relay/check.h"
#include "stack/policy/policy.h"

namespace penstock {
namespace {

struct NamedText {
  std::string_view name;
  std::string_view text;
};

// Nothing here names the host or the metadata service: both are shut in all of them.
constexpr std::array<NamedText, 3> kProfiles{{
    {"public", R"(# The internet, and nothing that is near. The host's own services and the cloud's
# metadata are shut in every policy that does not name them.
deny egress @private
deny egress @loopback
deny egress @metadata
deny egress @link-local
deny egress @multicast
default egress allow
# Whoever can connect to a published port.
default ingress allow
)"},
    {"none", R"(# Nothing out, DNS included.
default egress deny
# Whoever can connect to a published port.
default ingress allow
)"},
    {"all", R"(# Anything. The host's own services and the cloud's metadata are shut in every policy
# that does not name them.
default egress allow
default ingress allow
)"},
}};

std::shared_ptr<const Policy> Parsed(const NamedText& profile) {
  auto policy = Policy::Parse(profile.text, profile.name);
  PENSTOCK_CHECK(policy.ok());
  return *std::move(policy);
}

}  // namespace

std::shared_ptr<const Policy> Policy::Profile(std::string_view name) {
  static const std::array parsed{Parsed(kProfiles[0]), Parsed(kProfiles[1]), Parsed(kProfiles[2])};
  for (size_t i = 0; i < kProfiles.size(); ++i) {
    if (kProfiles[i].name == name) return parsed[i];
  }
  return nullptr;
}

std::string_view Policy::ProfileText(std::string_view name) {
  for (const NamedText& profile : kProfiles) {
    if (profile.name == name) return profile.text;
  }
  return {};
}

}  // namespace penstock
