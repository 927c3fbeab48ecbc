// The whole stack, relay and all, on virtual time (tests/world/rig.h), driven by any
// bytes: segments near what a TCP would send and far from it, raw frames, what the host's
// ends do, a link that refuses frames, time. Every invariant of tests/world/audit.h is
// checked after every step; what is broken ends the fuzzer with a sentence.
//
// An input is a head of four bytes and then steps of eight bytes each, so that a mutation
// changes a step and not the meaning of all that follow. A raw frame's bytes are its
// step's next ones.
//
//   head  form and offload, MTU, limits, how dials are answered
//   step  what, flow, flags, sequence, acknowledgement, window, length, options
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <span>
#include <stdexcept>
#include <vector>

#include "tests/support/guest_segment.h"
#include "tests/support/packet_builder.h"
#include "tests/support/udp_guest.h"
#include "tests/world/rig.h"
#include "tests/world/sim_datagrams.h"

namespace penstock {
namespace {

using world::HostPeer;
using world::Rig;
using world::RigOptions;

constexpr size_t kStepBytes = 8;
constexpr size_t kStepsMax = 2000;
constexpr size_t kFlows = 4;
constexpr size_t kHeardMax = 16;
constexpr size_t kMtuMin = 1'280;

// Where a flow is, as far as the frames to the guest have shown.
struct FuzzFlow {
  uint32_t guest_next = 0xffff0000;  // so that sequence numbers wrap
  uint32_t stack_next = 0;
  uint32_t acknowledged = 0;  // of the guest's, by the stack
};

class Run {
 public:
  explicit Run(std::span<const uint8_t> input)
      : rest_(input), head_{Byte(), Byte(), Byte(), Byte()}, rig_(Options()) {
    rig_.host().on_dial = [this](HostPeer& peer) { Answer(peer, head_[3]); };
    if ((head_[2] & 4) != 0) PublishUdp();
  }

  void Play() {
    for (size_t step = 0; step < kStepsMax && rest_.size() >= kStepBytes; ++step) {
      const std::span<const uint8_t> bytes = Take(kStepBytes);
      Step(bytes);
      rig_.Settle();
      Collect();
    }
    // Whatever state that left behind ends by its own deadlines; that is long to play.
    if ((head_[0] & 0x80) != 0) rig_.Advance(std::chrono::hours(3));
  }

 private:
  uint8_t Byte() {
    if (rest_.empty()) return 0;
    const uint8_t byte = rest_.front();
    rest_ = rest_.subspan(1);
    return byte;
  }
  std::span<const uint8_t> Take(size_t count) {
    count = std::min(count, rest_.size());
    const auto taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }

  // First bytes are looked at; some ports and names are denied.
  static std::shared_ptr<const Policy> LookingPolicy() {
    static const std::shared_ptr<const Policy> policy = *Policy::Parse(
        "deny egress ads.test\n"
        "deny egress any:1-80\n"
        "deny ingress @public\n"
        "default egress allow\n");
    return policy;
  }
  void ReplacePolicy(bool deny_all) {
    static const std::shared_ptr<const Policy> all = Policy::Profile("all");
    static const std::shared_ptr<const Policy> none = Policy::Profile("none");
    rig_.stack().SetPolicy(PolicyLayer::kPlatform, deny_all ? none : all, LiveFlows::kReset);
    Event event;
    while (rig_.stack().TakeEvent(event)) continue;
  }

