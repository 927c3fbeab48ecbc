#include "tests/world/dns_talk.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/world/violation.h"

namespace penstock::world {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr uint16_t kDnsPort = 53;
// Whose it is (two bytes), and which one (four).
constexpr size_t kNameBytes = 6;
// A client that is not connected by then, or not answered, has gone.
constexpr Duration kAnswerPatience = std::chrono::seconds(120);
// Connections begin within so long.
constexpr int64_t kBeginMs = 5'000;
// A client that never finishes waits for the stack to do so.
constexpr Duration kLingers = std::chrono::minutes(2);

}  // namespace

DnsTalk::DnsTalk(const Scenario& scenario, const Config& config, Timeline& timeline,
                 SteppedStack& stack, GuestTcp& guest, std::function<void(const std::string&)> note)
    : scenario_(scenario),
      timeline_(timeline),
      stack_(stack),
      guest_(guest),
      note_(std::move(note)),
      dice_(scenario.seed ^ 0x646e73),
      guest4_(config.ipv4.guest),
      guest6_(config.ipv6.guest) {
  stack_.ServeDnsStreams(
      {.serves = [](const Endpoint& destination) { return destination.port == kDnsPort; },
       .ask = [this](const DnsQuery& query, Time) { OnQuestion(query); },
       .forget = [this](DnsAsker&, uint64_t token) { OnForget(token); }});
  SimHost& host = stack_.host();
  host.on_pair = [this] { return dice_.PerMille(scenario_.dns_no_pair) ? EMFILE : 0; };
  host.on_pair_end = [this](HostPeer& end) {
    end.SetSendBuffer(static_cast<size_t>(std::max<int64_t>(scenario_.dns_buffer, 1)));
    end.write_max = end.read_max = static_cast<size_t>(scenario_.dns_call);
  };
  for (size_t i = 0; i < static_cast<size_t>(scenario_.dns_clients); ++i) {
    auto client = std::make_unique<Client>();
    client->index = i;
    const FamilyConfig& family = dice_.PerMille(500) ? config.ipv4 : config.ipv6;
    client->destination = {dice_.PerMille(700) ? family.dns : family.gateway, kDnsPort};
    client->questions = static_cast<uint32_t>(dice_.From(1, scenario_.dns_questions));
    client->end = dice_.PerMille(scenario_.dns_rude)
                      ? dice_.OneOf({End::kNever, End::kAbort, End::kClose})
                      : dice_.OneOf({End::kFinishFirst, End::kFinishLast});
    if (dice_.PerMille(250)) client->at_once = dice_.From(1, 1'000);
    timeline_.In(milliseconds(dice_.From(0, kBeginMs)), [this, c = client.get()] { Connect(*c); });
    clients_.push_back(std::move(client));
  }
}

void DnsTalk::Fail(const Client& client, const std::string& what) const {
  throw Violation(absl::StrCat("DNS client ", client.index, ": ", what, " (asked ", client.asked,
                               " of ", client.questions, ", heard ", client.heard, ", answered ",
                               client.answered, ")"));
}

// ---------------------------------------------------------------- messages

std::vector<uint8_t> DnsTalk::Content(Kind kind, size_t client, uint32_t number) const {
  const uint64_t key =
      Mix(scenario_.seed * 31 + client * 1'000'003 + number * 2 + (kind == Kind::kAnswer ? 1 : 0));
  const auto most = static_cast<uint64_t>(std::max<int64_t>(scenario_.dns_bytes, 1));
  std::vector<uint8_t> bytes(std::max<size_t>(kNameBytes, 1 + key % most));
  Stream(key).Fill(0, bytes);
  const auto whose = static_cast<uint16_t>(client);
  std::memcpy(bytes.data(), &whose, sizeof whose);
  std::memcpy(bytes.data() + sizeof whose, &number, sizeof number);
  return bytes;
}

uint32_t DnsTalk::NumberOf(Kind kind, size_t client, std::span<const uint8_t> bytes) const {
  const Client& whose = *clients_[client];
  const char* const what = kind == Kind::kQuestion ? "a question" : "an answer";
  uint32_t number = 0;
  if (bytes.size() < kNameBytes) Fail(whose, absl::StrCat(what, " is cut"));
  std::memcpy(&number, bytes.data() + 2, sizeof number);
  const std::vector<uint8_t> wanted = Content(kind, client, number);
  if (wanted.size() != bytes.size())
    Fail(whose, absl::StrCat(what, " is ", bytes.size(), " bytes long"));
  const auto spoilt = std::inner_product(wanted.begin(), wanted.end(), bytes.begin(), uint64_t{0},
                                         std::plus<>(), std::not_equal_to<>());
  if (spoilt > SpoiltBytesMax(scenario_)) {
    Fail(whose, absl::StrCat(what, " of ", bytes.size(), " bytes is nobody's"));
  }
  return number;
}

// ---------------------------------------------------------------- the guest

void DnsTalk::Connect(Client& client) {
  client.connection = guest_.Connect(timeline_.now(), client.destination, 0);
  if (client.connection == nullptr) {
    timeline_.In(milliseconds(100), [this, &client] { Connect(client); });
    return;
  }
  const bool v4 = client.destination.address.is_v4();
  by_guest_[{v4 ? guest4_ : guest6_, client.connection->source_port()}] = client.index;
  note_(absl::StrCat("DNS client ", client.index, ": connects from port ",
                     client.connection->source_port()));
  timeline_.In(kAnswerPatience, [this, &client] {
    if (client.connection->connected() || Broken(client)) return;
    client.gave_up = true;
    client.connection->Abort();
  });
  AskBurst(client);
}

void DnsTalk::AskBurst(Client& client) {
  if (Done(client) || client.finished) return;
  const auto burst = static_cast<uint32_t>(dice_.From(1, scenario_.dns_burst));
  for (uint32_t i = 0; i < burst && client.asked < client.questions; ++i) {
    const std::vector<uint8_t> message = Content(Kind::kQuestion, client.index, client.asked++);
    client.unwritten.push_back(static_cast<uint8_t>(message.size() >> 8));
    client.unwritten.push_back(static_cast<uint8_t>(message.size()));
    client.unwritten.insert(client.unwritten.end(), message.begin(), message.end());
  }
  if (client.asked < client.questions) {
    timeline_.In(microseconds(dice_.From(0, scenario_.dns_gap_us)),
                 [this, &client] { AskBurst(client); });
  } else {
    timeline_.In(kLingers, [this, &client] {
      if (client.finished || client.left || Broken(client)) return;
      client.finished = true;  // it was not told of the end: the link lost it
      client.connection->ShutdownWrite();
    });
  }
}

bool DnsTalk::Broken(const Client& client) const { return client.connection->error() != 0; }

bool DnsTalk::Done(const Client& client) const {
  if (client.connection == nullptr) return false;
  return client.gave_up || client.left || Broken(client) ||
         (client.at_end && client.finished && client.connection->closed());
}

void DnsTalk::Turn(bool guest_runs, bool guest_has_run) {
  if (!guest_runs || !(guest_has_run || told_silence_)) return;
  told_silence_ = false;
  for (const auto& each : clients_) {
    Client& client = *each;
    if (client.connection == nullptr || client.left || client.gave_up) continue;
    Read(client);
    if (Broken(client)) continue;
    Write(client);
    Finish(client);
  }
}

void DnsTalk::Write(Client& client) {
  if (client.finished || client.unwritten.empty() || !client.connection->connected()) return;
  const size_t written = client.connection->Write(client.unwritten);
  client.unwritten.erase(client.unwritten.begin(),
                         client.unwritten.begin() + static_cast<ptrdiff_t>(written));
}

void DnsTalk::Read(Client& client) {
  std::array<uint8_t, 8'192> room;
  for (size_t bytes; (bytes = client.connection->Read(room)) > 0;) {
    client.read.insert(client.read.end(), room.begin(),
                       room.begin() + static_cast<ptrdiff_t>(bytes));
    TakeMessages(client);
  }
  if (client.at_end || !client.connection->finished_reading()) return;
  client.at_end = true;
  note_(absl::StrCat("DNS client ", client.index, ": end after ", client.answered, " answers"));
}

void DnsTalk::TakeMessages(Client& client) {
  std::span<const uint8_t> rest(client.read);
  while (rest.size() >= 2) {
    const size_t length = size_t{rest[0]} << 8 | rest[1];
    if (rest.size() < 2 + length) break;
    const uint32_t number = NumberOf(Kind::kAnswer, client.index, rest.subspan(2, length));
    if (client.answers.empty() || client.answers.front() != number) {
      Fail(client, absl::StrCat("answer ", number, " comes twice, or before others"));
    }
    client.answers.pop_front();
    ++client.answered;
    rest = rest.subspan(2 + length);
  }
  client.read.erase(client.read.begin(), client.read.end() - static_cast<ptrdiff_t>(rest.size()));
}

void DnsTalk::Finish(Client& client) {
  if (client.finished || !client.connection->connected()) return;
  const bool all_asked = client.asked == client.questions && client.unwritten.empty();
  const bool all_answered = all_asked && client.answered + client.silent == client.questions;
  switch (client.end) {
    case End::kFinishFirst:
      if (!all_asked && !client.at_end) return;
      break;
    case End::kFinishLast:
      if (!all_answered && !client.at_end) return;
      break;
    case End::kNever:
      if (!client.at_end) return;
      break;
    case End::kAbort:
    case End::kClose:
      if (client.asked < (client.questions + 1) / 2 && !client.at_end) return;
      client.left = true;
      note_(absl::StrCat("DNS client ", client.index, ": leaves"));
      client.end == End::kAbort ? client.connection->Abort() : client.connection->Close();
      return;
  }
  client.finished = true;
  note_(absl::StrCat("DNS client ", client.index, ": finishes after ", client.asked, " questions"));
  client.connection->ShutdownWrite();
}

// ---------------------------------------------------------------- the service

void DnsTalk::OnQuestion(const DnsQuery& query) {
  const auto known = by_guest_.find(query.guest);
  if (query.transport != DnsTransport::kTcp) throw Violation("DNS: asked by another transport");
  if (outstanding_.contains(query.token)) throw Violation("DNS: a token of two questions");
  if (known == by_guest_.end() || query.asked != clients_[known->second]->destination) {
    ++strangers_;
    return query.asker->Answer(query.token, {});
  }
  Client& client = *clients_[known->second];
  const uint32_t number = NumberOf(Kind::kQuestion, client.index, query.message);
  if (number != client.heard) Fail(client, absl::StrCat("question ", number, " out of turn"));
  ++client.heard;
  outstanding_[query.token] = {.client = client.index, .number = number, .asker = query.asker};
  if (dice_.PerMille(client.at_once)) return Answer(query.token);  // before Ask returns
  AnswerSoon(query.token);
}

void DnsTalk::AnswerSoon(uint64_t token) {
  timeline_.In(milliseconds(dice_.From(0, scenario_.dns_answer_ms)), [this, token] {
    // In a pass, as whatever brought the answer.
    stack_.stack().Post([this, token](Stack&) { Answer(token); });
  });
}

void DnsTalk::Answer(uint64_t token) {
  const auto found = outstanding_.find(token);
  if (found == outstanding_.end()) return;  // forgotten
  const Question question = found->second;
  outstanding_.erase(found);
  Client& client = *clients_[question.client];
  if (dice_.PerMille(scenario_.dns_silent)) {
    ++client.silent;
    told_silence_ = true;
    return question.asker->Answer(token, {});
  }
  client.answers.push_back(question.number);
  question.asker->Answer(token, Content(Kind::kAnswer, client.index, question.number));
}

void DnsTalk::OnForget(uint64_t token) {
  if (outstanding_.erase(token) != 1) throw Violation("DNS: a question is forgotten that is none");
}

// ---------------------------------------------------------------- the end

bool DnsTalk::Over() const {
  return std::ranges::all_of(clients_, [this](const auto& client) { return Done(*client); }) &&
         outstanding_.empty() && stack_.stack().Snapshot().dns_streams == 0;
}

uint64_t DnsTalk::left() const {
  return static_cast<uint64_t>(
      std::ranges::count_if(clients_, [](const auto& client) { return client->left; }));
}

Duration DnsTalk::Length() const {
  constexpr int64_t kTurns = 500;
  return milliseconds(kBeginMs) + kLingers +
         scenario_.dns_questions * (microseconds(scenario_.dns_gap_us)) +
         2 * milliseconds(scenario_.dns_answer_ms) +
         kTurns * microseconds(scenario_.delay_us + scenario_.jitter_us);
}

void DnsTalk::VerifyEnd(const CounterSnapshot& counters, bool good, bool limited) const {
  if (!outstanding_.empty()) throw Violation("DNS: questions are left that nobody waits for");
  if (good && strangers_ > 0) throw Violation("DNS: somebody asks who is no client");
  const bool cut_short = counters.dns_streams_expired + counters.dns_streams_evicted +
                             counters.dns_streams_overrun + counters.dns_streams_refused +
                             counters.flows_local_refused >
                         0;
  for (const auto& each : clients_) {
    const Client& client = *each;
    if (client.left || cut_short || limited) continue;
    if (client.gave_up || Broken(client)) {
      if (good) Fail(client, absl::StrCat("broke with errno ", client.connection->error()));
      continue;
    }
    // The segment that told it may be lost, if nothing repeats it.
    if (!client.at_end && !good) continue;
    if (client.heard != client.questions) Fail(client, "the service was not asked everything");
    if (client.answered + client.silent != client.questions) Fail(client, "answers are missing");
    if (!client.read.empty()) Fail(client, "an answer is cut");
    if (!client.at_end) Fail(client, "the stack never finished");
  }
}

std::string DnsTalk::Describe() const {
  std::string text;
  for (const auto& client : clients_) {
    absl::StrAppend(&text, "\n  DNS client ", client->index, ": asked ", client->asked, " of ",
                    client->questions, ", heard ", client->heard, ", answered ", client->answered,
                    client->finished ? " finished" : "", client->at_end ? " at-end" : "",
                    client->left ? " left" : "");
    if (client->connection == nullptr) continue;
    absl::StrAppend(&text, ", errno ", client->connection->error(),
                    client->connection->closed() ? ", closed" : "");
  }
  return text;
}

}  // namespace penstock::world
