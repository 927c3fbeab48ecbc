#include "stack/flow/gate.h"

#include <utility>

#include "stack/wire/addresses.h"

namespace penstock {
namespace {

PolicyContext ContextOf(const Config& config) {
  PolicyContext context{.host_named = config.host_loopback};
  if (config.ipv4.enabled) context.gateway4 = config.ipv4.gateway;
  if (config.ipv6.enabled) {
    context.gateway6 = config.ipv6.gateway;
    context.gateway6_link_local = LinkLocalOf(config.gateway_mac);
  }
  return context;
}

}  // namespace

Gate::Gate(const Config& config, Counters& counters)
    : counters_(counters), engine_(ContextOf(config)), events_(config.event_count_max) {
  engine_.SetPolicy(PolicyLayer::kPlatform, config.platform_policy);
  engine_.SetPolicy(PolicyLayer::kTenant, config.tenant_policy);
}

PolicyQuestion Gate::QuestionOf(const GateQuestion& question) const {
  const bool egress = question.direction == Direction::kEgress;
  const bool icmp = question.protocol == PolicyProtocol::kIcmp;
  const uint16_t port = egress ? question.peer.port : question.guest.port;
  return {.direction = question.direction,
          .protocol = question.protocol,
          .address = question.peer.address,
          .port = icmp ? uint16_t{0} : port,
          .name = question.name,
          .looked = question.looked};
}

Verdict Gate::Ask(const GateQuestion& question) {
  const PolicyEngine::Answer answer = engine_.Decide(QuestionOf(question), now_);
  if (!answer.denied()) return answer.verdict;
  const bool egress = question.direction == Direction::kEgress;
  (egress ? counters_.denied_to_host : counters_.denied_to_guest).Add(1);
  if (!events_.on()) return answer.verdict;
  Event event = EventOf(EventKind::kDenied, question);
  event.layer = answer.layer;
  event.reason = Name(answer.group);
  event.rule = answer.rule;
  Tell(std::move(event));
  return answer.verdict;
}

bool Gate::StillAllows(const GateQuestion& question) const {
  return !engine_.Decide(QuestionOf(question), now_).denied();
}

void Gate::TellDenied(const GateQuestion& question, EventLayer layer, std::string_view reason) {
  if (!events_.on()) return;
  Event event = EventOf(EventKind::kDenied, question);
  event.layer = layer;
  event.reason = reason;
  Tell(std::move(event));
}

uint64_t Gate::Open(const GateQuestion& question) {
  ++flows_;
  if (!events_.on()) return flows_;
  Event event = EventOf(EventKind::kFlowOpened, question);
  event.flow = flows_;
  Tell(std::move(event));
  return flows_;
}

void Gate::Close(const GateQuestion& question, const Ended& ended) {
  if (!events_.on()) return;
  Event event = EventOf(EventKind::kFlowClosed, question);
  event.flow = ended.flow;
  event.reason = ended.reason;
  event.bytes_to_host = ended.bytes_to_host;
  event.bytes_to_guest = ended.bytes_to_guest;
  event.age = ended.age;
  Tell(std::move(event));
}

void Gate::Tell(Event event) {
  if (!events_.on()) return;
  event.time = now_;
  if (!events_.Put(event)) counters_.events_lost.Add(1);
}

// The name by which the peer was shown, else one that it was asked for.
Event Gate::EventOf(EventKind kind, const GateQuestion& question) const {
  Event event{.kind = kind,
              .direction = question.direction,
              .protocol = question.protocol,
              .guest = question.guest,
              .peer = question.peer};
  if (!question.name.empty()) {
    event.name = EventName(question.name);
  } else if (question.direction == Direction::kEgress) {
    event.name = EventName(engine_.pins().Newest(question.peer.address, now_));
  }
  return event;
}

}  // namespace penstock
