// The guest's side of the talk, what datagrams say, and the end.
#include "tests/world/guest_talk.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/world/datagram_talk.h"
#include "tests/world/guest_tcp.h"
#include "tests/world/violation.h"

namespace penstock::world {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr uint32_t kTag = 0x47744b00;
// So that an echo never comes in fragments.
constexpr int64_t kEchoBytesMax = 1'200;
constexpr size_t kSuperBytesMax = 60'000;
constexpr size_t kIcmpHeader = 8;
constexpr uint16_t kFirstAskerPort = 6'000, kFirstIdentifier = 0x6100;

void Put(std::span<uint8_t> bytes, size_t at, uint32_t value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}
uint32_t GetHost(std::span<const uint8_t> bytes, size_t at) {
  uint32_t value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

void SetTrafficClass(Bytes& packet, uint8_t traffic_class) {
  if (packet[0] >> 4 == 4) {
    packet[1] = traffic_class;
    return FixIpv4Checksum(packet, 0);
  }
  packet[0] = static_cast<uint8_t>(0x60 | traffic_class >> 4);
  packet[1] = static_cast<uint8_t>((packet[1] & 0x0f) | traffic_class << 4);
}

// RFC 792, RFC 1812 5.2.7.1; RFC 4443 3. nullopt: no error.
std::optional<FaultKind> KindOf(bool v4, uint8_t type, uint8_t code) {
  const uint16_t both = static_cast<uint16_t>(type << 8 | code);
  if (v4) {
    if (both == 0x0300) return FaultKind::kNetwork;
    if (both == 0x0301) return FaultKind::kHost;
    if (both == 0x0303) return FaultKind::kPort;
    if (both == 0x0304) return FaultKind::kTooBig;
    if (both == 0x030d) return FaultKind::kProhibited;
    if (both == 0x0b00) return FaultKind::kHopLimit;
    return std::nullopt;
  }
  if (both == 0x0100) return FaultKind::kNetwork;
  if (both == 0x0103) return FaultKind::kHost;
  if (both == 0x0104) return FaultKind::kPort;
  if (both == 0x0200) return FaultKind::kTooBig;
  if (both == 0x0101) return FaultKind::kProhibited;
  if (both == 0x0300) return FaultKind::kHopLimit;
  return std::nullopt;
}

}  // namespace

GuestTalk::GuestTalk(const Scenario& scenario, Timeline& timeline, SteppedStack& stack,
                     GuestTalkEnds ends)
    : scenario_(scenario),
      timeline_(timeline),
      host_(stack.host().shared_from_this()),
      ends_(std::move(ends)),
      dice_(scenario.seed ^ 0x6775657374),
      guest_(GuestTcpOptions{}.mac),
      askers_(static_cast<size_t>(scenario.guest_asks)) {
  const Config config;
  for (uint16_t i = 0; i < askers_.size(); ++i) {
    Asker& asker = askers_[i];
    asker.echo = i % 4 == 3;
    const uint16_t first = asker.echo ? kFirstIdentifier : kFirstAskerPort;
    asker.guest = {i / 2 % 2 == 1 ? config.ipv6.guest : config.ipv4.guest,
                   static_cast<uint16_t>(first + i)};
    asker.hosts.resize(static_cast<size_t>(std::max<int64_t>(scenario_.guest_hosts, 1)));
    timeline_.In(microseconds(dice_.From(0, scenario_.guest_gap_us)), [this, i] { Ask(i); });
  }
  host_->on_guest_socket = [this](const DatagramRequest& request) {
    if (!dice_.PerMille(scenario_.guest_no_socket)) return 0;
    return request.kind == DatagramKind::kEcho ? dice_.OneOf({EMFILE, EACCES})
                                               : dice_.OneOf({EMFILE, EAFNOSUPPORT});
  };
  host_->on_guest_socket_opened = [this](const std::shared_ptr<SimDatagrams>& socket) {
    OnSocket(socket);
  };
}

// The stack may outlive the talk.
GuestTalk::~GuestTalk() {
  host_->on_guest_socket = nullptr;
  host_->on_guest_socket_opened = nullptr;
  for (const auto& socket : host_->guest_sockets()) {
    socket->error = nullptr;
    socket->refuse = nullptr;
    socket->sent = nullptr;
    socket->on_close = nullptr;
  }
}

void GuestTalk::Fail(const std::string& what) const { throw Violation("guest's UDP: " + what); }

bool GuestTalk::Swaps() const { return scenario_.reorder > 0 || scenario_.duplicate > 0; }

GuestTalk::Asker* GuestTalk::AskerOf(bool echo, const Endpoint& guest) {
  for (Asker& asker : askers_) {
    if (asker.echo == echo && asker.guest == guest) return &asker;
  }
  return nullptr;
}

// ---------------------------------------------------------------- what datagrams say

Bytes GuestTalk::Content(Kind kind, const Name& name, size_t bytes) const {
  Bytes content(bytes);
  const uint32_t tag = kTag + static_cast<uint32_t>(kind);
  const uint32_t who = uint32_t{name.asker} << 16 | name.host;
  Stream(scenario_.seed ^ uint64_t{who} << 32 ^ name.number ^ uint64_t{tag} << 20)
      .Fill(0, std::span(content));
  Put(content, 0, tag);
  Put(content, 4, who);
  Put(content, 8, name.number);
  Put(content, 12, static_cast<uint32_t>(bytes));
  return content;
}

std::optional<std::pair<GuestTalk::Kind, GuestTalk::Name>> GuestTalk::Read(
    std::span<const uint8_t> bytes) const {
  if (bytes.size() < kHeadBytes) return std::nullopt;
  const uint32_t tag = GetHost(bytes, 0), who = GetHost(bytes, 4), whole = GetHost(bytes, 12);
  if (tag < kTag || tag > kTag + 3 || whole < bytes.size() || whole > 65'535) return std::nullopt;
  const Name name{.asker = static_cast<uint16_t>(who >> 16),
                  .host = static_cast<uint16_t>(who),
                  .number = GetHost(bytes, 8)};
  if (name.asker >= askers_.size() || name.host >= askers_[name.asker].hosts.size()) {
    return std::nullopt;
  }
  const auto kind = static_cast<Kind>(tag - kTag);
  const Bytes sent = Content(kind, name, whole);
  if (!std::equal(bytes.begin(), bytes.end(), sent.begin())) {
    if (MayBeSpoilt(bytes)) return std::nullopt;
    Fail(absl::StrCat("a datagram of ", bytes.size(), " bytes arrives that nobody sent"));
  }
  return std::pair(kind, name);
}

// ---------------------------------------------------------------- the guest asks

void GuestTalk::Ask(uint16_t asker) {
  if (ends_.guest_paused()) {
    timeline_.In(milliseconds(50), [this, asker] { Ask(asker); });
    return;
  }
  AskBurst(asker);
  if (askers_[asker].asked >= scenario_.guest_questions * scenario_.guest_burst) return;
  timeline_.In(microseconds(dice_.From(1, scenario_.guest_gap_us)), [this, asker] { Ask(asker); });
}

void GuestTalk::AskBurst(uint16_t index) {
  const Asker& asker = askers_[index];
  const auto host = static_cast<uint16_t>(dice_.Below(asker.hosts.size()));
  const Header header{.hop_limit = static_cast<uint8_t>(dice_.From(2, 255)),
                      .traffic_class = static_cast<uint8_t>(dice_.From(0, 255)),
                      .dont_fragment = dice_.PerMille(500)};
  const int64_t most =
      asker.echo ? std::min(scenario_.guest_bytes, kEchoBytesMax) : scenario_.guest_bytes;
  const auto bytes = static_cast<size_t>(dice_.From(kBytesMin, std::max(kBytesMin, most)));
  const bool fits = bytes + 48 <= static_cast<size_t>(scenario_.mtu);
  if (scenario_.offload != 0 && !asker.echo && fits && dice_.PerMille(500)) {
    Bytes payload;
    for (int64_t i = 0; i < scenario_.guest_burst && payload.size() + bytes < kSuperBytesMax; ++i) {
      const bool last = i + 1 == scenario_.guest_burst;
      const size_t its =
          last ? static_cast<size_t>(dice_.From(kBytesMin, static_cast<int64_t>(bytes))) : bytes;
      payload = Concat(payload, NewQuestion(index, host, its, header));
    }
    return SendSegments(asker, host, payload, bytes, header);
  }
  for (int64_t i = 0; i < scenario_.guest_burst; ++i) {
    SendPacket(asker, host, NewQuestion(index, host, bytes, header), header);
  }
}

Bytes GuestTalk::NewQuestion(uint16_t index, uint16_t host, size_t bytes, const Header& header) {
  Asker& asker = askers_[index];
  const Name name{index, host, asker.asked++};
  const Time now = timeline_.now();
  Header expected = header;
  const size_t packet_bytes = bytes + 8 + (asker.guest.address.is_v4() ? 20 : 40);
  const bool whole = packet_bytes <= static_cast<size_t>(scenario_.mtu);
  expected.dont_fragment = whole && (header.dont_fragment || !asker.guest.address.is_v4());
  questions_[name] = {.bytes = bytes, .header = expected, .pushed = now};
  ++questions_sent_;
  const Duration link = microseconds(scenario_.delay_us + scenario_.jitter_us) +
                        (Swaps() ? kReorderSlack : Duration{});
  Conversation& conversation = asker.hosts[host];
  conversation.asked_max = std::max(conversation.asked_max, now + link);
  conversation.until_max =
      std::max(conversation.until_max, now + link + TimeoutOf(asker, host, conversation.answered));
  asker.used_max = std::max(asker.used_max, now + link);
  return Content(Kind::kQuestion, name, bytes);
}

void GuestTalk::SendPacket(const Asker& asker, size_t host, const Bytes& payload,
                           const Header& header) {
  constexpr uint32_t kIdentifications = 0x4000;
  const Endpoint seen = SeenAs(asker, host);
  const IpSpec ip{.source = asker.guest.address,
                  .destination = seen.address,
                  .hop_limit = header.hop_limit,
                  .fragment_field = static_cast<uint16_t>(header.dont_fragment ? 0x4000 : 0)};
  Transport transport = asker.echo ? EchoRequest(asker.guest.address.family, payload)
                                   : UdpDatagram({asker.guest.port, seen.port, payload});
  if (asker.echo) Put16(transport.bytes, 4, asker.guest.port);
  const size_t headers = ip.source.is_v4() ? 20 : 40, fragment_header = ip.source.is_v4() ? 0 : 8;
  const auto mtu = static_cast<size_t>(scenario_.mtu);
  std::vector<Bytes> packets;
  if (transport.bytes.size() + headers <= mtu) {
    packets.push_back(IpPacket(ip, transport));
  } else {
    packets = FragmentPackets(ip, transport, (mtu - headers - fragment_header) / 8 * 8,
                              kIdentifications + identification_++ % kIdentifications);
  }
  for (Bytes& packet : packets) {
    SetTrafficClass(packet, header.traffic_class);
    ends_.send(EthernetFrame(packet, {.source = GuestTcpOptions{}.mac}), {});
  }
}

void GuestTalk::SendSegments(const Asker& asker, size_t host, const Bytes& payload,
                             size_t segment_bytes, const Header& header) {
  if (payload.size() <= segment_bytes) return SendPacket(asker, host, payload, header);
  const Endpoint seen = SeenAs(asker, host);
  const bool v4 = seen.address.is_v4();
  Bytes packet =
      IpPacket({.source = asker.guest.address,
                .destination = seen.address,
                .hop_limit = header.hop_limit,
                .fragment_field = static_cast<uint16_t>(header.dont_fragment ? 0x4000 : 0)},
               UdpDatagram({asker.guest.port, seen.port, payload}));
  SetTrafficClass(packet, header.traffic_class);
  const size_t at = v4 ? 20 : 40;
  Put16(packet, at + 6,
        SlowTransportSum(asker.guest.address, seen.address, 17, Bytes(packet.size() - at, 0)));
  ends_.send(EthernetFrame(packet, {.source = GuestTcpOptions{}.mac}),
             {.checksum = ChecksumState::kPartial,
              .gso = Gso::kUdp,
              .checksum_start = static_cast<uint16_t>(kIpAt + at),
              .checksum_offset = 6,
              .segment_bytes = static_cast<uint16_t>(segment_bytes),
              .header_bytes = static_cast<uint16_t>(kIpAt + at + 8)});
}

// ---------------------------------------------------------------- what reaches the guest

bool GuestTalk::OnFrame(std::span<const uint8_t> frame) {
  constexpr uint8_t kUdp = 17, kFragment = 44;
  if (frame.size() < kTransport4At) return false;
  const bool v4 = frame[12] == 8 && frame[13] == 0;
  const bool v6 = frame[12] == 0x86 && frame[13] == 0xdd && frame.size() >= kTransport6At + 8;
  if (!v4 && !v6) return false;
  const uint8_t next = frame[v4 ? kIpAt + 9 : kIpAt + 6];
  const bool udp = next == kUdp || (v6 && next == kFragment && frame[kIpAt + 40] == kUdp);
  if (!udp) return OnIcmp(frame);
  if (const auto datagram = guest_.Take(frame)) {
    const Asker* asker = AskerOf(false, datagram->destination);
    if (asker != nullptr) OnAnswer(*asker, datagram->source, datagram->payload);
  }
  if (guest_.malformed() > 0 && scenario_.corrupt == 0) Fail("a malformed frame reached the guest");
  if (guest_.largest_packet() > static_cast<size_t>(scenario_.mtu)) {
    Fail("a packet is larger than the MTU");
  }
  return true;
}

void GuestTalk::OnAnswer(const Asker& asker, const Endpoint& source,
                         std::span<const uint8_t> bytes) {
  const auto read = Read(bytes);
  if (!read) {
    if (MayBeSpoilt(bytes)) return;
    Fail("a datagram of nobody's arrives");
  }
  const auto& [kind, name] = *read;
  const auto sent = answers_.find(name);
  if (sent == answers_.end() || sent->second.kind != kind || sent->second.bytes != bytes.size()) {
    Fail("an answer arrives that was not sent");
  }
  Answer& answer = sent->second;
  if (&askers_[name.asker] != &asker) Fail("an answer arrives at a port that did not ask");
  Endpoint expected = SeenAs(asker, name.host);
  if (kind == Kind::kOtherPort) expected.port = OtherThan(asker, name.host, kind).port;
  if (kind == Kind::kOtherAddress) expected = OtherThan(asker, name.host, kind);
  if (source.address != expected.address || (!asker.echo && source.port != expected.port)) {
    Fail(absl::StrCat("the answer of ", expected.ToString(), " comes from ", source.ToString()));
  }
  if (!answer.allowed) {
    Fail(MayAnswer(kind) ? "an answer arrives after it was to be forgotten who asked"
                         : "an answer arrives from whom the guest did not ask");
  }
  if (++answer.arrived > 1 && scenario_.duplicate == 0) Fail("an answer arrives twice");
  if (!asker.echo) ++udp_arrived_;
  int64_t& last = askers_[name.asker].hosts[name.host].last_answer;
  if (!Swaps() && int64_t{name.number} <= last) Fail("an answer overtakes another one");
  last = name.number;
}

bool GuestTalk::OnIcmp(std::span<const uint8_t> frame) {
  constexpr uint8_t kIcmpv4 = 1, kIcmpv6 = 58;
  const std::span<const uint8_t> packet = frame.subspan(kIpAt);
  const bool v4 = packet[0] == 0x45;
  if (v4 ? packet[9] != kIcmpv4 || (Get16(packet.first(20), 6) & 0x3fff) != 0
         : packet[0] >> 4 != 6 || packet[6] != kIcmpv6) {
    return false;
  }
  const size_t header = v4 ? 20 : 40, addresses_at = v4 ? 12 : 8, address = v4 ? 4 : 16;
  const IcmpMessage message{
      .source = IpAddress::From(packet.subspan(addresses_at, address)),
      .destination = IpAddress::From(packet.subspan(addresses_at + address, address)),
      .bytes = packet.subspan(header)};
  if (message.bytes.size() < kIcmpHeader) return false;
  const uint16_t sum = v4 ? SlowSum(message.bytes)
                          : SlowTransportSum(message.source, message.destination, kIcmpv6,
                                             Bytes(message.bytes.begin(), message.bytes.end()));
  if (sum != 0xffff || (v4 && SlowSum(packet.first(20)) != 0xffff)) {
    if (scenario_.corrupt == 0) Fail("an ICMP message arrives with a wrong checksum");
    return false;
  }
  const uint8_t type = message.bytes[0];
  if (type == (v4 ? 0 : 129)) return OnEchoReply(message);
  return KindOf(v4, type, message.bytes[1]) && OnError(message);
}

bool GuestTalk::OnEchoReply(const IcmpMessage& message) {
  const Asker* asker =
      AskerOf(true, {message.destination, Get16(message.bytes.first(kIcmpHeader), 4)});
  if (asker == nullptr) return false;
  OnAnswer(*asker, {message.source, 0}, message.bytes.subspan(kIcmpHeader));
  return true;
}

// Of TCP, and of what others sent, it is somebody else's.
bool GuestTalk::OnError(const IcmpMessage& message) {
  const bool v4 = message.source.is_v4();
  const std::span<const uint8_t> quoted = message.bytes.subspan(kIcmpHeader);
  const size_t header = v4 ? 20 : 40, addresses_at = v4 ? 12 : 8, address = v4 ? 4 : 16;
  if (quoted.size() < header + 8) return false;
  const uint8_t protocol = quoted[v4 ? 9 : 6];
  const bool echo = protocol == (v4 ? 1 : 58);
  if (!echo && protocol != 17) return false;
  const std::span<const uint8_t> transport = quoted.subspan(header);
  const IpAddress guest = IpAddress::From(quoted.subspan(addresses_at, address));
  const Asker* asker = AskerOf(echo, {guest, Get16(transport.first(8), echo ? 4 : 0)});
  if (asker == nullptr) return false;
  const auto read = Read(transport.subspan(8));
  if (!read || read->first != Kind::kQuestion) Fail("an ICMP error quotes what nobody sent");
  const Name& name = read->second;
  if (&askers_[name.asker] != asker) Fail("an ICMP error quotes another port of the guest's");
  if (message.destination != asker->guest.address) Fail("an ICMP error goes to somebody else");
  const Endpoint asked = SeenAs(*asker, name.host);
  const Endpoint host{IpAddress::From(quoted.subspan(addresses_at + address, address)),
                      echo ? uint16_t{0} : Get16(transport.first(8), 2)};
  if (host != asked) {
    Fail(absl::StrCat("an ICMP error quotes ", host.ToString(), " and not ", asked.ToString()));
  }
  CheckError(message, name, *KindOf(v4, message.bytes[0], message.bytes[1]));
  return true;
}

void GuestTalk::CheckError(const IcmpMessage& message, const Name& name, FaultKind kind) {
  const Config config;
  const IpAddress gateway = message.source.is_v4() ? config.ipv4.gateway : config.ipv6.gateway;
  const uint32_t mtu = kind == FaultKind::kTooBig ? Get32(message.bytes.first(8), 4) : 0;
  for (ExpectedFault& fault : faults_[name]) {
    const DatagramFault& what = fault.what;
    if (what.kind != kind || what.offender != message.source || what.mtu != mtu) continue;
    if (++fault.arrived > 1 && scenario_.duplicate == 0) Fail("an ICMP error arrives twice");
    return;
  }
  // IPv6 has no checksum over what the link spoilt in a header: its hop limit may be used up.
  if (kind == FaultKind::kHopLimit && !message.source.is_v4() && message.source == gateway &&
      message.bytes[kIcmpHeader + 7] <= 1 && scenario_.corrupt > 0) {
    return;
  }
  // What a call met says it, too.
  const bool unreachable = kind != FaultKind::kTooBig && kind != FaultKind::kHopLimit;
  if ((scenario_.guest_errors > 0 || scenario_.guest_no_socket > 0) && unreachable &&
      message.source == gateway) {
    return;
  }
  Fail(absl::StrCat("an ICMP error of kind ", static_cast<int>(kind), " by ",
                    message.source.ToString(), " (MTU ", mtu, ") arrives that nobody sent"));
}

// What was under way counts from its arrival; what waits for the stack may come too late.
void GuestTalk::OnJump(Time before) {
  const Time now = timeline_.now();
  for (Asker& asker : askers_) {
    if (asker.used_max < before) continue;
    asker.used_max = std::max(asker.used_max, now);
    for (size_t host = 0; host < asker.hosts.size(); ++host) {
      Conversation& conversation = asker.hosts[host];
      if (conversation.until_max == Time::min()) continue;
      conversation.asked_max = std::max(conversation.asked_max, now);
      conversation.until_max = std::max(conversation.until_max, now + TimeoutOf(asker, host, true));
    }
  }
  for (auto& [name, answer] : answers_) answer.due = answer.due && answer.arrived > 0;
  for (auto& [name, faults] : faults_) {
    for (ExpectedFault& fault : faults) fault.due = fault.due && fault.arrived > 0;
  }
}

// ---------------------------------------------------------------- the end

Duration GuestTalk::Length() const {
  return microseconds(scenario_.guest_gap_us * (scenario_.guest_questions + 1)) +
         milliseconds(scenario_.guest_answer_ms);
}

void GuestTalk::VerifyEnd(const CounterSnapshot& counters, bool lossless) const {
  if (!lossless || gave_way_) return;
  const uint64_t counted =
      counters.udp_lost_at_socket + counters.udp_lost_no_socket + counters.host_errors_to_guest +
      counters.drops_of(DropCause::kUdpQueueFull) + counters.drops_of(DropCause::kEchoQueueFull) +
      counters.drops_of(DropCause::kUdpMappingLimit) + counters.drops_of(DropCause::kEchoLimit) +
      counters.udp_lost_closed +  // the word that there was no socket
      (scenario_.jump_ms > 0 ? counters.drops_of(DropCause::kFragmentTimeout) : 0);
  if (questions_arrived_ + counted < questions_sent_) {
    Fail(absl::StrCat("of ", questions_sent_, " questions that went to a good link, ",
                      questions_arrived_, " arrived and ", counted, " were counted"));
  }
  if (counters.udp_lost_queue + counters.udp_lost_link_full + counters.udp_lost_closed +
          counters.replies_lost + counters.conversations_evicted >
      0) {
    return;
  }
  for (const auto& [name, answer] : answers_) {
    if (answer.due && answer.arrived == 0) {
      Fail(absl::StrCat("an answer to asker ", name.asker, " by host ", name.host,
                        " was in time and does not arrive"));
    }
  }
  for (const auto& [name, faults] : faults_) {
    for (const ExpectedFault& fault : faults) {
      if (!fault.due || fault.arrived > 0) continue;
      Fail(absl::StrCat("asker ", name.asker, " is not told of an error of kind ",
                        static_cast<int>(fault.what.kind)));
    }
  }
}

}  // namespace penstock::world
