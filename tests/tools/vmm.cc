#include "tests/tools/vmm.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <stdexcept>
#include <system_error>

#include "tests/tools/program.h"

namespace penstock::tool {
namespace {

[[noreturn]] void Throw(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return address;
}

Descriptor NewSocket(int type) {
  Descriptor socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!socket.valid()) Throw("socket");
  return socket;
}

void Await(int descriptor) {
  pollfd watched{.fd = descriptor, .events = POLLIN, .revents = 0};
  if (poll(&watched, 1, kLimitSeconds * 1'000) != 1) throw std::runtime_error("nothing came");
}

bool IsIpv4(const Bytes& frame, uint8_t protocol) {
  return frame.size() > kTransport4At && Get16(frame, 12) == 0x0800 && frame[kIpAt + 9] == protocol;
}

Bytes TextBytes(const std::string& text) { return {text.begin(), text.end()}; }

}  // namespace

Vmm Vmm::ToStream(const std::string& path) {
  Descriptor socket = NewSocket(SOCK_STREAM);
  const sockaddr_un address = AddressOf(path);
  if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    Throw("connect to " + path);
  }
  return Vmm(std::move(socket), true);
}

Vmm Vmm::ToDatagrams(const std::string& path, const std::string& own) {
  Vmm vmm(NewSocket(SOCK_DGRAM), false);
  unlink(own.c_str());
  const sockaddr_un address = AddressOf(own);
  if (bind(vmm.socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    Throw("bind " + own);
  }
  vmm.address_ = path;
  return vmm;
}

Vmm::Vmm(int type, Descriptor& other_end) : framed_(type == SOCK_STREAM) {
  std::array<int, 2> ends;
  if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends.data()) != 0) Throw("socketpair");
  socket_.Reset(ends[0]);
  other_end.Reset(ends[1]);
}

Vmm Vmm::AtStream(const std::string& path, const std::function<void()>& start) {
  const Descriptor listener = NewSocket(SOCK_STREAM);
  const sockaddr_un address = AddressOf(path);
  if (bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener.get(), 1) != 0) {
    Throw("listen at " + path);
  }
  start();
  Await(listener.get());
  Descriptor socket(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!socket.valid()) Throw("accept");
  return Vmm(std::move(socket), true);
}

void Vmm::SendRaw(const Bytes& bytes) {
  ssize_t sent;
  if (address_.empty()) {
    sent = send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  } else {
    const sockaddr_un address = AddressOf(address_);
    sent = sendto(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL,
                  reinterpret_cast<const sockaddr*>(&address), sizeof address);
  }
  if (sent != static_cast<ssize_t>(bytes.size())) Throw("send");
}

void Vmm::Send(const Bytes& frame) {
  if (!framed_) return SendRaw(frame);
  Bytes bytes(4);
  Put32(bytes, 0, static_cast<uint32_t>(frame.size()));
  SendRaw(Concat(bytes, frame));
}

bool Vmm::ReadSome() {
  Await(socket_.get());
  Bytes some(1 << 17);
  const ssize_t got = recv(socket_.get(), some.data(), some.size(), 0);
  if (got <= 0) return false;
  some.resize(static_cast<size_t>(got));
  stream_ = framed_ ? Concat(stream_, some) : some;
  return true;
}

std::optional<Bytes> Vmm::TakeFrame() {
  if (!framed_) return stream_.empty() ? std::nullopt : std::optional(std::exchange(stream_, {}));
  if (stream_.size() < 4 || stream_.size() < 4 + Get32(stream_, 0)) return std::nullopt;
  const auto end = stream_.begin() + 4 + static_cast<ptrdiff_t>(Get32(stream_, 0));
  Bytes frame(stream_.begin() + 4, end);
  stream_.erase(stream_.begin(), end);
  return frame;
}

Bytes Vmm::Receive(const std::function<bool(const Bytes&)>& wanted) {
  for (;;) {
    while (const std::optional<Bytes> frame = TakeFrame()) {
      if (wanted(*frame)) return *frame;
    }
    if (!ReadSome()) throw std::runtime_error("penstock has closed the socket");
  }
}

void Vmm::AwaitEnd() {
  while (ReadSome()) {
  }
}

// ---------------------------------------------------------------- the guest

void Vmm::MeetGateway() {
  Send(EthernetFrame(ArpBody({.sender_mac = mac}),
                     {.destination = kBroadcastMac, .source = mac, .ether_type = 0x0806}));
  const Bytes answer = Receive([&](const Bytes& frame) {
    return frame.size() >= 42 && Get16(frame, 12) == 0x0806 && Get16(frame, 20) == 2;
  });
  if (!std::equal(kGatewayMac.begin(), kGatewayMac.end(), answer.begin() + 22) ||
      !std::equal(mac.begin(), mac.end(), answer.begin())) {
    throw std::runtime_error("not the gateway's answer");
  }
  Send(EthernetFrame(IpPacket({.source = kGuest4, .destination = kGateway4},
                              EchoRequest(Family::kIpv4, TextBytes("hello"))),
                     {.source = mac}));
  (void)Receive([](const Bytes& frame) { return IsIpv4(frame, 1) && frame[kTransport4At] == 0; });
}

std::string Vmm::AskByUdp(uint16_t port, const std::string& text) {
  Send(EthernetFrame(IpPacket({.source = kGuest4, .destination = kGateway4},
                              UdpDatagram({.destination_port = port, .payload = TextBytes(text)})),
                     {.source = mac}));
  const Bytes answer = Receive(
      [&](const Bytes& frame) { return IsIpv4(frame, 17) && Get16(frame, kTransport4At) == port; });
  const size_t length = Get16(answer, kTransport4At + 4) - 8U;
  return {answer.begin() + kTransport4At + 8,
          answer.begin() + kTransport4At + 8 + static_cast<ptrdiff_t>(length)};
}

std::string Vmm::AskByTcp(uint16_t port, const std::string& text) {
  const auto send = [&](TcpSpec segment) {
    segment.destination_port = port;
    Send(EthernetFrame(IpPacket({.source = kGuest4, .destination = kGateway4}, TcpSegment(segment)),
                       {.source = mac}));
  };
  send({.sequence = 999, .flags = kTcpSyn});
  const Bytes accepted = Receive([&](const Bytes& frame) {
    return IsIpv4(frame, 6) && Get16(frame, kTransport4At) == port &&
           frame[kTransport4At + 13] == (kTcpSyn | kTcpAck);
  });
  if (SlowTransportSum(
          kGateway4, kGuest4, 6,
          std::span(accepted).subspan(kTransport4At, Get16(accepted, kIpAt + 2) - 20U)) != 0xffff) {
    throw std::runtime_error("a checksum to the guest is not complete");
  }
  const uint32_t next = Get32(accepted, kTransport4At + 4) + 1;
  send({.sequence = 1'000, .acknowledgement = next, .payload = TextBytes(text)});
  const Bytes answer = Receive([&](const Bytes& frame) {
    return IsIpv4(frame, 6) && Get16(frame, kIpAt + 2) > 40 &&
           Get32(frame, kTransport4At + 4) == next;
  });
  return {answer.begin() + 54, answer.begin() + kIpAt + Get16(answer, kIpAt + 2)};
}

}  // namespace penstock::tool
