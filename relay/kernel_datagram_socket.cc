#include "relay/kernel_datagram_socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/system/error_code.hpp>

#include "relay/socket_address.h"

namespace penstock {
namespace {

constexpr size_t kBatch = DatagramScratch::kBatch;

// Room for one in_pktinfo or in6_pktinfo.
struct alignas(cmsghdr) Control {
  std::array<uint8_t, CMSG_SPACE(sizeof(in6_pktinfo))> bytes;
};

// Everything that sendmmsg and recvmmsg want besides the payload.
struct Messages {
  std::array<mmsghdr, kBatch> headers;
  std::array<iovec, kBatch> parts;
  std::array<SocketAddress, kBatch> addresses;
  std::array<Control, kBatch> controls;
};

IpAddress AddressOf(const in_addr& address) {
  return IpAddress::From({reinterpret_cast<const uint8_t*>(&address), sizeof address});
}
IpAddress AddressOf(const in6_addr& address) {
  return IpAddress::From({reinterpret_cast<const uint8_t*>(&address), sizeof address});
}

bool IsMulticast(const IpAddress& address) {
  return address.is_v4() ? address.bytes[0] >= 224 : address.bytes[0] == 0xff;
}
bool IsLinkLocal6(const IpAddress& address) {
  return address.is_v6() && address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0) == 0x80;
}

// The address that a datagram came to; unspecified if it cannot be answered from.
IpAddress LocalOf(msghdr& message) {
  IpAddress local;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level == IPPROTO_IP && header->cmsg_type == IP_PKTINFO) {
      in_pktinfo info;
      memcpy(&info, CMSG_DATA(header), sizeof info);
      local = AddressOf(info.ipi_spec_dst);  // where a broadcast came to, this is ours
    } else if (header->cmsg_level == IPPROTO_IPV6 && header->cmsg_type == IPV6_PKTINFO) {
      in6_pktinfo info;
      memcpy(&info, CMSG_DATA(header), sizeof info);
      local = AddressOf(info.ipi6_addr);
    }
  }
  return IsMulticast(local) ? IpAddress() : local;
}

DatagramPath PathOf(const SocketAddress& address, msghdr& message) {
  DatagramPath path{.peer = address.ToEndpoint(), .local = LocalOf(message)};
  if (IsLinkLocal6(path.peer.address)) path.interface = address.zone();
  return path;
}

template <typename Info>
size_t WriteControlMessage(int level, int type, const Info& info, msghdr& message) {
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = level;
  header->cmsg_type = type;
  header->cmsg_len = CMSG_LEN(sizeof info);
  memcpy(CMSG_DATA(header), &info, sizeof info);
  return CMSG_SPACE(sizeof info);
}

// Says which address of the host's the datagram leaves from.
void WriteLocal(const DatagramPath& path, Control& control, msghdr& message) {
  if (path.local == IpAddress()) return;
  control = {};
  message.msg_control = control.bytes.data();
  message.msg_controllen = control.bytes.size();
  const auto bytes = path.local.wire();
  if (path.local.is_v4()) {
    in_pktinfo info{};
    memcpy(&info.ipi_spec_dst, bytes.data(), bytes.size());
    message.msg_controllen = WriteControlMessage(IPPROTO_IP, IP_PKTINFO, info, message);
  } else {
    in6_pktinfo info{};
    memcpy(&info.ipi6_addr, bytes.data(), bytes.size());
    info.ipi6_ifindex = path.interface;
    message.msg_controllen = WriteControlMessage(IPPROTO_IPV6, IPV6_PKTINFO, info, message);
  }
}

}  // namespace

KernelDatagramSocket::KernelDatagramSocket(boost::asio::io_context& io, int descriptor)
    : socket_(io) {
  SocketAddress bound;
  (void)getsockname(descriptor, bound.data(), bound.length_pointer());
  const IpAddress address = bound.ToEndpoint().address;
  bound_to_all_ = address == IpAddress{.family = address.family};
  if (bound_to_all_) {
    const int on = 1;
    (void)setsockopt(descriptor, address.is_v4() ? IPPROTO_IP : IPPROTO_IPV6,
                     address.is_v4() ? IP_PKTINFO : IPV6_RECVPKTINFO, &on, sizeof on);
  }
  boost::system::error_code error;
  socket_.assign(descriptor, error);
  if (error) close(descriptor);
}

DatagramResult KernelDatagramSocket::Receive(std::span<DatagramScratch::Slot> slots) {
  Messages messages;
  const size_t count_max = std::min(slots.size(), kBatch);
  for (size_t i = 0; i < count_max; ++i) {
    messages.parts[i] = {slots[i].room.data(), slots[i].room.size()};
    messages.headers[i] = {};
    msghdr& header = messages.headers[i].msg_hdr;
    header.msg_name = messages.addresses[i].data();
    header.msg_namelen = messages.addresses[i].length();
    header.msg_iov = &messages.parts[i];
    header.msg_iovlen = 1;
    if (bound_to_all_) {
      header.msg_control = messages.controls[i].bytes.data();
      header.msg_controllen = messages.controls[i].bytes.size();
    }
  }
  const int got = recvmmsg(socket_.native_handle(), messages.headers.data(),
                           static_cast<unsigned>(count_max), MSG_DONTWAIT, nullptr);
  if (got < 0) return {.error = errno};
  for (size_t i = 0; i < static_cast<size_t>(got); ++i) {
    slots[i].length = messages.headers[i].msg_len;
    slots[i].path = PathOf(messages.addresses[i], messages.headers[i].msg_hdr);
  }
  return {.count = static_cast<size_t>(got)};
}

DatagramResult KernelDatagramSocket::Send(std::span<Datagram* const> datagrams) {
  Messages messages;
  const size_t count_max = std::min(datagrams.size(), kBatch);
  for (size_t i = 0; i < count_max; ++i) {
    const Datagram& datagram = *datagrams[i];
    messages.parts[i] = {datagram.data, datagram.length};
    messages.headers[i] = {};
    msghdr& header = messages.headers[i].msg_hdr;
    messages.addresses[i] = SocketAddress(datagram.path.peer, datagram.path.interface);
    header.msg_name = messages.addresses[i].data();
    header.msg_namelen = messages.addresses[i].length();
    header.msg_iov = &messages.parts[i];
    header.msg_iovlen = 1;
    WriteLocal(datagram.path, messages.controls[i], header);
  }
  const int sent = sendmmsg(socket_.native_handle(), messages.headers.data(),
                            static_cast<unsigned>(count_max), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0) return {.error = errno};
  return {.count = static_cast<size_t>(sent)};
}

void KernelDatagramSocket::Close() {
  boost::system::error_code error;
  socket_.close(error);
}

}  // namespace penstock
