// The hosts' side of the talk: simulated sockets that the relay opened for the guest, what
// leaves them, and what comes back.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/world/datagram_talk.h"
#include "tests/world/guest_talk.h"
#include "tests/world/violation.h"

namespace penstock::world {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr uint16_t kHostPort = 9'000, kNamePort = 53;
constexpr size_t kEchoHeader = 8;
constexpr size_t kQuotedMax = 600;

}  // namespace

// ---------------------------------------------------------------- who is who

// The first host of a UDP asker is the gateway, which stands for the host's loopback.
bool GuestTalk::IsAlias(const Asker& asker, size_t host) { return !asker.echo && host == 0; }

Endpoint GuestTalk::HostOf(const Asker& asker, size_t host) const {
  const bool v4 = asker.guest.address.is_v4();
  const auto port = static_cast<uint16_t>(host == 1 ? kNamePort : kHostPort + host);
  if (IsAlias(asker, host)) {
    return {v4 ? IpAddress::V4(127, 0, 0, 1) : *IpAddress::Parse("::1"), port};
  }
  IpAddress address = v4 ? IpAddress::V4(203, 0, 113, 0) : *IpAddress::Parse("2001:db8:3::");
  address.bytes[v4 ? 3 : 15] = static_cast<uint8_t>(10 + host);
  return {address, asker.echo ? uint16_t{0} : port};
}

Endpoint GuestTalk::OtherThan(const Asker& asker, size_t host, Kind kind) const {
  Endpoint other = HostOf(asker, host);
  const bool v4 = other.address.is_v4();
  if (kind == Kind::kOtherPort) {
    other.port += 1'000;
  } else {
    other.address = v4 ? IpAddress::V4(203, 0, 113, 0) : *IpAddress::Parse("2001:db8:3::");
    other.address.bytes[v4 ? 3 : 15] = static_cast<uint8_t>(110 + host);
  }
  return other;
}

Endpoint GuestTalk::SeenAs(const Asker& asker, size_t host) const {
  Endpoint seen = HostOf(asker, host);
  if (!IsAlias(asker, host)) return seen;
  const Config config;
  seen.address = seen.address.is_v4() ? config.ipv4.gateway : config.ipv6.gateway;
  return seen;
}

Duration GuestTalk::TimeoutOf(const Asker& asker, size_t host, bool answered) const {
  const Duration timeout = milliseconds(std::max<int64_t>(scenario_.guest_timeout_ms, 1));
  if (asker.echo) return timeout;
  if (HostOf(asker, host).port == kNamePort) return timeout / 2 + milliseconds(1);
  return answered ? 2 * timeout : timeout;
}

bool GuestTalk::MayAnswer(Kind kind) const {
  const auto filtering = static_cast<UdpFiltering>(scenario_.guest_filtering);
  if (kind == Kind::kOtherPort) return filtering != UdpFiltering::kAddressAndPort;
  return kind == Kind::kAnswer || filtering == UdpFiltering::kNone;
}

// ---------------------------------------------------------------- sockets

