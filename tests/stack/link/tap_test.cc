// The tap against a real kernel: frames both ways, batches, losses, the end. Each
// case runs in a process of its own with a new network namespace, where the kernel
// is the guest.
#include "stack/link/tap.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "stack/wire/emit.h"
#include "tests/stack/link/tap_guest.h"
#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

constexpr int kTapPatienceMs = 5'000;

IpAddress Gateway(Family family) { return family == Family::kIpv4 ? kGateway4 : kGateway6; }

sockaddr_storage ToSockaddr(const IpAddress& address, uint16_t port) {
  sockaddr_storage storage{};
  if (address.is_v4()) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    std::memcpy(&v4->sin_addr, address.wire().data(), 4);
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    std::memcpy(&v6->sin6_addr, address.wire().data(), 16);
  }
  return storage;
}

// A guest's socket that has called connect to the gateway. Reads give up after
// kTapPatienceMs.
int ConnectingSocket(Family family, int type, uint16_t port) {
  const int flags = type == SOCK_STREAM ? SOCK_NONBLOCK : 0;
  const int descriptor = socket(family == Family::kIpv4 ? AF_INET : AF_INET6, type | flags, 0);
  const timeval patience{.tv_sec = kTapPatienceMs / 1000, .tv_usec = 0};
  setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const sockaddr_storage address = ToSockaddr(Gateway(family), port);
  const int result =
      connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  EXPECT_TRUE(result == 0 || errno == EINPROGRESS) << strerror(errno);
  fcntl(descriptor, F_SETFL, 0);
  return descriptor;
}

size_t WriteOne(Link& link, const Bytes& bytes, const Offload& offload = {}) {
  const iovec part{const_cast<uint8_t*>(bytes.data()), bytes.size()};
  const FrameToGuest frame{
      .parts = {&part, 1}, .length = static_cast<uint32_t>(bytes.size()), .offload = offload};
  return link.Send(Time{}, {&frame, 1});
}

struct Received {
  Bytes bytes;
  Offload offload;
};

// The first frame of transport `protocol` from `family` that is to `port`; others
// are passed over. Empty if none comes in time. `ip_at`: 14, or 0 on a tun.
Received ReceiveTransport(Link& link, Family family, uint8_t protocol, uint16_t port,
                          size_t ip_at = kIpAt) {
  Bytes room(kFrameBytesMax);
  FrameToHost frame;
  frame.room = room;
  const size_t protocol_at = ip_at + (family == Family::kIpv4 ? 9 : 6);
  const size_t transport_at = ip_at + TransportAt(family) - kIpAt;
  const uint8_t version = family == Family::kIpv4 ? 4 : 6;
  pollfd entry{.fd = link.descriptor(), .events = POLLIN, .revents = 0};
  while (poll(&entry, 1, kTapPatienceMs) == 1) {
    while (link.Receive(Time{}, {&frame, 1}) == 1) {
      const std::span<uint8_t> bytes = frame.bytes();
      if (bytes.size() < transport_at + 8 || bytes[ip_at] >> 4 != version ||
          bytes[protocol_at] != protocol || Get16(bytes, transport_at + 2) != port) {
        continue;
      }
      return {.bytes = {bytes.begin(), bytes.end()}, .offload = frame.offload};
    }
  }
  ADD_FAILURE() << "no frame of protocol " << int{protocol} << " to port " << port;
  return {};
}

Bytes FrameFromGateway(Family family, const Transport& transport) {
  return EthernetFrame(
      IpPacket({.source = Gateway(family), .destination = Guest(family)}, transport),
      {.destination = kGuestMac, .source = kGatewayMac});
}

// Replaces the checksum at `offset` of the transport header by the pseudo-header's
// sum, as a frame with a partial checksum has it.
void MakePartial(Family family, uint8_t protocol, uint16_t offset, Bytes& frame) {
  const size_t at = TransportAt(family);
  Put16(frame, at + offset,
        PseudoHeaderSum(Gateway(family), Guest(family), protocol,
                        static_cast<uint32_t>(frame.size() - at)));
}

