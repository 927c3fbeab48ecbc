// The floor under every user-mode stack: what the two copies through the kernel cost
// alone. It takes a stack's place in bench/run (topology.py: Floor) and carries the same
// traffic, with everything left out that makes a network of it:
//
//   to the host   read(tap) a super-segment, send() its payload, write(tap) its ACK
//   to the guest  recv() up to 64 KiB, write(tap) one super-segment in front of them
//
// Both with the virtio-net header and segmentation offload. One thread, one buffer, no
// copy of its own. What is missing, and what each real stack pays for: nothing is sent
// again, so a lost frame stands still for good; nothing is reordered, verified, limited
// or timed; send() blocks, so a slow reader stops all flows; any destination port leads
// to 127.0.0.1; the guest's address and its Ethernet address are taken from its frames.
// It trusts its guest and must never be more than a measuring instrument.
//
//   floor_bench --pid PID --mtu N --ready-fd FD
//
// makes tap0 in the network namespace of PID (which has to be configured by who started
// it, also with kOurMac as the gateway's neighbour), writes to FD and runs until a signal.
// TCP over IPv4 only, RFC 9293 as far as a lossless cable needs it.
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "bench/program.h"

namespace penstock {
namespace {

constexpr std::array<uint8_t, ETH_ALEN> kOurMac{0x02, 0, 0, 0, 0, 0x02};
constexpr uint8_t kWindowShift = 7;
constexpr uint16_t kWindow = 0x8000;  // 4 MiB, always: send() blocks instead
constexpr size_t kIpBytesMax = 65'535;
constexpr int kFramesPerTurn = 16, kBlocksPerTurn = 4;
constexpr uint8_t kFin = 0x01, kSyn = 0x02, kRst = 0x04, kPush = 0x08, kAck = 0x10;

// VIRTIO 1.2, 5.1.6, without num_buffers; the kernel's header for it is no C++.
struct VirtioHeader {
  uint8_t flags, gso_type;
  uint16_t header_bytes, gso_bytes, checksum_start, checksum_offset;
};
constexpr uint8_t kNeedsChecksum = 1, kGsoTcp4 = 1;

// Everything in front of the payload, as it lies in the buffer.
struct [[gnu::packed]] Headers {
  VirtioHeader virtio;
  ether_header ethernet;
  iphdr ip;
  tcphdr tcp;
};
constexpr size_t kIpTcpBytes = sizeof(iphdr) + sizeof(tcphdr);

struct Flow {
  int socket = -1;
  Headers to_guest{};       // of the next frame; numbers and lengths are filled in
  uint32_t expected = 0;    // from the guest: its next sequence number
  uint32_t next = 0;        // to the guest: ours
  uint32_t window_end = 0;  // up to which the guest takes bytes
  uint8_t window_shift = 0;
  uint16_t mss = 0;
  bool readable = false, host_ended = false, guest_ended = false;
};

uint32_t Sum(const void* bytes, size_t count) {
  uint32_t sum = 0;
  for (size_t i = 0; i < count; i += 2) {
    uint16_t word = 0;
    std::memcpy(&word, static_cast<const uint8_t*>(bytes) + i, sizeof word);
    sum += word;
  }
  return sum;
}

uint16_t Fold(uint32_t sum) {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

// A tap in another process's network namespace; this process stays in its own.
int OpenTap(const std::string& pid) {
  const int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  const int guest = open(("/proc/" + pid + "/ns/net").c_str(), O_RDONLY | O_CLOEXEC);
  if (own < 0 || guest < 0) FailErrno("/proc/" + pid + "/ns/net");
  if (setns(guest, CLONE_NEWNET) != 0) FailErrno("setns");
  const int tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (tap < 0) FailErrno("/dev/net/tun");
  ifreq request{};
  std::strcpy(request.ifr_name, "tap0");
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (ioctl(tap, TUNSETIFF, &request) != 0) FailErrno("TUNSETIFF");
  if (ioctl(tap, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) != 0) FailErrno("TUNSETOFFLOAD");
  if (setns(own, CLONE_NEWNET) != 0) FailErrno("setns");
  close(own);
  close(guest);
  return tap;
}

class Floor {
 public:
  Floor(int tap, size_t mtu) : tap_(tap), mtu_(mtu), flows_(65'536), buffer_(1 << 17) {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) FailErrno("epoll_create1");
    Watch(tap, EPOLLIN, 0);
  }

  [[noreturn]] void Run() {
    std::array<epoll_event, 64> events;
    bool idle = true;
    for (;;) {
      const int count = epoll_wait(epoll_, events.data(), events.size(), idle ? -1 : 0);
      for (int i = 0; i < count; ++i) {
        const uint64_t port = events[static_cast<size_t>(i)].data.u64;
        if (port == 0 || flows_[port] == nullptr) continue;
        flows_[port]->readable = true;
        MarkReady(static_cast<uint16_t>(port));
      }
      idle = !ReadFrames();
      std::vector<uint16_t> ready;
      ready.swap(ready_);
      for (const uint16_t port : ready) Pump(port);
      idle = idle && ready_.empty();
    }
  }

 private:
  void Watch(int descriptor, uint32_t events, uint64_t port) const {
    epoll_event event{.events = events, .data = {.u64 = port}};
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event) != 0) FailErrno("epoll_ctl");
  }

