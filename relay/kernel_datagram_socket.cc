#include "relay/kernel_datagram_socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/system/error_code.hpp>

#include "relay/socket_address.h"
#include "relay/socket_fault.h"

namespace penstock {
namespace {

constexpr size_t kBatch = DatagramScratch::kBatch;

// Of one message that the kernel cuts: what IPv4 can say of its length, and as many
// datagrams as every kernel with UDP_SEGMENT takes.
constexpr uint32_t kMessageBytesMax = 65'507;
constexpr size_t kMessageDatagramsMax = 64;
// Longer ones would not fit any path that several at once are sent over.
constexpr uint32_t kSegmentBytesMax = 9'000;

// Room for one in_pktinfo or in6_pktinfo, and the length of segments.
struct alignas(cmsghdr) Control {
  std::array<uint8_t, CMSG_SPACE(sizeof(in6_pktinfo)) + CMSG_SPACE(sizeof(int))> bytes;
};

// Everything that sendmmsg and recvmmsg want besides the payload.
struct Messages {
  std::array<mmsghdr, kBatch> headers;
  std::array<iovec, kBatch> parts;
  std::array<SocketAddress, kBatch> addresses;
  std::array<Control, kBatch> controls;
  size_t count = 0;  // to be sent
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

// What the kernel joined several datagrams of; 0: it is one.
uint16_t SegmentBytesOf(msghdr& message) {
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != IPPROTO_UDP || header->cmsg_type != UDP_GRO) continue;
    int bytes = 0;
    memcpy(&bytes, CMSG_DATA(header), sizeof bytes);
    return static_cast<uint16_t>(bytes);
  }
  return 0;
}

// Behind the control messages that are there; `message` has room in `control`.
template <typename Info>
void AddControlMessage(int level, int type, const Info& info, Control& control, msghdr& message) {
  if (message.msg_controllen == 0) control = {};
  message.msg_control = control.bytes.data();
  auto* header = reinterpret_cast<cmsghdr*>(control.bytes.data() + message.msg_controllen);
  header->cmsg_level = level;
  header->cmsg_type = type;
  header->cmsg_len = CMSG_LEN(sizeof info);
  memcpy(CMSG_DATA(header), &info, sizeof info);
  message.msg_controllen += CMSG_SPACE(sizeof info);
}

// Says which address of the host's the datagram leaves from.
void AddLocal(const DatagramPath& path, Control& control, msghdr& message) {
  if (path.local == IpAddress()) return;
  const auto bytes = path.local.wire();
  if (path.local.is_v4()) {
    in_pktinfo info{};
    memcpy(&info.ipi_spec_dst, bytes.data(), bytes.size());
    AddControlMessage(IPPROTO_IP, IP_PKTINFO, info, control, message);
  } else {
    in6_pktinfo info{};
    memcpy(&info.ipi6_addr, bytes.data(), bytes.size());
    info.ipi6_ifindex = path.interface;
    AddControlMessage(IPPROTO_IPV6, IPV6_PKTINFO, info, control, message);
  }
}

bool SameHeader(const Datagram& a, const Datagram& b) {
  return a.hop_limit == b.hop_limit && a.traffic_class == b.traffic_class &&
         a.dont_fragment == b.dont_fragment;
}

// How many from the front may leave as one message: one peer, one length but for a shorter
// last one.
size_t CountJoined(std::span<Datagram* const> datagrams, uint32_t segment_bytes_max) {
  const Datagram& first = *datagrams.front();
  if (first.length == 0 || first.length > segment_bytes_max) return 1;
  uint32_t bytes = first.length;
  size_t count = 1;
  while (count < std::min(datagrams.size(), kMessageDatagramsMax)) {
    const Datagram& next = *datagrams[count];
    if (next.path != first.path || next.length > first.length || next.length == 0 ||
        bytes + next.length > kMessageBytesMax) {
      break;
    }
    bytes += next.length;
    ++count;
    if (next.length < first.length) break;
  }
  return count;
}

// The messages of `datagrams`, whose header fields are the same.
void Fill(std::span<Datagram* const> datagrams, uint32_t segment_bytes_max, Messages& messages) {
  for (size_t i = 0; i < datagrams.size();) {
    const size_t joined = CountJoined(datagrams.subspan(i), segment_bytes_max);
    const Datagram& first = *datagrams[i];
    const size_t at = messages.count++;
    for (size_t k = 0; k < joined; ++k) {
      messages.parts[i + k] = {datagrams[i + k]->data, datagrams[i + k]->length};
    }
    messages.headers[at] = {};
    msghdr& header = messages.headers[at].msg_hdr;
    messages.addresses[at] = SocketAddress(first.path.peer, first.path.interface);
    header.msg_name = messages.addresses[at].data();
    header.msg_namelen = messages.addresses[at].length();
    header.msg_iov = &messages.parts[i];
    header.msg_iovlen = joined;
    AddLocal(first.path, messages.controls[at], header);
    if (joined > 1) {
      const auto segment = static_cast<uint16_t>(first.length);
      AddControlMessage(IPPROTO_UDP, UDP_SEGMENT, segment, messages.controls[at], header);
    }
    i += joined;
  }
}

}  // namespace