Bytes Counting(size_t length) {
  Bytes bytes(length);
  std::iota(bytes.begin(), bytes.end(), uint8_t{0});
  return bytes;
}

constexpr uint8_t kTcpNumber = 6, kUdpNumber = 17;
constexpr std::array kFamilies{Family::kIpv4, Family::kIpv6};

TEST_F(TapTest, DatagramsBothWaysWithOpenChecksums) {
  RunInNewNetwork([] {
    auto tap = OpenTap({.name = "tap0"});
    ASSERT_TRUE(tap.ok()) << tap.status();
    Link& link = **tap;
    EXPECT_TRUE(link.capabilities().ethernet);
    EXPECT_EQ(link.capabilities().mtu_max, 65'521u);
    EXPECT_TRUE(link.capabilities().partial_checksum_to_guest);
    EXPECT_TRUE(link.capabilities().tcp4_gso_to_guest);
    EXPECT_TRUE(link.capabilities().tcp6_gso_to_guest);
    EXPECT_FALSE(link.capabilities().unsegmented_tcp_to_host);
    ConfigureGuest(true);
    for (const Family family : kFamilies) {
      const auto transport_at = static_cast<uint16_t>(TransportAt(family));
      const int guest = ConnectingSocket(family, SOCK_DGRAM, 7);
      ASSERT_EQ(send(guest, "hello", 5, 0), 5);
      const Received got = ReceiveTransport(link, family, kUdpNumber, 7);
      ASSERT_EQ(got.bytes.size(), transport_at + 8u + 5u);
      EXPECT_EQ(std::memcmp(got.bytes.data() + transport_at + 8, "hello", 5), 0);
      EXPECT_EQ(got.offload.checksum, ChecksumState::kPartial);
      EXPECT_EQ(got.offload.checksum_start, transport_at);
      EXPECT_EQ(got.offload.checksum_offset, 6);
      EXPECT_EQ(got.offload.gso, Gso::kNone);

      const uint16_t guest_port = Get16(got.bytes, transport_at);
      Bytes reply = FrameFromGateway(family, UdpDatagram({.source_port = 7,
                                                          .destination_port = guest_port,
                                                          .payload = Counting(100)}));
      char buffer[200];
      // A complete checksum, then one that the kernel has to complete.
      ASSERT_EQ(WriteOne(link, reply, {.checksum = ChecksumState::kComplete}), 1u);
      EXPECT_EQ(recv(guest, buffer, sizeof buffer, 0), 100);
      MakePartial(family, kUdpNumber, 6, reply);
      ASSERT_EQ(WriteOne(link, reply,
                         {.checksum = ChecksumState::kPartial,
                          .checksum_start = transport_at,
                          .checksum_offset = 6}),
                1u);
      EXPECT_EQ(recv(guest, buffer, sizeof buffer, 0), 100);
      close(guest);
    }
    EXPECT_EQ(link.frames_lost(), 0u);
    EXPECT_FALSE(link.ended());
  });
}

struct Connection {
  int guest = -1;  // the guest's socket
  uint16_t guest_port = 0;
  uint32_t sequence = 5'001;  // ours, the gateway's
  uint32_t acknowledgement = 0;
};

// The gateway's half of the handshake, by hand; MSS 1,440.
Connection Accept(Link& link, Family family) {
  Connection connection{.guest = ConnectingSocket(family, SOCK_STREAM, 80)};
  const Received syn = ReceiveTransport(link, family, kTcpNumber, 80);
  if (syn.bytes.empty()) return connection;
  const size_t at = TransportAt(family);
  connection.guest_port = Get16(syn.bytes, at);
  connection.acknowledgement = Get32(syn.bytes, at + 4) + 1;
  EXPECT_EQ(WriteOne(link, FrameFromGateway(
                               family, TcpSegment({.source_port = 80,
                                                   .destination_port = connection.guest_port,
                                                   .sequence = connection.sequence - 1,
                                                   .acknowledgement = connection.acknowledgement,
                                                   .flags = kTcpSyn | kTcpAck,
                                                   .window = 65'535,
                                                   .options = {2, 4, 1'440 >> 8, 1'440 & 0xff}}))),
            1u);
  pollfd entry{.fd = connection.guest, .events = POLLOUT, .revents = 0};
  EXPECT_EQ(poll(&entry, 1, kTapPatienceMs), 1);
  return connection;
}

// A super-segment of the guest's TCP comes whole: up to 64 KiB in one read.
TEST_F(TapTest, SuperSegmentsToHostComeWhole) {
  RunInNewNetwork([] {
    auto tap = OpenTap({.name = "tap0"});
    ASSERT_TRUE(tap.ok()) << tap.status();
    ConfigureGuest(true);
    for (const Family family : kFamilies) {
      const Connection connection = Accept(**tap, family);
      const Bytes data = Counting(12'000);
      ASSERT_EQ(send(connection.guest, data.data(), data.size(), 0), 12'000);
      Received got;
      do {  // the handshake's ACK comes first
        got = ReceiveTransport(**tap, family, kTcpNumber, 80);
        ASSERT_FALSE(got.bytes.empty());
      } while (got.offload.gso == Gso::kNone);
      const auto at = static_cast<uint16_t>(TransportAt(family));
      EXPECT_EQ(got.offload.gso, family == Family::kIpv4 ? Gso::kTcp4 : Gso::kTcp6);
      EXPECT_EQ(got.offload.segment_bytes, 1'440);
      EXPECT_EQ(got.offload.header_bytes, at + 20);
      EXPECT_EQ(got.offload.checksum, ChecksumState::kPartial);
      EXPECT_EQ(got.offload.checksum_start, at);
      EXPECT_EQ(got.offload.checksum_offset, 16);
      ASSERT_GT(got.bytes.size(), at + 20u + 1'440u);
      EXPECT_EQ(Get16(got.bytes, at + 16u),
                PseudoHeaderSum(Guest(family), Gateway(family), kTcpNumber,
                                static_cast<uint32_t>(got.bytes.size() - at)));
      const uint32_t first = Get32(got.bytes, at + 4u) - connection.acknowledgement;
      EXPECT_EQ(
          std::memcmp(got.bytes.data() + at + 20, data.data() + first, got.bytes.size() - at - 20),
          0);
      close(connection.guest);
    }
  });
}

TEST_F(TapTest, SuperSegmentsToGuestArriveWhole) {
  RunInNewNetwork([] {
    auto tap = OpenTap({.name = "tap0"});
    ASSERT_TRUE(tap.ok()) << tap.status();
    ConfigureGuest(true);
    for (const Family family : kFamilies) {
      const Connection connection = Accept(**tap, family);
      const Bytes data = Counting(20'000);
      Bytes frame =
          FrameFromGateway(family, TcpSegment({.source_port = 80,
                                               .destination_port = connection.guest_port,
                                               .sequence = connection.sequence,
                                               .acknowledgement = connection.acknowledgement,
                                               .flags = kTcpAck | kTcpPsh,
                                               .payload = data}));
      MakePartial(family, kTcpNumber, 16, frame);
      const auto at = static_cast<uint16_t>(TransportAt(family));
      ASSERT_EQ(WriteOne(**tap, frame,
                         {.checksum = ChecksumState::kPartial,
                          .gso = family == Family::kIpv4 ? Gso::kTcp4 : Gso::kTcp6,
                          .checksum_start = at,
                          .checksum_offset = 16,
                          .segment_bytes = 1'440,
                          .header_bytes = static_cast<uint16_t>(at + 20)}),
                1u);
      Bytes got(data.size());
      EXPECT_EQ(recv(connection.guest, got.data(), got.size(), MSG_WAITALL), 20'000);
      EXPECT_EQ(got, data);
      close(connection.guest);
    }
    EXPECT_EQ((*tap)->frames_lost(), 0u);
  });
}

TEST_F(TapTest, WithoutVirtioHeaderThereAreNoOffloads) {
  RunInNewNetwork([] {
    auto tap = OpenTap({.name = "tap0", .virtio_net_header = false});
    ASSERT_TRUE(tap.ok()) << tap.status();
    Link& link = **tap;
    EXPECT_FALSE(link.capabilities().partial_checksum_to_guest);
    EXPECT_FALSE(link.capabilities().tcp4_gso_to_guest);
    EXPECT_FALSE(link.capabilities().tcp6_gso_to_guest);
    ConfigureGuest(true);
    for (const Family family : kFamilies) {
      const size_t at = TransportAt(family);
      const int guest = ConnectingSocket(family, SOCK_DGRAM, 7);
      ASSERT_EQ(send(guest, "hello", 5, 0), 5);
      const Received got = ReceiveTransport(link, family, kUdpNumber, 7);
      ASSERT_EQ(got.bytes.size(), at + 13);
      EXPECT_EQ(got.offload.checksum, ChecksumState::kUnknown);
      const uint16_t pseudo = PseudoHeaderSum(Guest(family), Gateway(family), kUdpNumber, 13);
      EXPECT_EQ(SlowSum(std::span(got.bytes).subspan(at), pseudo), 0xffff) << "complete and right";
      const Bytes reply =
          FrameFromGateway(family, UdpDatagram({.source_port = 7,
                                                .destination_port = Get16(got.bytes, at),
                                                .payload = Counting(100)}));
      ASSERT_EQ(WriteOne(link, reply), 1u);
      char buffer[200];
      EXPECT_EQ(recv(guest, buffer, sizeof buffer, 0), 100);
      close(guest);
    }
    EXPECT_EQ(link.frames_lost(), 0u);
    const Bytes frame = FrameFromGateway(Family::kIpv4, UdpDatagram({}));
    EXPECT_EQ(WriteOne(link, frame, {.checksum = ChecksumState::kPartial}), 1u);
    EXPECT_EQ(WriteOne(link, frame, {.gso = Gso::kTcp4}), 1u);
    EXPECT_EQ(link.frames_lost(), 2u) << "what it cannot carry is counted";
  });
}

TEST_F(TapTest, TunCarriesIpPackets) {
  RunInNewNetwork([] {
    auto tun = OpenTap({.name = "tap0", .ethernet = false});
    ASSERT_TRUE(tun.ok()) << tun.status();
    EXPECT_FALSE((*tun)->capabilities().ethernet);
    EXPECT_EQ((*tun)->capabilities().mtu_max, 65'535u);
    ConfigureGuest(false);
    for (const Family family : kFamilies) {
      const size_t at = TransportAt(family) - kIpAt;
      const int guest = ConnectingSocket(family, SOCK_DGRAM, 7);
      ASSERT_EQ(send(guest, "hello", 5, 0), 5);
      const Received got = ReceiveTransport(**tun, family, kUdpNumber, 7, 0);
      ASSERT_EQ(got.bytes.size(), at + 13);
      EXPECT_EQ(got.offload.checksum_start, at);
      const Bytes reply = IpPacket({.source = Gateway(family), .destination = Guest(family)},
                                   UdpDatagram({.source_port = 7,
                                                .destination_port = Get16(got.bytes, at),
                                                .payload = Counting(100)}));
      ASSERT_EQ(WriteOne(**tun, reply), 1u);
      char buffer[200];
      EXPECT_EQ(recv(guest, buffer, sizeof buffer, 0), 100);
      close(guest);
    }
  });
}

// A batch ends where the waiting frames end or where `frames` ends.
TEST_F(TapTest, ReceivesInBatches) {
  RunInNewNetwork([] {
    auto tun = OpenTap({.name = "tap0", .ethernet = false});
    ASSERT_TRUE(tun.ok()) << tun.status();
    Ip("link set tap0 up\naddr add 10.0.2.15/24 dev tap0");
    Bytes drain(kFrameBytesMax);
    std::array<Bytes, 4> rooms;
    std::array<FrameToHost, 4> frames;
    for (size_t i = 0; i < frames.size(); ++i) {
      rooms[i].resize(kFrameBytesMax);
      frames[i].room = rooms[i];
    }
    const int guest = ConnectingSocket(Family::kIpv4, SOCK_DGRAM, 7);
    for (int i = 0; i < 6; ++i) ASSERT_EQ(send(guest, "hello", 5, 0), 5);
    // The kernel's own neighbour discovery may add some.
    size_t datagrams = 0, count;
    do {
      count = (*tun)->Receive(Time{}, frames);
      for (const FrameToHost& frame : std::span(frames).first(count)) {
        if (frame.bytes()[0] >> 4 == 4) ++datagrams;
      }
    } while (count == frames.size());
    EXPECT_EQ(datagrams, 6u);
    EXPECT_EQ((*tun)->Receive(Time{}, frames), 0u);
    close(guest);
  });
}

// Down and up again: with the first frame it is a reset, for whoever is there now.
TEST_F(TapTest, ADeviceThatWasDownWasReset) {
  RunInNewNetwork([] {
    auto tap = OpenTap({.name = "tap0"});
    ASSERT_TRUE(tap.ok()) << tap.status();
    Link& link = **tap;
    ConfigureGuest(true);
    const auto await_frame = [&] {
      const int guest = ConnectingSocket(Family::kIpv4, SOCK_DGRAM, 53);
      EXPECT_EQ(write(guest, "x", 1), 1);
      pollfd readable{.fd = link.descriptor(), .events = POLLIN, .revents = 0};
      EXPECT_EQ(poll(&readable, 1, kTapPatienceMs), 1);
      Bytes room(kFrameBytesMax);
      FrameToHost frame{.room = room};
      while (link.Receive(Time{}, {&frame, 1}) == 1) {
      }
      close(guest);
    };
    await_frame();
    EXPECT_EQ(link.resets(), 0u);
    Ip("link set tap0 down");
    EXPECT_EQ(WriteOne(link, FrameFromGateway(Family::kIpv4, UdpDatagram({}))), 1u);
    EXPECT_EQ(link.resets(), 0u);
    Ip("link set tap0 up");
    await_frame();
    EXPECT_EQ(link.resets(), 1u);
    await_frame();
    EXPECT_EQ(link.resets(), 1u);
  });
}

TEST_F(TapTest, ErrorsOfTheDeviceAreCountedAndNeverFatal) {
  RunInNewNetwork([] {
    auto tap = OpenTap({.name = "tap0"});
    ASSERT_TRUE(tap.ok()) << tap.status();
    Link& link = **tap;
    const Bytes frame = FrameFromGateway(Family::kIpv4, UdpDatagram({}));
    EXPECT_EQ(WriteOne(link, frame), 1u);
    EXPECT_EQ(link.frames_lost(), 1u) << "the device is down";
    ConfigureGuest(true);
    EXPECT_EQ(WriteOne(link, frame), 1u);
    EXPECT_EQ(link.frames_lost(), 1u);

    EXPECT_EQ(WriteOne(link, Bytes(5)), 1u);  // shorter than an Ethernet header
    EXPECT_EQ(
        WriteOne(
            link, frame,
            {.checksum = ChecksumState::kPartial, .checksum_start = 60'000, .checksum_offset = 6}),
        1u);
    EXPECT_EQ(link.frames_lost(), 3u);
    uint8_t byte = 0;
    const std::vector<iovec> parts(kFramePartsMax + 1, iovec{&byte, 1});
    const FrameToGuest scattered{.parts = parts, .length = 17, .offload = {}};
    EXPECT_EQ(link.Send(Time{}, {&scattered, 1}), 1u);
    EXPECT_EQ(link.frames_lost(), 4u);
    EXPECT_FALSE(link.ended());
  });
}

TEST_F(TapTest, FramesThatDoNotFitTheRoomAreCounted) {
  RunInNewNetwork([] {
    auto tun = OpenTap({.name = "tap0", .ethernet = false});
    ASSERT_TRUE(tun.ok()) << tun.status();
    // IPv6's own frames would be in the way.
    std::ofstream("/proc/sys/net/ipv6/conf/tap0/disable_ipv6") << "1";
    Ip("link set tap0 up\naddr add 10.0.2.15/24 dev tap0");
    const int guest = ConnectingSocket(Family::kIpv4, SOCK_DGRAM, 7);
    ASSERT_EQ(send(guest, Counting(1'000).data(), 1'000, 0), 1'000);
    ASSERT_EQ(send(guest, "hello", 5, 0), 5);
    Bytes room(500);
    FrameToHost frame;
    frame.room = room;
    EXPECT_EQ((*tun)->Receive(Time{}, {&frame, 1}), 1u);
    EXPECT_EQ(frame.length, 33u) << "the one that fits";
    EXPECT_EQ((*tun)->frames_lost(), 1u);
    close(guest);
  });
}

TEST_F(TapTest, EndsWhenTheDeviceIsDeleted) {
  RunInNewNetwork([] {
    auto tap = OpenTap({.name = "tap0"});
    ASSERT_TRUE(tap.ok()) << tap.status();
    Link& link = **tap;
    ConfigureGuest(true);
    EXPECT_FALSE(link.ended());
    Ip("link delete tap0");
    pollfd entry{.fd = link.descriptor(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(poll(&entry, 1, kTapPatienceMs), 1) << "the descriptor tells";
    Bytes room(kFrameBytesMax);
    FrameToHost frame;
    frame.room = room;
    EXPECT_EQ(link.Receive(Time{}, {&frame, 1}), 0u);
    EXPECT_TRUE(link.ended());
    EXPECT_EQ(WriteOne(link, Bytes(60)), 1u);
    EXPECT_EQ(link.frames_lost(), 1u);
  });
}

TEST_F(TapTest, ClosingItRemovesTheDevice) {
  RunInNewNetwork([] {
    auto tap = OpenTap({.name = "tap0"});
    ASSERT_TRUE(tap.ok()) << tap.status();
    EXPECT_EQ(access("/proc/self/net/dev_snmp6/tap0", F_OK), 0);
    tap->reset();
    EXPECT_NE(access("/proc/self/net/dev_snmp6/tap0", F_OK), 0);
  });
}

TEST_F(TapTest, AdoptsADescriptorOfAnotherNamespace) {
  RunInNewNetwork([] {
    const int descriptor = RawTap(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
    ConfigureGuest(true);
    const int guest = ConnectingSocket(Family::kIpv4, SOCK_DGRAM, 7);
    // The namespace that the device lives in is not ours any more.
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    auto tap = AdoptTap(descriptor);
    ASSERT_TRUE(tap.ok()) << tap.status();
    EXPECT_EQ((*tap)->descriptor(), descriptor);
    EXPECT_TRUE((*tap)->capabilities().ethernet);
    EXPECT_TRUE((*tap)->capabilities().tcp6_gso_to_guest);
    EXPECT_NE(fcntl(descriptor, F_GETFL) & O_NONBLOCK, 0);
    EXPECT_NE(fcntl(descriptor, F_GETFD) & FD_CLOEXEC, 0);
    ASSERT_EQ(send(guest, "hello", 5, 0), 5);
    const Received got = ReceiveTransport(**tap, Family::kIpv4, kUdpNumber, 7);
    ASSERT_EQ(got.bytes.size(), kTransport4At + 13);
    EXPECT_EQ(got.offload.checksum, ChecksumState::kPartial);
    tap->reset();
    EXPECT_EQ(fcntl(descriptor, F_GETFD), -1) << "closed with the link";
    close(guest);
  });
}

}  // namespace
}  // namespace penstock
