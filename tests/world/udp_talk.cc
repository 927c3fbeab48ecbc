#include "tests/world/udp_talk.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "publisher/proxy_header.h"
#include "stack/wire/emit.h"
#include "tests/world/datagram_talk.h"
#include "tests/world/guest_tcp.h"
#include "tests/world/violation.h"

namespace penstock::world {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr uint16_t kGuestPort = 7'000, kClientPort = 10'000;
// For how long a socket of the host's may be full.
constexpr microseconds kFullMax = milliseconds(200);

IpAddress AddressOf(bool v6, const char* four, const char* six, size_t last) {
  IpAddress address = *IpAddress::Parse(v6 ? six : four);
  address.bytes[v6 ? 15 : 3] = static_cast<uint8_t>(last);
  return address;
}

void Put(std::vector<uint8_t>& bytes, size_t at, uint32_t value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}
uint32_t Get(std::span<const uint8_t> bytes, size_t at) {
  uint32_t value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

}  // namespace

UdpTalk::UdpTalk(const Scenario& scenario, Timeline& timeline, SteppedStack& stack,
                 UdpTalkEnds ends)
    : scenario_(scenario),
      timeline_(timeline),
      stack_(stack),
      ends_(std::move(ends)),
      dice_(scenario.seed ^ 0x756470),
      guest_(GuestTcpOptions{}.mac),
      ports_(static_cast<size_t>(scenario.udp_ports)) {
  for (size_t i = 0; i < ports_.size(); ++i) Publish(i);
  if (scenario_.unpublish_at_ms > 0) {
    timeline_.In(milliseconds(scenario_.unpublish_at_ms), [this] {
      // So that datagrams are somewhere on their way; the dice say where.
      for (uint16_t port = 0; port < ports_.size(); ++port) {
        for (uint16_t peer = 0; peer < ports_[port].peers.size(); ++peer) AskOnce(port, peer);
      }
      timeline_.In(Duration{}, [this] { Unpublish(); });
    });
  }
}

// The stack may outlive the talk.
UdpTalk::~UdpTalk() {
  for (const Port& port : ports_) {
    if (port.socket == nullptr) continue;
    port.socket->error = nullptr;
    port.socket->sent = nullptr;
  }
}

void UdpTalk::Fail(const std::string& what) const { throw Violation("UDP: " + what); }

// Every second port is IPv6; ports of one family lead to one port of the guest.
void UdpTalk::Publish(size_t index) {
  Port& port = ports_[index];
  const bool v6 = index % 2 == 1, away = scenario_.udp_away != 0;
  const auto guest_port = static_cast<uint16_t>(kGuestPort + index % 2);
  const IpAddress place =
      away ? AddressOf(v6, "0.0.0.0", "::", 0) : AddressOf(v6, "127.0.0.1", "::1", 1);
  const auto rows =
      stack_.stack().Publish({.place = {.address = place},
                              .guest = {guest_port, guest_port},
                              .protocol = PortProtocol::kUdp,
                              .identity = static_cast<ClientIdentity>(scenario_.udp_identity)});
  if (!rows.ok()) Fail(rows.status().ToString());
  port.id = rows->front().id;
  port.guest = rows->front().guest;
  port.socket = stack_.host().datagrams(static_cast<int>(index));
  port.socket->batch_max = static_cast<size_t>(scenario_.udp_batch);
  port.socket->error = [this] {
    return dice_.PerMille(scenario_.udp_errors) ? dice_.OneOf(kPassingErrors) : 0;
  };
  port.socket->sent = [this, index](const Datagram& datagram) {
    OnAnswer(static_cast<uint16_t>(index), datagram.path, {datagram.data, datagram.length});
    if (!dice_.PerMille(scenario_.udp_full)) return;
    ports_[index].socket->room = 0;
    timeline_.In(microseconds(dice_.From(1, kFullMax.count())),
                 [socket = ports_[index].socket] { socket->SetRoom(SIZE_MAX); });
  };
  for (size_t i = 0; i < static_cast<size_t>(scenario_.udp_peers); ++i) {
    Peer& peer = port.peers.emplace_back();
    const auto client_port = static_cast<uint16_t>(kClientPort + i / 100);
    if (away) {
      peer.path = {
          .peer = {AddressOf(v6, "198.51.100.0", "2001:db8:1::", 1 + i % 100), client_port},
          .local = AddressOf(v6, "192.0.2.0", "2001:db8:2::", 1 + i % 2)};
    } else {
      peer.path = {.peer = {place, static_cast<uint16_t>(kClientPort + i)}};
    }
    timeline_.In(microseconds(dice_.From(0, scenario_.udp_gap_us)),
                 [this, index, i] { Ask(static_cast<uint16_t>(index), static_cast<uint16_t>(i)); });
  }
}

void UdpTalk::Unpublish() {
  std::vector<uint32_t> ids;
  for (const Port& port : ports_) ids.push_back(port.id);
  ends_.note("the published UDP ports are removed");
  if (const absl::Status s = stack_.stack().Unpublish(ids, LiveFlows::kKeep); !s.ok()) {
    Fail(s.ToString());
  }
  unpublished_ = true;
  for (const Port& port : ports_) {
    if (!port.socket->closed) Fail("a port was removed, and its socket is open");
  }
}

// ---------------------------------------------------------------- what datagrams say

std::vector<uint8_t> UdpTalk::Content(Kind kind, const Name& name, size_t bytes) const {
  std::vector<uint8_t> content(bytes);
  const uint32_t tag = 0x55445000u + static_cast<uint32_t>(kind);
  const uint32_t who = uint32_t{name.port} << 16 | name.peer;
  Stream(scenario_.seed ^ uint64_t{who} << 32 ^ name.number ^ uint64_t{tag} << 20)
      .Fill(0, std::span(content));
  Put(content, 0, tag);
  Put(content, 4, who);
  Put(content, 8, name.number);
  Put(content, 12, static_cast<uint32_t>(bytes));
  return content;
}

UdpTalk::Name UdpTalk::Read(Kind kind, std::span<const uint8_t> bytes) const {
  if (bytes.size() < kHeadBytes) Fail("a datagram of nobody's arrives");
  const uint32_t who = Get(bytes, 4);
  const Name name{.port = static_cast<uint16_t>(who >> 16),
                  .peer = static_cast<uint16_t>(who),
                  .number = Get(bytes, 8)};
  const std::vector<uint8_t> sent = Content(kind, name, bytes.size());
  // Two flipped bytes of one datagram may make up for each other in its checksum.
  const bool unseen = scenario_.corrupt > 0 && sent.size() == bytes.size() &&
                      ChecksumFinish(ChecksumAdd(sent, 0)) == ChecksumFinish(ChecksumAdd(bytes, 0));
  if (!unseen && !std::equal(sent.begin(), sent.end(), bytes.begin(), bytes.end())) {
    Fail(absl::StrCat("a datagram of ", bytes.size(), " bytes arrives that nobody sent"));
  }
  return name;
}

// ---------------------------------------------------------------- clients

void UdpTalk::Ask(uint16_t port, uint16_t peer) {
  for (int64_t i = 0; i < scenario_.udp_burst; ++i) AskOnce(port, peer);
  const Peer& who = ports_[port].peers[peer];
  if (who.asked >= scenario_.udp_datagrams * scenario_.udp_burst) return;
  timeline_.In(microseconds(dice_.From(1, scenario_.udp_gap_us)),
               [this, port, peer] { Ask(port, peer); });
}

void UdpTalk::AskOnce(uint16_t port, uint16_t peer) {
  Peer& who = ports_[port].peers[peer];
  const Name name{.port = port, .peer = peer, .number = who.asked++};
  const auto bytes = static_cast<size_t>(dice_.From(kBytesMin, scenario_.udp_bytes));
  if (!ports_[port].socket->Arrive(who.path, Content(Kind::kQuestion, name, bytes))) return;
  questions_[name].first = bytes;
  who.refreshed = std::max(who.refreshed, timeline_.now());
  // Who asks again may get what is under way still.
  std::erase_if(late_, [&](const Name& late) { return late.port == port && late.peer == peer; });
}

void UdpTalk::OnAnswer(uint16_t port, const DatagramPath& to, std::span<const uint8_t> bytes) {
  const Name name = Read(Kind::kAnswer, bytes);
  const auto sent = answers_.find(name);
  if (sent == answers_.end()) Fail("an answer arrives that the guest did not send");
  // A client that is forgotten may be seen as itself by way of another port; whom the guest
  // answers then, it cannot tell.
  const bool itself = MayBeSeenAgain() && to == ports_[name.port].peers[name.peer].path;
  if (!itself && (name.port != port || !(ports_[port].peers[name.peer].path == to))) {
    Fail(absl::StrCat("the answer to client ", name.peer, " of port ", name.port, " leaves port ",
                      port, " for ", to.peer.ToString()));
  }
  if (++sent->second > 1 && scenario_.duplicate == 0) Fail("an answer arrives twice");
  CheckOrder(ports_[name.port].peers[name.peer].last_answer, name);
  if (!MayBeSeenAgain() && late_.contains(name)) {
    Fail("an answer arrives after its client was to be forgotten");
  }
}

// ---------------------------------------------------------------- the guest

bool UdpTalk::OnFrame(std::span<const uint8_t> frame) {
  constexpr size_t kIpv4ProtocolAt = 14 + 9, kIpv6NextAt = 14 + 6, kFragmentNextAt = 14 + 40;
  constexpr uint8_t kUdp = 17, kFragment = 44;
  if (frame.size() <= kIpv4ProtocolAt) return false;
  const bool v4 = frame[12] == 8 && frame[13] == 0;
  const bool v6 = frame[12] == 0x86 && frame[13] == 0xdd && frame.size() > kFragmentNextAt;
  const bool udp = (v4 && frame[kIpv4ProtocolAt] == kUdp) ||
                   (v6 && (frame[kIpv6NextAt] == kUdp ||
                           (frame[kIpv6NextAt] == kFragment && frame[kFragmentNextAt] == kUdp)));
  if (!udp) return false;
  if (const auto datagram = guest_.Take(frame)) {
    const auto leads_to = [&](const Port& port) { return port.guest == datagram->destination; };
    const bool ours = std::any_of(ports_.begin(), ports_.end(), leads_to);
    if (ours) OnQuestion(*datagram);  // else the guest's own talk's
  }
  if (guest_.malformed() > 0 && scenario_.corrupt == 0) Fail("a malformed frame reached the guest");
  if (guest_.largest_packet() > static_cast<size_t>(scenario_.mtu)) {
    Fail("a packet is larger than the MTU");
  }
  return true;
}

void UdpTalk::OnQuestion(const GuestDatagram& datagram) {
  std::span<const uint8_t> bytes(datagram.payload);
  const bool header = scenario_.udp_identity == 2;
  const size_t header_bytes = datagram.source.address.is_v4() ? 28 : 52;
  if (header) {
    if (bytes.size() < header_bytes) Fail("there is no proxy's header");
    bytes = bytes.subspan(header_bytes);
  }
  const Name name = Read(Kind::kQuestion, bytes);
  const auto asked = questions_.find(name);
  if (asked == questions_.end() || asked->second.first != bytes.size()) {
    Fail("a question arrives that was not asked");
  }
  if (++asked->second.second > 1 && scenario_.duplicate == 0) Fail("a question arrives twice");
  ++questions_arrived_;
  CheckOrder(ports_[name.port].peers[name.peer].last_question, name);
  CheckIdentity(datagram, name);
  // None, one or two answers; and one from a port that nobody asked.
  for (int64_t count = dice_.From(0, 2); count > 0; --count) {
    const Duration after = microseconds(dice_.From(0, scenario_.udp_answer_ms * 1'000));
    timeline_.In(after, [this, datagram, name] { Answer(datagram, name, false); });
  }
  if (dice_.PerMille(100)) Answer(datagram, name, true);
}

void UdpTalk::CheckOrder(int64_t& last, const Name& name) const {
  const bool swaps = scenario_.reorder > 0 || scenario_.duplicate > 0 || MayBeSeenAgain();
  if (!swaps && int64_t{name.number} <= last) Fail("a datagram overtakes another one");
  last = name.number;
}

void UdpTalk::CheckIdentity(const GuestDatagram& datagram, const Name& name) {
  Port& port = ports_[name.port];
  Peer& peer = port.peers[name.peer];
  const bool v4 = port.guest.address.is_v4();
  const Config config;
  const IpAddress gateway = v4 ? config.ipv4.gateway : config.ipv6.gateway;
  const bool shown = scenario_.udp_identity == 1 && scenario_.udp_away != 0;
  if (datagram.destination != port.guest) Fail("a question goes to another port of the guest's");
  if (datagram.source.address != (shown ? peer.path.peer.address : gateway)) {
    Fail("the guest sees " + datagram.source.ToString());
  }
  if (scenario_.udp_identity == 2) {
    const bool away = scenario_.udp_away != 0;
    const Endpoint host{away ? peer.path.local : port.socket->bound.address,
                        port.socket->bound.port};
    const auto header = ProxyHeader(PortProtocol::kUdp, peer.path.peer, host);
    if (!std::equal(header.begin(), header.end(), datagram.payload.begin())) {
      Fail("the proxy's header is wrong");
    }
  }
  // Nobody else was seen as the same: the gateway's ports are more than are used here. A
  // client's own address may be another published port's client's after it.
  const auto who = std::pair(name.port, name.peer);
  const auto [seen, is_new] = seen_.try_emplace({port.guest, datagram.source}, who);
  if (!is_new && seen->second != who && !MayBeSeenAgain()) {
    Fail("two clients are seen as " + datagram.source.ToString());
  }
  seen->second = who;
}

// Clients show their own addresses, and some may be forgotten.
bool UdpTalk::MayBeSeenAgain() const {
  return scenario_.udp_identity == 1 &&
         (scenario_.udp_peer_max < scenario_.udp_peers || unpublished_ ||
          scenario_.udp_timeout_ms < 120'000 + scenario_.jump_ms);
}

void UdpTalk::Answer(const GuestDatagram& question, const Name& asked, bool misled) {
  if (ends_.guest_paused()) {
    timeline_.In(milliseconds(50), [=, this] { Answer(question, asked, misled); });
    return;
  }
  Name name = asked;
  name.number = next_answer_++;
  const auto bytes = static_cast<size_t>(dice_.From(kBytesMin, scenario_.udp_bytes));
  GuestDatagram answer{.source = question.destination,
                       .destination = question.source,
                       .payload = Content(misled ? Kind::kMisled : Kind::kAnswer, name, bytes)};
  if (misled) answer.source.port += 100;
  if (!misled) {
    answers_[name] = 0;
    NoteSent(name);
  }
  for (const Bytes& frame : guest_.Frames(answer, static_cast<size_t>(scenario_.mtu))) {
    ends_.send(frame);
  }
}

// Refreshes its client when it arrives; unless nothing was heard of it for the timeout.
// (Time stands still while relay or stack have something to do, so a question refreshes at
// the moment at which it is asked.)
void UdpTalk::NoteSent(const Name& name) {
  Peer& peer = ports_[name.port].peers[name.peer];
  const Time now = timeline_.now();
  if (peer.refreshed + milliseconds(scenario_.udp_timeout_ms) <= now) {
    late_.insert(name);
    return;
  }
  const Duration link = microseconds(scenario_.delay_us + scenario_.jitter_us);
  peer.refreshed = std::max(peer.refreshed, now + link + kReorderSlack);
}

// What was under way refreshes when it arrives.
void UdpTalk::OnJump(Time before) {
  for (Port& port : ports_) {
    for (Peer& peer : port.peers) {
      if (peer.refreshed >= before) peer.refreshed = std::max(peer.refreshed, timeline_.now());
    }
  }
}

// ---------------------------------------------------------------- the end

Duration UdpTalk::Length() const {
  const int64_t answers = scenario_.udp_peers * scenario_.udp_datagrams * scenario_.udp_burst;
  return kFullMax * (answers * scenario_.udp_full / 1000) +
         microseconds(scenario_.udp_gap_us * (scenario_.udp_datagrams + 1)) +
         milliseconds(scenario_.udp_answer_ms + scenario_.unpublish_at_ms);
}

void UdpTalk::VerifyEnd(const CounterSnapshot& counters, const Others& others,
                        bool lossless) const {
  uint64_t taken = 0, sent = 0;
  for (const Port& port : ports_) {
    taken += port.socket->taken_by_relay;
    sent += port.socket->sent_by_relay;
    if (!port.socket->waiting.empty()) Fail("datagrams wait at a socket that nobody reads");
  }
  taken += others.to_guest;
  const uint64_t lost = counters.udp_lost_queue + counters.udp_lost_link_full +
                        counters.udp_lost_no_guest + counters.udp_lost_no_port +
                        counters.udp_lost_oversize + counters.udp_denied + counters.udp_filtered;
  const uint64_t to_guest = counters.udp_datagrams_to_guest;
  // What was under way when a port was removed, or a port of the guest's was closed, is
  // nobody's any more.
  if (unpublished_ || others.asks ? taken < to_guest + lost : taken != to_guest + lost) {
    Fail(absl::StrCat("the relay read ", taken, " datagrams; ", to_guest, " went to the guest, ",
                      lost, " were lost by a named cause"));
  }
  const uint64_t gone = sent + counters.udp_lost_at_socket + others.to_host;
  if (!others.asks && gone != counters.udp_datagrams_to_host) {
    Fail(absl::StrCat(counters.udp_datagrams_to_host, " datagrams went to the relay; it sent ",
                      sent, " and ", others.to_host, ", and lost ", counters.udp_lost_at_socket));
  }
  if (!lossless) return;
  if (questions_arrived_ + others.arrived != to_guest) {
    Fail(absl::StrCat("of ", to_guest, " datagrams that went to a good link, ",
                      questions_arrived_ + others.arrived, " arrived"));
  }
  const Duration round = milliseconds(scenario_.udp_answer_ms + 100) +
                         2 * microseconds(scenario_.delay_us + scenario_.jitter_us);
  const bool remembered = !unpublished_ && scenario_.pause_ms == 0 && scenario_.jump_ms == 0 &&
                          scenario_.udp_peers <= scenario_.udp_peer_max &&
                          round < milliseconds(scenario_.udp_timeout_ms);
  if (remembered && !others.asks && counters.drops_of(DropCause::kUdpQueueFull) == 0 &&
      counters.udp_datagrams_to_host - others.to_host != answers_.size()) {
    Fail(absl::StrCat("of ", answers_.size(), " answers, ",
                      counters.udp_datagrams_to_host - others.to_host, " found their client"));
  }
}

}  // namespace penstock::world