  RigOptions Options() const {
    RigOptions options;
    options.config.guest_mac = kGuestMac;
    using Form = SteppedStack::Form;
    constexpr Form kForms[] = {Form::kRelayThread, Form::kOneThread, Form::kRelayThread,
                               Form::kOneThreadBusy};
    options.form = kForms[(head_[0] & 1) | (head_[0] & 0x40) >> 5];
    const bool offload = (head_[0] & 2) != 0;
    options.link = {.partial_checksum_to_guest = offload,
                    .tcp4_gso_to_guest = offload,
                    .tcp6_gso_to_guest = offload,
                    .udp_gso_to_guest = offload,
                    .frame_wakes_somebody = true};
    if ((head_[2] & 16) != 0) {
      options.config.udp_mapping_count_max = options.config.echo_count_max = 2;
      options.config.udp_filtering = static_cast<UdpFiltering>(head_[3] % 3);
    }
    constexpr uint32_t kMtus[] = {1280, 1500, 9000, 65520};
    options.config.mtu = kMtus[head_[1] % 4];
    if ((head_[1] & 0x80) != 0) {
      options.config.tenant_policy = LookingPolicy();
      options.config.denial_answer = static_cast<DenialAnswer>((head_[1] >> 4) % 3);
      options.config.event_count_max = 4;
    }
    if ((head_[2] & 1) != 0) options.config.buffer_bytes_max = 1 << 20;
    if ((head_[2] & 2) != 0) {
      options.config.flow_count_max = 2;
      options.config.half_open_count_max = options.config.half_open_per_destination_max = 1;
    }
    return options;
  }

  void Answer(HostPeer& peer, uint8_t how) {
    switch (how % 5) {
      case 0:
        return peer.Accept();
      case 1:
        return peer.Fail(ECONNREFUSED);
      case 2:
        return peer.Fail(EHOSTUNREACH);
      default:
        return;  // later, or never
    }
  }

  void Step(std::span<const uint8_t> bytes) {
    if ((head_[2] & 8) != 0 && bytes[0] % 8 == 7) return OwnDatagrams(bytes);
    switch (bytes[0] % 8) {
      case 0:
        return (bytes[3] & 0x80) != 0 && !ports_.empty() ? GuestDatagrams(bytes) : RawFrame(bytes);
      case 1:
      case 2:
      case 3:
        return Segment(bytes);
      case 4:
        return (bytes[1] & 0x80) != 0 && !ports_.empty() ? ClientActs(bytes) : HostActs(bytes);
      case 5:
        return rig_.Advance(std::chrono::microseconds(uint64_t{1} << (bytes[1] % 28)));
      case 6:
        if ((bytes[3] & 0x80) != 0) return ReplacePolicy((bytes[1] & 1) != 0);
        return rig_.link().SetRoom((bytes[1] & 1) != 0 ? MemoryLink::kUnlimited : bytes[2] % 8);
      case 7:
        return TooBigReport(bytes);
    }
  }

  // Frames whose addresses are right more often than chance would have it.
  void RawFrame(std::span<const uint8_t> bytes) {
    const auto body = Take(bytes[1] + size_t{bytes[2]} * 8);
    std::vector<uint8_t> frame;
    if ((bytes[3] & 1) != 0) {
      frame.assign(kGatewayMac.begin(), kGatewayMac.end());
      for (const uint8_t byte : kGuestMac) frame.push_back(byte);
    }
    for (const uint8_t byte : body) frame.push_back(byte);
    rig_.link().PushToHost(frame, {.checksum = static_cast<ChecksumState>(bytes[4] % 3),
                                   .gso = static_cast<Gso>(bytes[5] % 4),
                                   .checksum_start = bytes[6],
                                   .checksum_offset = static_cast<uint16_t>(bytes[4] / 3),
                                   .segment_bytes = static_cast<uint16_t>(bytes[7] * 16),
                                   .header_bytes = static_cast<uint16_t>(bytes[6] + 20)});
  }

