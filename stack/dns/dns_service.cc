#include "stack/dns/dns_service.h"

#include <algorithm>
#include <chrono>

#include "relay/check.h"
#include "stack/wire/addresses.h"

namespace penstock {

struct DnsService::Question {
  DnsAsker* asker = nullptr;
  uint64_t token = 0;
  DnsTransport transport = DnsTransport::kUdp;
  Endpoint guest;
  Endpoint asked;
  std::vector<uint8_t> message;  // the guest's
  DnsQueryView view;
  std::string name;
  std::vector<Attempt> attempts;
  std::vector<DnsUpstream> tried;  // in this round
  Time gives_up{};
  Time deadline = kNever;  // as of Deadlines
  uint32_t deadline_slot = kNoDeadlineSlot;

  [[nodiscard]] DnsSubject subject() const {
    return {.name = name,
            .type = view.question.type,
            .transport = transport,
            .guest = guest,
            .asked = asked};
  }
};

namespace {

uint64_t AttemptKey(const DnsSocket& socket, uint16_t id) { return socket.serial << 16 | id; }

// Another secret than that of the sequence numbers, which is of the same key.
SipKey KeyOf(const Config& config) {
  SipKey key = config.isn_key.value_or(RandomSipKey());
  key[0] ^= 0x646e73;
  return key;
}

bool InNetwork(const IpAddress& address, std::string_view network, int length) {
  return InPrefix(address, *IpAddress::Parse(network), length);
}

// RFC 1918, RFC 6598, RFC 4193.
bool IsPrivate(const IpAddress& address) {
  if (address.is_v6()) return InNetwork(address, "fc00::", 7);
  return InNetwork(address, "10.0.0.0", 8) || InNetwork(address, "172.16.0.0", 12) ||
         InNetwork(address, "192.168.0.0", 16) || InNetwork(address, "100.64.0.0", 10);
}

Duration TtlOf(uint32_t seconds) { return std::chrono::seconds(std::max<uint32_t>(seconds, 1)); }

}  // namespace

std::string_view Name(DnsOutcome outcome) {
  switch (outcome) {
    case DnsOutcome::kAnswered:
      return "answered";
    case DnsOutcome::kLocal:
      return "local";
    case DnsOutcome::kNoFamily:
      return "no family";
    case DnsOutcome::kDenied:
      return "denied";
    case DnsOutcome::kRebinding:
      return "rebinding";
    case DnsOutcome::kNoUpstream:
      return "no upstream";
  }
  return "";
}

DnsService::DnsService(const Config& config, DatagramEnds& ends, DnsPolicy& policy,
                       Counters& counters)
    : config_(config),
      policy_(policy),
      counters_(counters),
      names_(config),
      upstreams_(config.dns),
      random_(KeyOf(config)),
      sockets_(ends, *this, random_) {
  if (!config.dns.upstreams.empty()) return;
  resolv_conf_.emplace(config.dns.resolv_conf);
  upstreams_.SetDefault(resolv_conf_->upstreams());
}

DnsService::~DnsService() = default;

void DnsService::Update() {
  if (!resolv_conf_ || !resolv_conf_->Update()) return;
  counters_.dns_upstream_changes.Add(1);
  upstreams_.SetDefault(resolv_conf_->upstreams());
}

void DnsService::BeginPass(Time now) {
  now_ = now;
  sockets_.BeginPass(now);
  for (int i = 0; i < kTimeoutsPerPass; ++i) {
    Question* question = deadlines_.TakeDue(now);
    if (question == nullptr) return;
    TimeOut(*question);
  }
}

Time DnsService::NextDeadline() { return std::min(deadlines_.next(), sockets_.NextDeadline()); }

void DnsService::Shutdown() {
  sockets_.Shutdown();
  attempts_.clear();
  questions_.clear();
}

// ---------------------------------------------------------------- from the guest

void DnsService::Ask(const DnsQuery& query, Time now) {
  now_ = now;
  const bool by_udp = query.transport == DnsTransport::kUdp;
  (by_udp ? counters_.dns_questions_udp : counters_.dns_questions_tcp).Add(1);
  // Of one that is too long only the header is read.
  const bool too_long = query.message.size() > kQuestionBytesMax;
  const DnsQueryView view =
      ReadDnsQuery(too_long ? query.message.first(kDnsHeaderBytes) : query.message);
  switch (view.kind) {
    case DnsQueryKind::kNoMessage:
    case DnsQueryKind::kAnswer:
      counters_.dns_ignored.Add(1);
      return query.asker->Answer(query.token, {});
    case DnsQueryKind::kOpcode:
      counters_.dns_not_implemented.Add(1);
      return Reply(query, view, {.rcode = DnsRcode::kNotImp});
    case DnsQueryKind::kMalformed:
      counters_.dns_malformed.Add(1);
      return Reply(query, view, {.rcode = DnsRcode::kFormErr});
    case DnsQueryKind::kQuestion:
      return AnswerQuestion(query, view, now);
  }
}

void DnsService::Reply(const DnsQuery& query, const DnsQueryView& view, const DnsReply& reply) {
  const std::span<uint8_t> out(reply_.get(), kDnsReplyBytesMax);
  const bool by_udp = query.transport == DnsTransport::kUdp;
  const size_t length = WriteDnsReply(query.message, view, reply, by_udp, out);
  query.asker->Answer(query.token, out.first(length));
}

void DnsService::TellOutcome(const DnsQuery& query, const DnsQueryView& view,
                             const std::string& name, DnsOutcome outcome, Time now) {
  policy_.OnOutcome({.name = name,
                     .type = view.question.type,
                     .transport = query.transport,
                     .guest = query.guest,
                     .asked = query.asked},
                    outcome, nullptr, now);
}

void DnsService::AnswerQuestion(const DnsQuery& query, const DnsQueryView& view, Time now) {
  const uint16_t type = view.question.type;
  if (type == kDnsTypeAxfr || type == kDnsTypeIxfr) {  // not one answer, but many
    counters_.dns_not_implemented.Add(1);
    return Reply(query, view, {.rcode = DnsRcode::kNotImp});
  }
  std::string name = view.question.name.ToString();
  const std::optional<LocalNames::Answer> local = names_.Find(view.question);
  if (!MayAsk(view.question, name, local, now)) {
    counters_.dns_denied.Add(1);
    TellOutcome(query, view, name, DnsOutcome::kDenied, now);
    return Reply(query, view, {.rcode = DnsRcode::kNxDomain});
  }
  if (local) return AnswerLocally(query, view, name, *local, now);
  if (LeadsNowhere(view.question)) {
    counters_.dns_no_family.Add(1);
    TellOutcome(query, view, name, DnsOutcome::kNoFamily, now);
    return Reply(query, view, {});
  }
  Forward(query, view, std::move(name), now);
}

// A name that the stack knows itself may be asked for also where only its addresses may be
// reached: nobody hears of it.
bool DnsService::MayAsk(const DnsQuestion& question, const std::string& name,
                        const std::optional<LocalNames::Answer>& local, Time now) {
  if (policy_.MayAsk(name, now)) return true;
  if (!local) return false;
  const DnsName& host = local->pointer != nullptr ? *local->pointer : question.name;
  const std::string host_name = local->pointer != nullptr ? host.ToString() : name;
  if (local->pointer != nullptr && policy_.MayAsk(host_name, now)) return true;
  return std::ranges::any_of(names_.AddressesOf(host), [&](const IpAddress& address) {
    return policy_.MayAnswer(host_name, address, now);
  });
}

void DnsService::AnswerLocally(const DnsQuery& query, const DnsQueryView& view,
                               const std::string& name, const LocalNames::Answer& local, Time now) {
  std::vector<IpAddress> addresses = local.addresses;
  std::erase_if(addresses, [&](const IpAddress& address) {
    return !(address.is_v4() ? config_.ipv4 : config_.ipv6).enabled;
  });
  for (const IpAddress& address : addresses) {
    policy_.Pin(name, address, TtlOf(local.ttl), now);
  }
  counters_.dns_local.Add(1);
  TellOutcome(query, view, name, DnsOutcome::kLocal, now);
  Reply(query, view,
        {.rcode = local.exists ? DnsRcode::kNoError : DnsRcode::kNxDomain,
         .authoritative = true,
         .addresses = addresses,
         .pointer = local.pointer,
         .ttl = local.ttl});
}

bool DnsService::LeadsNowhere(const DnsQuestion& question) const {
  if (question.record_class != kDnsClassIn) return false;
  if (question.type == kDnsTypeA) return !config_.ipv4.enabled || !routes_.ipv4;
  return question.type == kDnsTypeAaaa && (!config_.ipv6.enabled || !routes_.ipv6);
}

bool DnsService::HasRoomFor(DnsTransport transport) const {
  if (questions_.size() >= config_.dns.outstanding_max) return false;
  return transport == DnsTransport::kUdp || sockets_.MayTakeStream();
}

void DnsService::Forward(const DnsQuery& query, const DnsQueryView& view, std::string name,
                         Time now) {
  if (!HasRoomFor(query.transport)) {
    counters_.dns_limit.Add(1);
    TellOutcome(query, view, name, DnsOutcome::kNoUpstream, now);
    // By UDP the guest will ask again, later; an error would make it ask again at once.
    if (query.transport == DnsTransport::kUdp) return query.asker->Answer(query.token, {});
    return Reply(query, view, {.rcode = DnsRcode::kServFail});
  }
  if (resolv_conf_ && resolv_conf_->LookAgain(now)) {
    counters_.dns_upstream_changes.Add(1);
    upstreams_.SetDefault(resolv_conf_->upstreams());
  }
  const auto [place, is_new] = questions_.try_emplace(QuestionKey(query.asker, query.token));
  PENSTOCK_CHECK(is_new);
  place->second = std::make_unique<Question>();
  Question& question = *place->second;
  question.asker = query.asker;
  question.token = query.token;
  question.transport = query.transport;
  question.guest = query.guest;
  question.asked = query.asked;
  question.message.assign(query.message.begin(), query.message.end());
  question.view = view;
  question.name = std::move(name);
  question.gives_up = After(After(now, config_.dns.timeout), config_.dns.timeout);
  counters_.dns_forwarded.Add(1);
  counters_.dns_outstanding.Set(questions_.size());
  AskNext(question, Why::kNew);
}

void DnsService::Forget(DnsAsker& asker, uint64_t token) {
  const auto found = questions_.find(QuestionKey(&asker, token));
  if (found == questions_.end()) return;
  counters_.dns_forgotten.Add(1);
  (void)Take(*found->second);
}

// ---------------------------------------------------------------- upstreams

void DnsService::AskNext(Question& question, Why why) {
  // Where each was asked, what was lost on the way is repaired by asking once more.
  bool may_begin_again = why == Why::kTimeout;
  while (question.attempts.size() < kAttemptsMax) {
    auto upstream = upstreams_.Choose(question.view.question.name, question.tried, now_);
    if (!upstream && std::exchange(may_begin_again, false)) {
      question.tried.clear();
      continue;
    }
    if (!upstream) break;
    question.tried.push_back(*upstream);
    if (AskOf(question, *upstream)) return;
  }
  const auto may_come = [](const Attempt& attempt) { return !attempt.over; };
  if (!std::ranges::any_of(question.attempts, may_come)) {
    counters_.dns_servfail.Add(1);
    return Finish(question, {.rcode = DnsRcode::kServFail}, DnsOutcome::kNoUpstream);
  }
  question.deadline = question.gives_up;
  deadlines_.Schedule(question);
}

bool DnsService::AskOf(Question& question, const DnsUpstream& upstream) {
  const Family family = upstream.endpoint.address.family;
  const bool by_udp = question.transport == DnsTransport::kUdp;
  if (!by_udp && !sockets_.MayTakeStream()) {
    counters_.dns_upstream_errors.Add(1);
    return false;
  }
  DnsSocket& socket = by_udp ? sockets_.Take(family, now_) : sockets_.TakeStream(family, now_);
  auto id = static_cast<uint16_t>(random_.Next());
  // A socket has few questions, so this ends soon.
  while (attempts_.contains(AttemptKey(socket, id))) id = static_cast<uint16_t>(random_.Next());
  PutDnsId(id, question.message);
  if (!sockets_.Send(socket, upstream, question.message)) {
    counters_.dns_upstream_errors.Add(1);
    sockets_.Done(socket);
    return false;
  }
  if (!question.attempts.empty()) counters_.dns_failovers.Add(1);
  question.attempts.push_back(
      {.socket = &socket, .id = id, .upstream = upstream, .asked_at = now_});
  attempts_.emplace(AttemptKey(socket, id), &question);
  question.deadline = std::min(After(now_, config_.dns.timeout), question.gives_up);
  deadlines_.Schedule(question);
  return true;
}

void DnsService::TimeOut(Question& question) {
  const Attempt& last = question.attempts.back();
  if (!last.over) {
    counters_.dns_timeouts.Add(1);
    upstreams_.Failed(last.upstream, now_);
  }
  if (now_ < question.gives_up) return AskNext(question, Why::kTimeout);
  counters_.dns_servfail.Add(1);
  Finish(question, {.rcode = DnsRcode::kServFail}, DnsOutcome::kNoUpstream);
}

void DnsService::End(Attempt& attempt) {
  if (std::exchange(attempt.over, true)) return;
  attempts_.erase(AttemptKey(*attempt.socket, attempt.id));
  sockets_.Done(*attempt.socket);
}

std::unique_ptr<DnsService::Question> DnsService::Take(Question& question) {
  for (Attempt& attempt : question.attempts) End(attempt);
  if (question.deadline_slot != kNoDeadlineSlot) {
    question.deadline = Time::min();  // so that it is the first
    deadlines_.Schedule(question);
    PENSTOCK_CHECK(deadlines_.TakeDue(Time::min()) == &question);
  }
  const auto found = questions_.find(QuestionKey(question.asker, question.token));
  std::unique_ptr<Question> taken = std::move(found->second);
  questions_.erase(found);
  counters_.dns_outstanding.Set(questions_.size());
  return taken;
}

void DnsService::Finish(Question& question, const DnsReply& reply, DnsOutcome outcome,
                        const IpAddress* refused) {
  const std::unique_ptr<Question> taken = Take(question);
  policy_.OnOutcome(taken->subject(), outcome, refused, now_);
  Reply({.message = taken->message,
         .transport = taken->transport,
         .guest = taken->guest,
         .asked = taken->asked,
         .asker = taken->asker,
         .token = taken->token},
        taken->view, reply);
}

// ---------------------------------------------------------------- from an upstream

void DnsService::OnFault(DnsSocket& socket, FaultKind kind, uint16_t id) {
  const auto found = attempts_.find(AttemptKey(socket, id));
  if (found == attempts_.end()) return;
  Question& question = *found->second;
  const auto attempt = std::ranges::find_if(
      question.attempts, [&](const Attempt& one) { return one.socket == &socket && one.id == id; });
  counters_.dns_upstream_errors.Add(1);
  // Else it is our own want of a descriptor, or of a narrower packet.
  const bool of_upstream =
      kind != FaultKind::kTooBig && (kind != FaultKind::kNoSocket || socket.stream);
  if (of_upstream) upstreams_.Failed(attempt->upstream, now_);
  const bool is_last = &*attempt == &question.attempts.back();
  End(*attempt);
  if (is_last) AskNext(question, Why::kFault);
}

void DnsService::OnMessage(DnsSocket& socket, const DnsUpstream& from, std::span<uint8_t> message) {
  const auto found = message.size() < kDnsHeaderBytes
                         ? attempts_.end()
                         : attempts_.find(AttemptKey(socket, DnsIdOf(message)));
  if (found == attempts_.end()) return counters_.dns_answers_false.Add(1);
  Question& question = *found->second;
  const auto attempt = std::ranges::find_if(question.attempts, [&](const Attempt& one) {
    return one.socket == &socket && one.id == DnsIdOf(message);
  });
  if (attempt->upstream != from) return counters_.dns_answers_false.Add(1);
  const DnsAnswerView answer = ReadDnsAnswer(message, question.view.question);
  if (answer.fault == DnsAnswerFault::kNotThis) return counters_.dns_answers_false.Add(1);
  if (answer.fault == DnsAnswerFault::kMalformed) {
    counters_.dns_answers_malformed.Add(1);
    const bool is_last = &*attempt == &question.attempts.back();
    End(*attempt);
    if (is_last) AskNext(question, Why::kFault);
    return;
  }
  // Who answers too late stays dead: the next question would wait for it again.
  if (now_ - attempt->asked_at < config_.dns.timeout) upstreams_.Answered(attempt->upstream);
  PassOn(question, answer, message);
}

void DnsService::PassOn(Question& question, const DnsAnswerView& answer,
                        std::span<uint8_t> message) {
  if (const IpAddress* refused = RefusedAddress(question.name, answer.addresses)) {
    counters_.dns_rebinding_refused.Add(1);
    return Finish(question, {}, DnsOutcome::kRebinding, refused);
  }
  counters_.dns_answered.Add(1);
  for (const DnsAnswerAddress& one : answer.addresses) {
    if (one.of_asked) policy_.Pin(question.name, one.address, TtlOf(one.ttl), now_);
  }
  const bool by_udp = question.transport == DnsTransport::kUdp;
  if (by_udp && message.size() > question.view.udp_bytes_max) {
    counters_.dns_truncated.Add(1);
    return Finish(question, {.rcode = answer.rcode, .truncated = true}, DnsOutcome::kAnswered);
  }
  PutDnsId(question.view.id, message);
  const std::unique_ptr<Question> taken = Take(question);
  policy_.OnOutcome(taken->subject(), DnsOutcome::kAnswered, nullptr, now_);
  taken->asker->Answer(taken->token, message);
}

const IpAddress* DnsService::RefusedAddress(const std::string& name,
                                            std::span<const DnsAnswerAddress> addresses) {
  if (!config_.dns.rebinding_protection) return nullptr;
  const auto refused = std::ranges::find_if(addresses, [&](const DnsAnswerAddress& one) {
    return !IsPublic(one.address) && !policy_.MayAnswer(name, one.address, now_);
  });
  return refused == addresses.end() ? nullptr : &refused->address;
}

bool DnsService::IsPublic(const IpAddress& address) const {
  // What a translator would make of it (RFC 6052).
  if (InNetwork(address, "64:ff9b::", 96)) return IsPublic(IpAddress::From(address.wire().last(4)));
  if (address == config_.ipv4.gateway || address == config_.ipv6.gateway) return false;
  return !IsNeverAHost(address) && !IsMulticast(address) && !IsLinkLocal(address) &&
         !IsPrivate(address);
}

}  // namespace penstock