  void MarkReady(uint16_t port) {
    if (std::find(ready_.begin(), ready_.end(), port) == ready_.end()) ready_.push_back(port);
  }

  // True if there may be more.
  bool ReadFrames() {
    for (int i = 0; i < kFramesPerTurn; ++i) {
      const ssize_t length = read(tap_, buffer_.data(), buffer_.size());
      if (length < 0) return false;
      TakeFrame(static_cast<size_t>(length));
    }
    return true;
  }

  void TakeFrame(size_t length) {
    Headers headers;
    if (length < sizeof headers) return;
    std::memcpy(&headers, buffer_.data(), sizeof headers);
    if (headers.ethernet.ether_type != htons(ETHERTYPE_IP) || headers.ip.version != 4 ||
        headers.ip.ihl != 5 || headers.ip.protocol != IPPROTO_TCP) {
      return;
    }
    const uint16_t port = ntohs(headers.tcp.source);
    const size_t offset = sizeof headers - sizeof(tcphdr) + headers.tcp.doff * size_t{4};
    const size_t frame_bytes =
        sizeof headers - kIpTcpBytes + static_cast<size_t>(ntohs(headers.ip.tot_len));
    if (frame_bytes > length || offset > frame_bytes) return;
    if (headers.tcp.syn != 0) return Open(port, headers, offset);
    if (flows_[port] == nullptr) return;
    if (headers.tcp.rst != 0) return Close(port);
    TakeSegment(port, headers.tcp, offset, frame_bytes - offset);
  }