void GuestTalk::OnSocket(const std::shared_ptr<SimDatagrams>& socket) {
  const uint64_t serial = ++sockets_;
  socket->batch_max = static_cast<size_t>(std::max<int64_t>(scenario_.guest_batch, 1));
  socket->join_max = static_cast<size_t>(std::max<int64_t>(scenario_.guest_join, 1));
  if (scenario_.guest_errors > 0) {
    socket->error = [this] {
      return dice_.PerMille(scenario_.guest_errors) ? dice_.OneOf(kPassingErrors) : 0;
    };
  }
  if (scenario_.guest_faults > 0) {
    socket->refuse = [this](const Datagram& datagram) { return Refuse(datagram); };
  }
  socket->sent = [this, serial, weak = std::weak_ptr(socket)](const Datagram& datagram) {
    const std::shared_ptr<SimDatagrams> alive = weak.lock();
    OnQuestion(serial, alive, datagram);
    if (!dice_.PerMille(scenario_.guest_full)) return;
    alive->room = 0;
    timeline_.In(microseconds(dice_.From(1, 200'000)), [alive] { alive->SetRoom(SIZE_MAX); });
  };
  socket->on_close = [this, serial] { OnClose(serial); };
}

// Closed before it was to be: it gave way to another one, and no asker that keeps its socket
// was used less recently. Looked at when all that happens at this moment has happened.
void GuestTalk::OnClose(uint64_t serial) {
  const auto asker = std::find_if(askers_.begin(), askers_.end(),
                                  [serial](const Asker& each) { return each.serial == serial; });
  if (asker == askers_.end()) return;
  const bool expected =
      std::all_of(asker->hosts.begin(), asker->hosts.end(),
                  [this](const Conversation& each) { return each.until_min <= timeline_.now(); });
  if (expected) return;
  gave_way_ = true;
  if (scenario_.refuse > 0) return;  // a full link keeps others that gave way
  // What happens at one moment has no order for us.
  if (asker->used_min >= timeline_.now()) return;
  timeline_.In(microseconds(1), [this, who = asker->guest.ToString(), echo = asker->echo,
                                 used = asker->used_min] { CheckEviction(who, echo, used); });
}

void GuestTalk::CheckEviction(const std::string& who, bool echo, Time used) {
  // Who answers for what is forgotten is filtered, and its mapping ends before our time.
  if (ends_.forgets()) return;
  for (const Asker& other : askers_) {
    if (other.echo != echo || other.socket == nullptr || other.socket->closed) continue;
    if (other.used_max + std::chrono::seconds(1) >= used) continue;  // Mappings' grain
    Fail(absl::StrCat(who, " gave way, and ", other.guest.ToString(),
                      ", which was used less recently, did not"));
  }
}

void GuestTalk::AdoptSocket(Asker& asker, uint64_t serial,
                            const std::shared_ptr<SimDatagrams>& socket) {
  const std::shared_ptr<SimDatagrams> before = std::exchange(asker.socket, socket);
  asker.serial = serial;
  for (Conversation& each : asker.hosts) each.until_min = Time::min(), each.last_question = -1;
  if (before == nullptr || scenario_.refuse > 0) return;
  timeline_.In(microseconds(1), [this, before, socket, who = asker.guest.ToString()] {
    if (!before->closed && !socket->closed) Fail(who + " has two sockets");
  });
}

// ---------------------------------------------------------------- questions

DatagramFault GuestTalk::Refuse(const Datagram& datagram) {
  std::span<const uint8_t> bytes(datagram.data, datagram.length);
  // By what it is, so that it is the same when it is asked again.
  const bool v4 = datagram.path.peer.address.is_v4();
  for (const size_t head : {size_t{0}, kEchoHeader}) {
    if (bytes.size() < head) return {};
    const auto read = Read(bytes.subspan(head));
    if (!read || read->first != Kind::kQuestion) continue;
    const Name& name = read->second;
    const bool refused = Mix(scenario_.seed ^ uint64_t{name.asker} << 32 ^ name.number) % 2'000 <
                         static_cast<uint64_t>(scenario_.guest_faults);
    if (!refused || !datagram.dont_fragment) return {};
    const Config config;
    const DatagramFault fault{.kind = FaultKind::kTooBig,
                              .mtu = 1'280 + static_cast<uint32_t>(name.number % 1'000)};
    std::vector<ExpectedFault>& expected = faults_[name];
    if (expected.empty()) expected.push_back({.what = fault});
    expected.front().what.offender = v4 ? config.ipv4.gateway : config.ipv6.gateway;
    return fault;
  }
  return {};
}

void GuestTalk::OnQuestion(uint64_t serial, const std::shared_ptr<SimDatagrams>& socket,
                           const Datagram& datagram) {
  const bool echo = socket->request->kind == DatagramKind::kEcho;
  const size_t head = echo ? kEchoHeader : 0;
  if (datagram.length < head) return;
  const auto read = Read({datagram.data + head, datagram.length - head});
  if (!read) return;  // a stray's, or an answer that nobody asked for
  const Name name = read->second;
  Asker& asker = askers_[name.asker];
  const bool asked = read->first == Kind::kQuestion && asker.echo == echo;
  if (!asked) Fail("a host is asked what nobody sent");
  // One that gave way before the relay saw it may be opened last, and is closed at once.
  const bool newer = serial > asker.serial || (serial < asker.serial && asker.socket->closed);
  if (newer) AdoptSocket(asker, serial, socket);
  CheckQuestion(asker, name, datagram);
  const Question& question = questions_[name];
  Conversation& conversation = asker.hosts[name.host];
  if (serial == asker.serial) {
    if (!Swaps() && int64_t{name.number} <= conversation.last_question) {
      Fail("a question overtakes another one");
    }
    conversation.last_question = name.number;
    conversation.until_min =
        std::max(conversation.until_min, question.pushed + TimeoutOf(asker, name.host, false));
    asker.used_min = std::max(asker.used_min, question.pushed);
  }
  if (dice_.PerMille(scenario_.guest_faults)) return FaultOnce(name, socket, datagram);
  for (int64_t count = dice_.From(0, 2); count > 0; --count) {
    timeline_.In(microseconds(dice_.From(0, scenario_.guest_answer_ms * 1'000)),
                 [this, name, socket] { AnswerOnce(name, socket, Kind::kAnswer); });
  }
  if (!dice_.PerMille(100)) return;
  AnswerOnce(name, socket, echo || dice_.PerMille(500) ? Kind::kOtherAddress : Kind::kOtherPort);
}

void GuestTalk::CheckQuestion(const Asker& asker, const Name& name, const Datagram& datagram) {
  const size_t bytes = datagram.length - (asker.echo ? kEchoHeader : 0);
  const auto asked = questions_.find(name);
  if (asked == questions_.end() || asked->second.bytes != bytes) {
    Fail(absl::StrCat("a question of ", bytes, " bytes leaves that the guest did not ask"));
  }
  Question& question = asked->second;
  ++questions_arrived_;
  if (++question.arrived > 1 && scenario_.duplicate == 0) Fail("a question leaves twice");
  const Endpoint host = HostOf(asker, name.host);
  if (datagram.path.peer != host) {
    Fail(absl::StrCat("a question to ", host.ToString(), " goes to ",
                      datagram.path.peer.ToString()));
  }
  const Header& header = question.header;
  const int hop_limit = header.hop_limit - (IsAlias(asker, name.host) ? 0 : 1);
  // IPv6 has these two fields outside of any checksum.
  if (scenario_.corrupt > 0 && !host.address.is_v4()) return;
  if (datagram.hop_limit != hop_limit) Fail("a question leaves with another hop limit");
  if (datagram.traffic_class != (header.traffic_class & 0xfc)) {
    Fail("a question leaves with another DSCP");
  }
  if (datagram.dont_fragment != header.dont_fragment) {
    Fail("a question leaves with another don't-fragment bit");
  }
}

// ---------------------------------------------------------------- what comes back

void GuestTalk::AnswerOnce(const Name& asked, const std::shared_ptr<SimDatagrams>& socket,
                           Kind kind) {
  Asker& asker = askers_[asked.asker];
  Name name = asked;
  name.number = next_answer_++;
  const int64_t most =
      asker.echo ? std::min<int64_t>(scenario_.guest_bytes, 1'200) : scenario_.guest_bytes;
  // Of one length now and then, so that the kernel may join them.
  const int64_t least = dice_.PerMille(500) ? std::max<int64_t>(most, 64) : 64;
  const auto bytes = static_cast<size_t>(dice_.From(least, std::max<int64_t>(most, 64)));
  Bytes content = Content(kind, name, bytes);
  const DatagramPath path{.peer = kind == Kind::kAnswer ? HostOf(asker, asked.host)
                                                        : OtherThan(asker, asked.host, kind)};
  const bool v4 = path.peer.address.is_v4();
  if (asker.echo) {
    const Bytes header{static_cast<uint8_t>(v4 ? 0 : 129),
                       0,
                       0,
                       0,
                       static_cast<uint8_t>(socket->identifier >> 8),
                       static_cast<uint8_t>(socket->identifier),
                       0,
                       static_cast<uint8_t>(name.number)};
    content = Concat(header, content);
  }
  if (!socket->Arrive(path, content)) return;
  Answer& answer = answers_[name];
  answer.kind = kind;
  answer.bytes = bytes;
  NoteAnswer(asker, asked.host, socket == asker.socket, answer);
}

// An echo identifier has no ports, and its filtering is always the same.
void GuestTalk::NoteAnswer(Asker& asker, size_t host, bool newest, Answer& answer) {
  const Time now = timeline_.now();
  const bool filters = asker.echo || scenario_.guest_filtering != 2;
  if (asker.echo ? answer.kind != Kind::kAnswer : !MayAnswer(answer.kind)) return;
  Time until_min = asker.hosts[host].until_min, until_max = asker.hosts[host].until_max;
  if (!filters) {
    for (const Conversation& each : asker.hosts) {
      until_min = std::max(until_min, each.until_min);
      until_max = std::max(until_max, each.until_max);
    }
  }
  if (now >= until_max) return;
  answer.allowed = true;
  answer.due = newest && now < until_min;
  Conversation& conversation = asker.hosts[host];
  conversation.answered = true;
  // Without a filter a mapping counts as answered, whoever it asks next.
  if (!filters) {
    for (Conversation& each : asker.hosts) each.answered = true;
  }
  const bool other_port = answer.kind == Kind::kOtherPort && !filters;
  const Duration longest =
      other_port ? 2 * milliseconds(scenario_.guest_timeout_ms) : TimeoutOf(asker, host, true);
  // A question that is on its way comes to a conversation that is answered.
  const Time last_used = std::max(now, conversation.asked_max);
  conversation.until_max = std::max(conversation.until_max, last_used + longest);
  asker.used_max = std::max(asker.used_max, now);
  if (!answer.due) return;
  conversation.until_min = std::max(conversation.until_min, now + TimeoutOf(asker, host, true));
  asker.used_min = std::max(asker.used_min, now);
}

void GuestTalk::FaultOnce(const Name& asked, const std::shared_ptr<SimDatagrams>& socket,
                          const Datagram& datagram) {
  const Config config;
  const Asker& asker = askers_[asked.asker];
  const Endpoint host = HostOf(asker, asked.host);
  const bool v4 = host.address.is_v4();
  DatagramFault fault{
      .kind = dice_.OneOf({FaultKind::kPort, FaultKind::kHost, FaultKind::kNetwork,
                           FaultKind::kProhibited, FaultKind::kTooBig, FaultKind::kHopLimit})};
  if (fault.kind == FaultKind::kTooBig) fault.mtu = static_cast<uint32_t>(dice_.From(1'280, 9'000));
  const IpAddress router =
      v4 ? IpAddress::V4(198, 51, 100, 77) : *IpAddress::Parse("2001:db8:9::7");
  const IpAddress link_local = v4 ? IpAddress::V4(169, 254, 3, 3) : *IpAddress::Parse("fe80::3");
  fault.offender = dice_.OneOf({host.address, router, link_local, IpAddress()});
  const size_t index = faults_[asked].size();
  ExpectedFault& expected = faults_[asked].emplace_back(ExpectedFault{.what = fault});
  // Errors come from who the guest could have asked.
  const bool shown =
      fault.offender == router || (fault.offender == host.address && !IsAlias(asker, asked.host));
  if (!shown) expected.what.offender = v4 ? config.ipv4.gateway : config.ipv6.gateway;
  const std::span<const uint8_t> quoted(datagram.data,
                                        std::min<size_t>(datagram.length, kQuotedMax));
  const Bytes copy(quoted.begin(), quoted.end());
  // Not from within the call that sends it.
  timeline_.In(microseconds(dice_.From(0, scenario_.guest_answer_ms * 1'000)),
               [this, asked, index, socket, fault, host, copy] {
                 Asker& who = askers_[asked.asker];
                 const bool alive = socket->ArriveFault(fault, host, copy);
                 faults_[asked][index].due = alive && socket == who.socket &&
                                             timeline_.now() < who.hosts[asked.host].until_min;
               });
}

}  // namespace penstock::world
