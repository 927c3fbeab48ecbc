#include "stack/policy/policy_engine.h"

#include <utility>

#include "publisher/text_fault.h"
#include "relay/check.h"

namespace penstock {
namespace {

constexpr std::array kLayers{PolicyLayer::kPlatform, PolicyLayer::kTenant};

EventLayer EventLayerOf(PolicyLayer layer) {
  return layer == PolicyLayer::kPlatform ? EventLayer::kPlatform : EventLayer::kTenant;
}

}  // namespace

std::string_view Name(PolicyLayer layer) {
  return layer == PolicyLayer::kPlatform ? "platform" : "tenant";
}

PolicyEngine::PolicyEngine(const PolicyContext& context)
    : context_(context), without_(Policy::Profile("all")) {
  PENSTOCK_CHECK(without_ != nullptr);
}

template <typename Ask>
PolicyEngine::Answer PolicyEngine::AskLayers(const Ask& ask) const {
  Answer answer;
  const auto take = [&answer](Decision&& decision, EventLayer layer) {
    answer = {.verdict = decision.verdict,
              .layer = layer,
              .rule = std::move(decision.rule),
              .group = decision.group};
  };
  bool is_asked = false;
  for (const PolicyLayer layer : kLayers) {
    if (policy(layer) == nullptr) continue;
    Decision decision = ask(*policy(layer));
    const bool is_look = is_asked && answer.verdict == Verdict::kLook;
    if (!is_look || decision.verdict == Verdict::kDeny) {
      take(std::move(decision), EventLayerOf(layer));
    }
    is_asked = true;
    if (answer.denied()) break;
  }
  if (!is_asked) take(ask(*without_), EventLayer::kNone);
  return answer;
}

PolicyEngine::Answer PolicyEngine::Decide(const PolicyQuestion& question, Time now) const {
  return AskLayers(
      [&](const Policy& policy) { return policy.Decide(question, context_, pins_, now); });
}

PolicyEngine::Answer PolicyEngine::MayReach(const Policy::Reach& reach) const {
  return AskLayers([&](const Policy& policy) { return policy.MayReach(reach, context_); });
}

void PolicyEngine::SetPolicy(PolicyLayer layer, std::shared_ptr<const Policy> policy) {
  policies_[static_cast<size_t>(layer)] = std::move(policy);
  ++generation_;
  has_names_ = false;
  for (const auto& each : policies_) has_names_ = has_names_ || (each && each->has_names());
}

std::string PolicyEngine::Explain(const PolicyQuestion& question, Time now) const {
  const IpAddress address = question.address.Unmapped();
  std::string whom = address.ToString();
  if (question.protocol != PolicyProtocol::kIcmp) {
    whom = Endpoint{address, question.port}.ToString();
  }
  std::string text = Sentence(Name(question.direction), " ", Name(question.protocol), " ", whom,
                              ", ", Name(GroupOf(address, context_)));
  if (!question.name.empty()) text += Sentence(", shows the name ", question.name);
  text += "\n";
  for (const NamePins::Seen& seen : pins_.At(address, now)) {
    text += Sentence("pinned: ", seen.name, "\n");
  }
  bool is_asked = false;
  for (const PolicyLayer layer : kLayers) {
    if (policy(layer) == nullptr) continue;
    is_asked = true;
    text +=
        Sentence(Name(layer), ": ", policy(layer)->Explain(question, context_, pins_, now), "\n");
  }
  if (!is_asked) {
    text += Sentence("no policy: ", without_->Explain(question, context_, pins_, now), "\n");
  }
  return text;
}

}  // namespace penstock
