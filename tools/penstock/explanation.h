// What a policy says to a question and why, for `penstock policy explain` and the order
// behind it. Any thread; the engine's own rules apply.
#ifndef PENSTOCK_TOOLS_PENSTOCK_EXPLANATION_H_
#define PENSTOCK_TOOLS_PENSTOCK_EXPLANATION_H_

#include <memory>
#include <string>
#include <string_view>

#include "relay/endpoint.h"
#include "stack/policy/policy.h"

namespace penstock::tool {

struct Explanation {
  Decision decision;
  std::string text;  // lines for humans
};

// "allow", "deny", "look": that depends on the name that the first bytes show.
[[nodiscard]] std::string_view Name(Verdict verdict);

// What `policy` alone would say in a sandbox with the addresses of penstock's own default,
// whose host is not named. If the question has a name, as if that had been answered for the
// address.
[[nodiscard]] Explanation ExplainAlone(const std::shared_ptr<const Policy>& policy,
                                       const PolicyQuestion& question);

// The question in its own words. Without a name it is one that a look may still answer.
[[nodiscard]] PolicyQuestion QuestionOf(Direction direction, PolicyProtocol protocol,
                                        const Endpoint& peer, std::string_view name);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_EXPLANATION_H_
