#include "bench/counted_world.h"

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "bench/counted_socket.h"
#include "bench/counting.h"
#include "relay/tcp_task.h"
#include "relay/udp_task.h"
#include "stack/wire/packet.h"
#include "tests/world/timeline.h"

// A stack has no more flows than its process may have descriptors. Flows have none here, so
// libc's function of this name gives way, in this program, to one that knows no such limit.
extern "C" int getrlimit(__rlimit_resource_t resource, rlimit* limit) noexcept {
  if (resource != RLIMIT_NOFILE) {
    return prlimit(0, static_cast<__rlimit_resource>(resource), nullptr, limit);
  }
  *limit = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
  return 0;
}

namespace penstock::bench {
namespace {

using world::HostPeer;
using world::SimDatagrams;

constexpr MacAddress kGuestMac{0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
constexpr std::array<uint8_t, 4> kGuestAddress{10, 0, 2, 15};
constexpr std::array<uint8_t, 4> kHostAddress{192, 0, 2, 80};
constexpr uint16_t kMtu = 1'500;
constexpr uint16_t kMss = kMtu - 40;
// As Linux makes them: what fits 64 KiB with headers.
constexpr uint32_t kSuperSegmentBytes = 44 * kMss;
constexpr uint8_t kWindowScale = 8;
constexpr uint16_t kWindow = 0x4000;  // 4 MiB
constexpr uint32_t kDatagramBytes = 1'400;
constexpr uint16_t kDatagramPort = 5'300;
// A flow's number is in its ports.
constexpr size_t kPortsOfGuest = 60'000;
constexpr uint16_t kFirstGuestPort = 1'024;
constexpr uint16_t kFirstHostPort = 1'000;
// What a host's application writes at once.
constexpr size_t kHostWriteBytes = 256 << 10;
constexpr uint64_t kMebibyte = 1 << 20;
// Time that goes by in each pump: that of a round trip on a real machine.
constexpr Duration kTurn = std::chrono::microseconds(30);
constexpr size_t kHeaderBytes = 14 + 20;

void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "counted_world: %s\n", what);
  std::abort();
}

void Put16(std::vector<uint8_t>& out, uint32_t value) {
  out.push_back(static_cast<uint8_t>(value >> 8));
  out.push_back(static_cast<uint8_t>(value));
}
void Put32(std::vector<uint8_t>& out, uint32_t value) {
  Put16(out, value >> 16);
  Put16(out, value);
}
uint32_t Get16(const uint8_t* at) { return uint32_t{at[0]} << 8 | at[1]; }
uint32_t Get32(const uint8_t* at) { return Get16(at) << 16 | Get16(at + 2); }

uint32_t Sum(std::span<const uint8_t> bytes, uint32_t sum = 0) {
  for (size_t i = 0; i + 1 < bytes.size(); i += 2) sum += Get16(bytes.data() + i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

uint32_t PseudoHeaderSum(uint8_t protocol, uint32_t length) {
  const uint32_t length_sum = (length >> 16) + (length & 0xffff);
  return Sum(kGuestAddress, Sum(kHostAddress, protocol + length_sum));
}

// The window scale in the options of a SYN-ACK, which end at `end`.
uint8_t ScaleIn(const uint8_t* option, const uint8_t* end) {
  while (option < end && *option != 0 && *option != 3) option += *option == 1 ? 1 : option[1];
  Require(option < end && *option == 3, "the stack does not scale its window");
  return option[2];
}

// Ethernet and IPv4 of a frame from the guest, before `ip_payload_bytes`.
std::vector<uint8_t> Headers(uint8_t protocol, uint32_t ip_payload_bytes) {
  const MacAddress gateway = Config().gateway_mac;
  std::vector<uint8_t> out(gateway.begin(), gateway.end());
  out.insert(out.end(), kGuestMac.begin(), kGuestMac.end());
  Put16(out, 0x0800);
  Put16(out, 0x4500);
  Put16(out, 20 + ip_payload_bytes);
  Put32(out, 0x0000'4000);  // may not be fragmented
  Put16(out, uint32_t{64} << 8 | protocol);
  Put16(out, 0);
  out.insert(out.end(), kGuestAddress.begin(), kGuestAddress.end());
  out.insert(out.end(), kHostAddress.begin(), kHostAddress.end());
  const uint32_t checksum = ~Sum(std::span(out).subspan(14));
  out[24] = static_cast<uint8_t>(checksum >> 8);
  out[25] = static_cast<uint8_t>(checksum);
  return out;
}

Endpoint HostEndpoint(uint16_t port) {
  return {
      .address = IpAddress::V4(kHostAddress[0], kHostAddress[1], kHostAddress[2], kHostAddress[3]),
      .port = port};
}

std::shared_ptr<FlowTask> MakeCountedTask(std::shared_ptr<Relay> relay, FlowPipe& pipe) {
  return std::make_shared<TcpTask<CountedSocket>>(std::move(relay), pipe);
}

std::shared_ptr<DatagramTask> MakeCountedGuestSocket(Relay& relay,
                                                     std::shared_ptr<DatagramPipe> pipe) {
  auto& host = static_cast<world::SimHost&>(*relay.options().socket_factory);
  auto kernel = std::make_shared<SimDatagrams>(host);
  kernel->request = *pipe->request;
  if (host.on_guest_socket_opened) host.on_guest_socket_opened(kernel);
  return std::make_shared<UdpTask<CountedDatagramSocket>>(relay, std::move(pipe), kernel);
}

Config ConfigFor(size_t flow_count_max) {
  Config config;
  config.mtu = kMtu;
  config.guest_mac = kGuestMac;
  config.router_advertisements = false;
  config.flow_count_max = std::max(config.flow_count_max, static_cast<uint32_t>(flow_count_max));
  return config;
}

}  // namespace

CountedWorld::CountedWorld(size_t flow_count_max) : now_(world::kBegin), scratch_(kHostWriteBytes) {
  auto link = std::make_unique<CountedLink>();
  link_ = link.get();
  stepped_ = std::make_unique<SteppedStack>(
      SteppedStack::Form::kOneThread, ConfigFor(flow_count_max), std::move(link), 1,
      SteppedStack::Makers{&MakeCountedTask, &MakeCountedGuestSocket});
  stepped_->host().on_dial = [this](HostPeer& peer) { OnDial(peer); };
  stepped_->host().on_guest_socket_opened = [this](std::shared_ptr<SimDatagrams> socket) {
    socket->sent = [this](const Datagram& datagram) {
      datagrams_at_host_ +=
          datagram.segment_bytes == 0
              ? 1
              : (datagram.length + datagram.segment_bytes - 1) / datagram.segment_bytes;
    };
    host_datagrams_ = std::move(socket);
  };
  Pump();
}

CountedWorld::~CountedWorld() {
  for (GuestFlow& flow : flows_) {
    if (flow.host != nullptr) flow.host->on_change = nullptr;
  }
}

// ---------------------------------------------------------------- what is asked for

void CountedWorld::Open(size_t count) {
  while (flows_.size() < count) {
    Connect(flows_.size());
    RoundTrip(flows_.size() - 1);
  }
}

void CountedWorld::Connect(size_t flow) {
  flows_.resize(flow + 1);
  connecting_ = flow;
  Send(flow, {.flags = kTcpSyn});
  Pump();
  Require(flows_[flow].connected, "a flow was not opened");
}

void CountedWorld::RoundTrip(size_t flow) {
  const uint64_t before = flows_[flow].received;
  Send(flow, {.flags = kTcpAck | kTcpPsh, .payload_bytes = 1});
  Pump();
  Require(flows_[flow].received == before + 1, "a byte did not come back");
}

void CountedWorld::Up(size_t flow, uint64_t bytes) {
  GuestFlow& guest = flows_[flow];
  guest.sinks = true;
  const uint64_t wanted = guest.host_received + bytes;
  for (uint64_t left = bytes; left > 0;) {
    uint32_t window = guest.window_edge - guest.next;
    Require(window >= kMss, "the window stays shut");
    while (left > 0 && window >= std::min<uint64_t>(kMss, left)) {
      const auto payload = static_cast<uint32_t>(std::min<uint64_t>(
          {kSuperSegmentBytes, left, left > window ? window - window % kMss : left}));
      Send(flow, {.flags = kTcpAck, .payload_bytes = payload});
      window -= payload;
      left -= payload;
    }
    Pump();
  }
  Require(guest.host_received == wanted, "bytes to the host are missing");
  guest.sinks = false;
}

void CountedWorld::Down(size_t flow, uint64_t bytes) {
  GuestFlow& guest = flows_[flow];
  const uint64_t wanted = guest.received + bytes;
  for (uint64_t sent = 0; sent < bytes; sent += kHostWriteBytes) {
    guest.host->Send(scratch_);
    Pump();
  }
  Require(guest.received == wanted, "bytes to the guest are missing");
}

void CountedWorld::ConnectRequestClose() {
  const size_t number = flows_.size();
  Connect(number);
  flows_[number].closes = true;
  RoundTrip(number);
  Require(flows_[number].finished, "the host's end did not arrive");
  Send(number, {.flags = kTcpAck | kTcpFin});
  Pump();
  Require(flows_[number].host->closed(), "a flow did not end");
}

void CountedWorld::DatagramsUp(size_t count, size_t burst) {
  const uint64_t wanted = datagrams_at_host_ + count;
  for (size_t left = count; left > 0;) {
    const size_t now = std::min(burst, left);
    for (size_t i = 0; i < now; ++i) SendDatagram();
    Pump();
    left -= now;
  }
  Require(datagrams_at_host_ == wanted, "datagrams to the host are missing");
}

void CountedWorld::DatagramsDown(size_t count, size_t burst) {
  const uint64_t wanted = datagrams_at_guest_ + count;
  const auto datagram = std::span(scratch_).first(kDatagramBytes);
  for (size_t left = count; left > 0;) {
    const size_t now = std::min(burst, left);
    for (size_t i = 0; i < now; ++i) {
      (void)host_datagrams_->Arrive({.peer = HostEndpoint(kDatagramPort)}, datagram);
    }
    Pump();
    left -= now;
  }
  Require(datagrams_at_guest_ == wanted, "datagrams to the guest are missing");
}

// ---------------------------------------------------------------- turns

void CountedWorld::Pump() {
  now_ = After(now_, kTurn);
  for (bool moved = true; moved;) {
    moved = false;
    if (link_->has_to_host()) stepped_->OnLink();
    {
      const Counting penstock;
      if (stepped_->PassDue(now_)) {
        stepped_->RunPass(now_);
        moved = true;
      }
      while (stepped_->RunRelay(now_)) moved = true;
    }
    moved |= GuestTakes();
    moved |= HostActs();
  }
}

// ---------------------------------------------------------------- the guest

void CountedWorld::Send(size_t flow, const Segment& segment) {
  GuestFlow& guest = flows_[flow];
  const bool syn = (segment.flags & kTcpSyn) != 0;
  const uint32_t tcp_bytes = (syn ? 28 : 20) + segment.payload_bytes;
  std::vector<uint8_t> out = Headers(6, tcp_bytes);
  Put16(out, static_cast<uint32_t>(kFirstGuestPort + flow % kPortsOfGuest));
  Put16(out, static_cast<uint32_t>(kFirstHostPort + flow / kPortsOfGuest));
  Put32(out, guest.next);
  Put32(out, syn ? 0 : guest.expected);
  Put16(out, (syn ? 0x7000u : 0x5000u) | segment.flags);
  Put16(out, kWindow);
  Put16(out, PseudoHeaderSum(6, tcp_bytes));
  Put16(out, 0);
  if (syn) {
    Put32(out, 0x0204'0000u | kMss);
    Put32(out, 0x0103'0300u | kWindowScale);
  }
  Offload offload{
      .checksum = ChecksumState::kPartial, .checksum_start = kHeaderBytes, .checksum_offset = 16};
  if (segment.payload_bytes > kMss) {
    offload.gso = Gso::kTcp4;
    offload.segment_bytes = kMss;
    offload.header_bytes = static_cast<uint16_t>(out.size());
  }
  guest.next += segment.payload_bytes + (syn || (segment.flags & kTcpFin) != 0 ? 1 : 0);
  guest.must_acknowledge = false;
  link_->Push({.head = std::move(out), .payload_bytes = segment.payload_bytes, .offload = offload});
}

void CountedWorld::SendDatagram() {
  std::vector<uint8_t> out = Headers(17, 8 + kDatagramBytes);
  Put16(out, kDatagramPort);
  Put16(out, kDatagramPort);
  Put16(out, 8 + kDatagramBytes);
  Put16(out, PseudoHeaderSum(17, 8 + kDatagramBytes));
  link_->Push({.head = std::move(out),
               .payload_bytes = kDatagramBytes,
               .offload = {.checksum = ChecksumState::kPartial,
                           .checksum_start = kHeaderBytes,
                           .checksum_offset = 6}});
}

bool CountedWorld::GuestTakes() {
  const std::vector<CountedLink::ToGuest> frames = link_->Take();
  for (const CountedLink::ToGuest& frame : frames) {
    const uint8_t* ip = frame.head.data() + 14;
    if (Get16(ip - 2) != 0x0800) continue;
    if (ip[9] == 17) {
      // One frame of several is cut by the guest's kernel.
      datagrams_at_guest_ += (frame.length - kHeaderBytes - 8) / kDatagramBytes;
    } else if (ip[9] == 6) {
      const uint32_t source = Get16(ip + 20), destination = Get16(ip + 22);
      TakeSegment((source - kFirstHostPort) * kPortsOfGuest + destination - kFirstGuestPort, frame);
    }
  }
  for (const size_t flow : std::exchange(to_acknowledge_, {})) {
    if (flows_[flow].must_acknowledge) Send(flow, {.flags = kTcpAck});
  }
  return !frames.empty();
}

void CountedWorld::TakeSegment(size_t number, const CountedLink::ToGuest& frame) {
  Require(number < flows_.size(), "a segment of nobody's");
  GuestFlow& flow = flows_[number];
  const uint8_t* tcp = frame.head.data() + kHeaderBytes;
  const uint8_t flags = tcp[13];
  const uint32_t payload = frame.length - kHeaderBytes - uint32_t{tcp[12]} / 16 * 4;
  Require((flags & kTcpRst) == 0, "a flow was reset");
  const bool syn = (flags & kTcpSyn) != 0;
  if (syn) {
    flow.connected = true;
    flow.expected = Get32(tcp + 4);
    flow.stack_scale = ScaleIn(tcp + 20, tcp + tcp[12] / 16 * 4);
  }
  Require(Get32(tcp + 4) == flow.expected, "a segment is out of order");
  flow.expected += payload + (syn || (flags & kTcpFin) != 0 ? 1 : 0);
  flow.received += payload;
  flow.window_edge = Get32(tcp + 8) + (Get16(tcp + 14) << (syn ? 0 : flow.stack_scale));
  flow.finished |= (flags & kTcpFin) != 0;
  if (payload > kMss) {
    Send(number, {.flags = kTcpAck});
  } else if (syn || flow.finished || (payload > 0 && acknowledges_at_once_)) {
    flow.must_acknowledge = true;
    to_acknowledge_.push_back(number);
  }
}

// ---------------------------------------------------------------- the host

void CountedWorld::OnDial(HostPeer& peer) {
  const size_t number = connecting_;
  flows_[number].host = peer.shared_from_this();
  peer.on_change = [this, number] {
    if (number >= flows_.size() || std::exchange(flows_[number].host_changed, true)) return;
    changed_.push_back(number);
  };
  peer.Accept();
}

bool CountedWorld::HostActs() {
  bool moved = false;
  for (const size_t number : std::exchange(changed_, {})) {
    GuestFlow& flow = flows_[number];
    flow.host_changed = false;
    const size_t taken = flow.host->Take(scratch_);
    if (taken == 0) continue;
    moved = true;
    flow.host_received += taken;
    if (flow.host->arrived() > 0 && !std::exchange(flow.host_changed, true)) {
      changed_.push_back(number);
    }
    if (!flow.sinks) flow.host->Send(std::span(scratch_).first(taken));
    if (flow.closes) flow.host->Leave();
  }
  return moved;
}

}  // namespace penstock::bench