  [[nodiscard]] GuestSegment SegmentOf(size_t index) const {
    const bool v6 = index % 2 == 1;
    return {.source = {v6 ? kGuest6 : kGuest4, static_cast<uint16_t>(40'000 + index)},
            .destination = {v6 ? kPeer6 : kPeer4, static_cast<uint16_t>(80 + index)}};
  }

  // Distances from where a TCP would be: none for the most part, else small or huge.
  static uint32_t Offset(uint8_t byte) {
    if (byte < 128) return 0;
    const auto distance = static_cast<int32_t>(byte) - 192;
    return static_cast<uint32_t>(byte % 2 == 0 ? distance : distance * 65'537);
  }

  void Segment(std::span<const uint8_t> bytes) {
    const size_t index = bytes[1] % kFlows;
    FuzzFlow& flow = flows_[index];
    GuestSegment segment = SegmentOf(index);
    segment.flags = bytes[2] & 0x3f;
    // What most segments have.
    if (bytes[0] >= 64 && !segment.Has(kTcpSyn)) segment.flags |= kTcpAck;
    segment.sequence = flow.guest_next + Offset(bytes[3]);
    segment.acknowledgement = flow.stack_next + Offset(bytes[4]);
    segment.window = static_cast<uint16_t>(bytes[5] * 257);
    segment.payload.assign(bytes[6] < 200 ? bytes[6] : (bytes[6] - 199) * 1'100, 'f');
    if ((bytes[7] & 1) != 0) segment.mss = static_cast<uint16_t>((bytes[7] >> 4) * 300);
    if ((bytes[7] & 2) != 0) segment.window_scale = bytes[7] >> 4;
    segment.sack_permitted = (bytes[7] & 4) != 0;
    if ((bytes[7] & 8) != 0 && segment.payload.size() > 600) {
      segment.offload.gso = index % 2 == 1 ? Gso::kTcp6 : Gso::kTcp4;
      segment.offload.segment_bytes = 536;
    }
    const bool in_order = bytes[3] < 128;
    const EncodedFrame frame =
        EncodeFrame({.source = kGuestMac, .destination = kGatewayMac}, segment);
    if (in_order) flow.guest_next += segment.SequenceLength();
    rig_.link().PushToHost(frame.bytes, frame.offload);
  }

  void HostActs(std::span<const uint8_t> bytes) {
    const auto& peers = rig_.host().peers();
    if (peers.empty()) return;
    HostPeer& peer = *peers[peers.size() - 1 - bytes[1] % std::min<size_t>(peers.size(), kFlows)];
    const size_t count = bytes[3] + size_t{bytes[4]} * 512;
    std::vector<uint8_t> room(count, 'h');
    switch (bytes[2] % 8) {
      case 0:
        return Answer(peer, bytes[3]);
      case 1:
        return peer.Send(room);
      case 2:
        (void)peer.Take(room);
        return;
      case 3:
        return peer.Finish();
      case 4:
        return peer.Reset((bytes[3] & 1) != 0 ? ECONNRESET : ETIMEDOUT);
      case 5:
        return peer.Leave();
      case 6:
        return peer.SetSendBuffer(count + 1);
      case 7:
        peer.write_max = bytes[3];
        peer.read_max = bytes[4];
        peer.interrupt_every = bytes[5] == 1 ? 2 : bytes[5];
        return;
    }
  }

  void TooBigReport(std::span<const uint8_t> bytes) {
    const size_t index = bytes[1] % kFlows;
    GuestSegment original = SegmentOf(index);
    std::swap(original.source, original.destination);
    original.flags = kTcpAck;
    original.sequence = flows_[index].stack_next - 1 + Offset(bytes[3]);
    original.payload.assign(1'000, 'q');
    const EncodedFrame frame = EncodeTooBig({.source = kGuestMac, .destination = kGatewayMac},
                                            {.original = original, .mtu = uint32_t{bytes[4]} * 16});
    rig_.link().PushToHost(frame.bytes, frame.offload);
  }

  // One port of each family, and one that shows its clients as they are.
  void PublishUdp() {
    for (size_t i = 0; i < 3; ++i) {
      const bool v6 = i == 1;
      const auto rows = rig_.stack().Publish(
          {.place = {.address = v6 ? *IpAddress::Parse("::") : IpAddress::V4(0, 0, 0, 0)},
           .guest = {53, 53},
           .protocol = PortProtocol::kUdp,
           .identity = i == 2 ? ClientIdentity::kPreserveSource
                              : static_cast<ClientIdentity>(head_[3] % 2 * 2)});
      if (!rows.ok()) throw std::runtime_error(rows.status().ToString());
      ports_.push_back(rows->front());
    }
  }

  void ClientActs(std::span<const uint8_t> bytes) {
    const size_t index = bytes[1] % ports_.size();
    world::SimDatagrams& socket = *rig_.host().datagrams(static_cast<int>(index));
    const bool v6 = !ports_[index].bound.address.is_v4();
    const DatagramPath client{.peer = {v6 ? kPeer6 : kPeer4, static_cast<uint16_t>(bytes[3] % 8)},
                              .local = v6 ? kPeer6 : kPeer4,
                              .interface = bytes[3] / 64u};
    const std::vector<uint8_t> payload(bytes[5] + size_t{bytes[6]} * 256, bytes[7]);
    switch (bytes[2] % 8) {
      case 0: {
        const uint32_t ids[] = {ports_[index].id};
        (void)rig_.stack().Unpublish(ids, LiveFlows::kReset);
        return;
      }
      case 1:
        return socket.SetRoom((bytes[4] & 1) != 0 ? SIZE_MAX : bytes[4] / 2);
      case 2:
        socket.batch_max = size_t{1} + bytes[4];
        return;
      default:
        for (int i = 0; i <= bytes[4] % 64; ++i) {
          (void)socket.Arrive(client,
                              std::span(payload).first(std::min<size_t>(payload.size(), 65'507)));
        }
        return;
    }
  }

  // To whom the guest heard last, to somebody near, or from another port; whole or cut.
  void GuestDatagrams(std::span<const uint8_t> bytes) {
    if (heard_.empty()) return;
    const GuestDatagram& heard = heard_[bytes[1] % heard_.size()];
    GuestDatagram answer{.source = heard.destination, .destination = heard.source};
    answer.payload.assign(bytes[4] + size_t{bytes[5]} * 256, bytes[7]);
    if (answer.payload.size() > 65'507) answer.payload.resize(65'507);
    if ((bytes[6] & 1) != 0) ++answer.destination.port;
    if ((bytes[6] & 2) != 0) ++answer.source.port;
    for (const Bytes& frame : udp_.Frames(answer, kMtuMin)) rig_.link().PushToHost(frame);
  }

  // The guest's own UDP and echo, and what the sockets for it meet.
  void OwnDatagrams(std::span<const uint8_t> bytes) {
    const Family family = (bytes[2] & 1) != 0 ? Family::kIpv6 : Family::kIpv4;
    const size_t length = bytes[4] + size_t{bytes[5]} * 64;
    switch (bytes[1] % 8) {
      case 0:
      case 1:
        return GuestPings(family, bytes, length);
      case 2:
      case 3:
      case 4:
        return GuestAsks(family, bytes, length);
      case 5:
        return HostAnswers(bytes, length);
      case 6:
        return SocketMeets(bytes, length);
      case 7:
        rig_.host().on_guest_socket = [error = bytes[3] % 4](const DatagramRequest&) {
          constexpr int kErrors[] = {0, EMFILE, EACCES, EAFNOSUPPORT};
          return kErrors[error];
        };
        return;
    }
  }

  void GuestPings(Family family, std::span<const uint8_t> bytes, size_t length) {
    Transport echo = EchoRequest(family, Bytes(std::min<size_t>(length, 1'200), bytes[7]));
    Put16(echo.bytes, 4, bytes[3] % 4);
    const IpSpec ip{.source = Guest(family), .destination = Peer(family), .hop_limit = bytes[6]};
    rig_.link().PushToHost(EthernetFrame(IpPacket(ip, echo)));
  }

  // Several in one frame, if the step says a length for each.
  void GuestAsks(Family family, std::span<const uint8_t> bytes, size_t length) {
    const IpSpec ip{.source = Guest(family), .destination = Peer(family), .hop_limit = bytes[6]};
    const Bytes frame = EthernetFrame(
        IpPacket(ip, UdpDatagram({.source_port = static_cast<uint16_t>(50'000 + bytes[3] % 4),
                                  .destination_port = static_cast<uint16_t>(52 + bytes[3] / 64),
                                  .payload = Bytes(length, bytes[7])})));
    const size_t segment_bytes = size_t{bytes[2]} * 8;
    const auto transport_at = static_cast<uint16_t>(TransportAt(family));
    if (segment_bytes < 16) return rig_.link().PushToHost(frame);
    rig_.link().PushToHost(frame, {.checksum = ChecksumState::kPartial,
                                   .gso = Gso::kUdp,
                                   .checksum_start = transport_at,
                                   .checksum_offset = 6,
                                   .segment_bytes = static_cast<uint16_t>(segment_bytes),
                                   .header_bytes = static_cast<uint16_t>(transport_at + 8)});
  }

  [[nodiscard]] world::SimDatagrams* OwnSocket(std::span<const uint8_t> bytes) {
    const auto& sockets = rig_.host().guest_sockets();
    if (sockets.empty()) return nullptr;
    world::SimDatagrams& socket = *sockets[bytes[3] % sockets.size()];
    return socket.closed ? nullptr : &socket;
  }

  // By whom it asked, or nearly.
  void HostAnswers(std::span<const uint8_t> bytes, size_t length) {
    world::SimDatagrams* socket = OwnSocket(bytes);
    if (socket == nullptr) return;
    const bool udp = socket->request->kind == DatagramKind::kUdp;
    const Endpoint peer{Peer(socket->request->family),
                        udp ? static_cast<uint16_t>(52 + bytes[6] % 8) : uint16_t{0}};
    socket->join_max = size_t{1} + bytes[2] / 4;
    for (int i = 0; i <= bytes[6] / 8; ++i) {
      (void)socket->Arrive({.peer = peer}, Bytes(length, bytes[7]));
    }
  }

  void SocketMeets(std::span<const uint8_t> bytes, size_t length) {
    world::SimDatagrams* socket = OwnSocket(bytes);
    if (socket == nullptr) return;
    if ((bytes[2] & 0x80) != 0) {
      socket->batch_max = size_t{1} + bytes[4];
      return socket->SetRoom((bytes[2] & 1) != 0 ? SIZE_MAX : bytes[5] % 8);
    }
    const Family family = socket->request->family;
    const auto kind = static_cast<FaultKind>(bytes[2] % 8);
    if ((bytes[2] & 0x40) != 0) {
      socket->refuse = [kind](const Datagram&) { return DatagramFault{.kind = kind}; };
      return;
    }
    const IpAddress offenders[] = {Peer(family), Guest(family), IpAddress(),
                                   Peer(family == Family::kIpv4 ? Family::kIpv6 : Family::kIpv4)};
    (void)socket->ArriveFault(
        {.kind = kind, .mtu = uint32_t{bytes[6]} * 64, .offender = offenders[bytes[6] % 4]},
        {Peer(family), bytes[7]}, Bytes(length, bytes[7]));
  }

  // What the stack sent has right lengths and checksums (DecodeFrame), and shows where
  // its flows are.
  void Collect() {
    while (const auto frame = rig_.link().PopToGuest()) {
      const auto segment = DecodeFrame(frame->bytes, frame->offload);
      if (!segment) {
        if (auto datagram = udp_.Take(frame->bytes, frame->offload)) {
          heard_.push_back(*std::move(datagram));
          if (heard_.size() > kHeardMax) heard_.pop_front();
        }
        if (udp_.malformed() > 0) throw std::runtime_error("the stack sent malformed UDP");
        continue;
      }
      const size_t index = segment->destination.port - size_t{40'000};
      if (index >= kFlows) continue;
      flows_[index].stack_next = segment->sequence + segment->SequenceLength();
    }
  }

  std::span<const uint8_t> rest_;
  const uint8_t head_[4];
  Rig rig_;
  FuzzFlow flows_[kFlows];
  std::vector<PublishedPort> ports_;  // UDP
  UdpGuest udp_;
  std::deque<GuestDatagram> heard_;  // by the guest
};

}  // namespace
}  // namespace penstock

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    penstock::Run run({data, size});
    run.Play();
  } catch (const std::exception& violation) {
    std::fprintf(stderr, "VIOLATION: %s\n", violation.what());
    std::abort();
  }
  return 0;
}