KernelDatagramSocket::KernelDatagramSocket(boost::asio::io_context& io, int descriptor)
    : socket_(io), segment_bytes_max_(kSegmentBytesMax) {
  SocketAddress bound;
  (void)getsockname(descriptor, bound.data(), bound.length_pointer());
  const IpAddress address = bound.ToEndpoint().address;
  bound_to_all_ = address == IpAddress{.family = address.family};
  if (bound_to_all_) {
    const int on = 1;
    (void)setsockopt(descriptor, address.is_v4() ? IPPROTO_IP : IPPROTO_IPV6,
                     address.is_v4() ? IP_PKTINFO : IPV6_RECVPKTINFO, &on, sizeof on);
  }
  Assign(descriptor);
}

KernelDatagramSocket::KernelDatagramSocket(boost::asio::io_context& io, const SocketResult& socket,
                                           const DatagramRequest& request)
    : socket_(io), error_(socket.error), request_(request) {
  if (socket.descriptor < 0) return;
  KeepSocketFaults(socket.descriptor, request.family);
  if (request.kind == DatagramKind::kUdp) segment_bytes_max_ = kSegmentBytesMax;
  Assign(socket.descriptor);
}

void KernelDatagramSocket::Assign(int descriptor) {
  boost::system::error_code error;
  socket_.assign(descriptor, error);
  if (!error) return;
  error_ = error.value();
  close(descriptor);
}

void KernelDatagramSocket::JoinArrivals() {
  const int on = 1;  // an older kernel, or an echo socket, joins nothing
  (void)setsockopt(socket_.native_handle(), IPPROTO_UDP, UDP_GRO, &on, sizeof on);
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
    header.msg_control = messages.controls[i].bytes.data();
    header.msg_controllen = messages.controls[i].bytes.size();
  }
  const int got = recvmmsg(socket_.native_handle(), messages.headers.data(),
                           static_cast<unsigned>(count_max), MSG_DONTWAIT, nullptr);
  if (got < 0) return {.error = errno};
  for (size_t i = 0; i < static_cast<size_t>(got); ++i) {
    msghdr& header = messages.headers[i].msg_hdr;
    slots[i].length = messages.headers[i].msg_len;
    slots[i].path = PathOf(messages.addresses[i], header);
    slots[i].segment_bytes = SegmentBytesOf(header);
    if (slots[i].segment_bytes >= slots[i].length) slots[i].segment_bytes = 0;
  }
  return {.count = static_cast<size_t>(got)};
}

DatagramResult KernelDatagramSocket::Send(std::span<Datagram* const> datagrams) {
  const Datagram& first = *datagrams.front();
  size_t alike = 1;
  while (alike < std::min(datagrams.size(), kBatch) && SameHeader(first, *datagrams[alike])) {
    ++alike;
  }
  datagrams = datagrams.first(alike);
  if (request_) AdoptHeader(first);
  const DatagramResult result = SendMessages(datagrams);
  // What the kernel will not cut (the path is narrower, the device computes no checksum)
  // it may yet send one by one.
  const bool refused = result.error == EINVAL || result.error == EMSGSIZE || result.error == EIO;
  if (!refused || CountJoined(datagrams, segment_bytes_max_) == 1) return result;
  segment_bytes_max_ = result.error == EIO ? 0 : first.length - 1;
  return SendMessages(datagrams);
}

DatagramResult KernelDatagramSocket::SendMessages(std::span<Datagram* const> datagrams) {
  Messages messages;
  Fill(datagrams, segment_bytes_max_, messages);
  const int sent = sendmmsg(socket_.native_handle(), messages.headers.data(),
                            static_cast<unsigned>(messages.count), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0) return {.error = errno};
  DatagramResult result;
  for (size_t i = 0; i < static_cast<size_t>(sent); ++i) {
    result.count += messages.headers[i].msg_hdr.msg_iovlen;
  }
  return result;
}

void KernelDatagramSocket::AdoptHeader(const Datagram& datagram) {
  const int descriptor = socket_.native_handle();
  const auto set = [descriptor, this](int option4, int option6, int value) {
    (void)setsockopt(descriptor, is_v4() ? IPPROTO_IP : IPPROTO_IPV6, is_v4() ? option4 : option6,
                     &value, sizeof value);
  };
  if (datagram.hop_limit != hop_limit_) {
    hop_limit_ = datagram.hop_limit;
    set(IP_TTL, IPV6_UNICAST_HOPS, hop_limit_);
  }
  if (datagram.traffic_class != traffic_class_) {
    traffic_class_ = datagram.traffic_class;
    set(IP_TOS, IPV6_TCLASS, traffic_class_);
  }
  if (datagram.dont_fragment != dont_fragment_) {
    dont_fragment_ = datagram.dont_fragment;
    static_assert(IP_PMTUDISC_DO == IPV6_PMTUDISC_DO && IP_PMTUDISC_DONT == IPV6_PMTUDISC_DONT);
    set(IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, *dont_fragment_ ? IP_PMTUDISC_DO : IP_PMTUDISC_DONT);
  }
}

std::optional<KernelDatagramSocket::Fault> KernelDatagramSocket::TakeFault(
    DatagramScratch::Slot& slot) {
  const std::optional<SocketFault> fault = TakeSocketFault(socket_.native_handle(), slot.room);
  if (!fault) return std::nullopt;
  slot.length = static_cast<uint32_t>(fault->quoted_bytes);
  slot.segment_bytes = 0;
  slot.path = {.peer = fault->destination};
  return Fault{.what = fault->what, .local = fault->local};
}

void KernelDatagramSocket::Close() {
  boost::system::error_code error;
  socket_.close(error);
}

}  // namespace penstock