  // Connects, which on loopback takes no time, and answers the SYN.
  void Open(uint16_t port, const Headers& syn, size_t options_end) {
    Close(port);
    auto flow = std::make_unique<Flow>();
    flow->socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in to{.sin_family = AF_INET,
                         .sin_port = syn.tcp.dest,
                         .sin_addr = {htonl(INADDR_LOOPBACK)},
                         .sin_zero = {}};
    const int on = 1;
    if (flow->socket < 0 ||
        setsockopt(flow->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        connect(flow->socket, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
      FailErrno("connect");
    }
    ReadOptions(*flow, options_end);
    flow->expected = ntohl(syn.tcp.seq) + 1;
    flow->window_end = ntohs(syn.tcp.window);
    Address(*flow, syn);
    SendSynAck(*flow);
    Watch(flow->socket, EPOLLIN | EPOLLRDHUP | EPOLLET, port);
    flows_[port] = std::move(flow);
  }

  // The MSS and the window scale of the SYN in the buffer.
  void ReadOptions(Flow& flow, size_t end) const {
    flow.mss = 536;
    for (size_t at = sizeof(Headers); at + 1 < end && buffer_[at] != TCPOPT_EOL;) {
      if (buffer_[at] == TCPOPT_NOP) {
        ++at;
        continue;
      }
      const size_t length = std::max<size_t>(buffer_[at + 1], 2);
      if (buffer_[at] == TCPOPT_MAXSEG && at + 4 <= end) {
        flow.mss = static_cast<uint16_t>(buffer_[at + 2] << 8 | buffer_[at + 3]);
      } else if (buffer_[at] == TCPOPT_WINDOW && at + 3 <= end) {
        flow.window_shift = buffer_[at + 2];
      }
      at += length;
    }
    flow.mss = std::min(flow.mss, static_cast<uint16_t>(mtu_ - kIpTcpBytes));
  }

  static void Address(Flow& flow, const Headers& from) {
    Headers& to = flow.to_guest;
    std::copy_n(from.ethernet.ether_shost, ETH_ALEN, to.ethernet.ether_dhost);
    std::copy(kOurMac.begin(), kOurMac.end(), to.ethernet.ether_shost);
    to.ethernet.ether_type = htons(ETHERTYPE_IP);
    to.ip.version = 4;
    to.ip.ihl = 5;
    to.ip.ttl = 64;
    to.ip.protocol = IPPROTO_TCP;
    to.ip.saddr = from.ip.daddr;
    to.ip.daddr = from.ip.saddr;
    to.tcp.source = from.tcp.dest;
    to.tcp.dest = from.tcp.source;
    to.tcp.window = htons(kWindow);
    to.virtio.checksum_start = sizeof(ether_header) + sizeof(iphdr);
    to.virtio.checksum_offset = offsetof(tcphdr, check);
    to.virtio.flags = kNeedsChecksum;
    to.virtio.header_bytes = sizeof(Headers) - sizeof(VirtioHeader);
  }

  void SendSynAck(Flow& flow) {
    const std::array<uint8_t, 8> options{TCPOPT_MAXSEG,
                                         TCPOLEN_MAXSEG,
                                         static_cast<uint8_t>((mtu_ - kIpTcpBytes) >> 8),
                                         static_cast<uint8_t>(mtu_ - kIpTcpBytes),
                                         TCPOPT_NOP,
                                         TCPOPT_WINDOW,
                                         TCPOLEN_WINDOW,
                                         kWindowShift};
    std::copy(options.begin(), options.end(), buffer_.begin() + sizeof(Headers));
    Send(flow, kSyn | kAck, options.size(), options.size());
    ++flow.next;
    flow.window_end += flow.next;
  }

  void TakeSegment(uint16_t port, const tcphdr& tcp, size_t offset, size_t length) {
    Flow& flow = *flows_[port];
    const uint32_t end =
        ntohl(tcp.ack_seq) + (static_cast<uint32_t>(ntohs(tcp.window)) << flow.window_shift);
    if (static_cast<int32_t>(end - flow.window_end) > 0) {
      flow.window_end = end;
      if (flow.readable) MarkReady(port);
    }
    if (length == 0 && tcp.fin == 0) return;
    if (ntohl(tcp.seq) == flow.expected) {
      if (length > 0 && send(flow.socket, &buffer_[offset], length, MSG_NOSIGNAL) !=
                            static_cast<ssize_t>(length)) {
        return Reset(port);
      }
      flow.expected += static_cast<uint32_t>(length);
      if (tcp.fin != 0) {
        ++flow.expected;
        flow.guest_ended = true;
        shutdown(flow.socket, SHUT_WR);
      }
    }
    Send(flow, kAck, 0, 0);
    if (flow.host_ended && flow.guest_ended) Close(port);
  }

  // What the host has for the guest, as far as the guest's window and fairness allow.
  void Pump(uint16_t port) {
    for (int i = 0; i < kBlocksPerTurn; ++i) {
      if (flows_[port] == nullptr) return;
      Flow& flow = *flows_[port];
      const int32_t room = static_cast<int32_t>(flow.window_end - flow.next);
      const size_t whole = (kIpBytesMax - kIpTcpBytes) / flow.mss * flow.mss;
      // Small pieces of a closing window would cost as much as large ones.
      if (!flow.readable || flow.host_ended || room < flow.mss) return;
      const size_t wanted = std::min(whole, static_cast<size_t>(room));
      const ssize_t length = recv(flow.socket, &buffer_[sizeof(Headers)], wanted, MSG_DONTWAIT);
      if (length < 0 && errno == EAGAIN) {
        flow.readable = false;
        return;
      }
      if (length < 0) return Reset(port);
      if (length == 0) return EndToGuest(port);
      Send(flow, kAck | kPush, 0, static_cast<size_t>(length));
      flow.next += static_cast<uint32_t>(length);
    }
    MarkReady(port);
  }

  void EndToGuest(uint16_t port) {
    Flow& flow = *flows_[port];
    Send(flow, kFin | kAck, 0, 0);
    ++flow.next;
    flow.host_ended = true;
    if (flow.guest_ended) Close(port);
  }

  void Reset(uint16_t port) {
    Send(*flows_[port], kRst | kAck, 0, 0);
    Close(port);
  }

  void Close(uint16_t port) {
    if (flows_[port] == nullptr) return;
    close(flows_[port]->socket);
    flows_[port].reset();
  }

  // One write: the headers, laid in front of `length` bytes in the buffer, of which
  // `options` are TCP options. The checksum is left open: the guest's kernel knows.
  void Send(const Flow& flow, uint8_t flags, size_t options, size_t length) {
    Headers headers = flow.to_guest;
    const size_t tcp_bytes = sizeof(tcphdr) + length;
    headers.ip.tot_len = htons(static_cast<uint16_t>(sizeof(iphdr) + tcp_bytes));
    headers.ip.check = static_cast<uint16_t>(~Fold(Sum(&headers.ip, sizeof(iphdr))));
    headers.tcp.seq = htonl(flow.next);
    headers.tcp.ack_seq = htonl(flow.expected);
    headers.tcp.th_flags = flags;
    headers.tcp.doff = static_cast<uint8_t>((sizeof(tcphdr) + options) / 4) & 0xf;
    headers.tcp.check = Fold(Sum(&headers.ip.saddr, 2 * sizeof(headers.ip.saddr)) +
                             htons(IPPROTO_TCP) + htons(static_cast<uint16_t>(tcp_bytes)));
    if (length > flow.mss) {
      headers.virtio.gso_type = kGsoTcp4;
      headers.virtio.gso_bytes = flow.mss;
    }
    std::memcpy(buffer_.data(), &headers, sizeof headers);
    const size_t frame_bytes = sizeof headers + length;
    if (write(tap_, buffer_.data(), frame_bytes) != static_cast<ssize_t>(frame_bytes)) {
      FailErrno("a frame to the tap");
    }
  }

  const int tap_;
  const size_t mtu_;
  int epoll_ = -1;
  std::vector<std::unique_ptr<Flow>> flows_;  // by the guest's port
  std::vector<uint16_t> ready_;
  std::vector<uint8_t> buffer_;
};

int Main(int argc, char** argv) {
  std::string pid;
  size_t mtu = 1500;
  int ready = -1;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--pid") {
      pid = value;
    } else if (name == "--mtu") {
      mtu = std::stoul(value);
    } else if (name == "--ready-fd") {
      ready = std::stoi(value);
    } else {
      Fail("unknown option " + name);
    }
  }
  if (pid.empty() || ready < 0) Fail("usage: floor_bench --pid PID --mtu N --ready-fd FD");
  RaiseDescriptorLimit();
  Floor floor(OpenTap(pid), mtu);
  if (write(ready, "1", 1) != 1) FailErrno("--ready-fd");
  close(ready);
  floor.Run();
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) { return penstock::Main(argc, argv); }
