#include "relay/socket_fault.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
// Behind the headers that it needs:
#include <linux/errqueue.h>

#include <algorithm>
#include <array>

#include "relay/socket_address.h"

namespace penstock {
namespace {

// RFC 792, RFC 1122 3.2.2.1, RFC 1812 5.2.7.1.
FaultKind KindOfIcmpv4(uint8_t type, uint8_t code) {
  constexpr uint8_t kUnreachable = 3, kTimeExceeded = 11;
  if (type == kTimeExceeded) return code == 0 ? FaultKind::kHopLimit : FaultKind::kNone;
  if (type != kUnreachable) return FaultKind::kNone;
  switch (code) {
    case 0:   // network unreachable
    case 6:   // network unknown
    case 11:  // network unreachable for this type of service
      return FaultKind::kNetwork;
    case 2:
      return FaultKind::kProtocol;
    case 3:
      return FaultKind::kPort;
    case 4:
      return FaultKind::kTooBig;
    case 9:   // network prohibited
    case 10:  // host prohibited
    case 13:  // filtered
      return FaultKind::kProhibited;
    default:
      return FaultKind::kHost;
  }
}

// RFC 4443 3.
FaultKind KindOfIcmpv6(uint8_t type, uint8_t code) {
  constexpr uint8_t kUnreachable = 1, kTooBig = 2, kTimeExceeded = 3;
  if (type == kTooBig) return FaultKind::kTooBig;
  if (type == kTimeExceeded) return code == 0 ? FaultKind::kHopLimit : FaultKind::kNone;
  if (type != kUnreachable) return FaultKind::kNone;
  switch (code) {
    case 0:
      return FaultKind::kNetwork;
    case 4:
      return FaultKind::kPort;
    case 1:  // prohibited
    case 5:  // source address failed policy
    case 6:  // reject route
      return FaultKind::kProhibited;
    default:
      return FaultKind::kHost;
  }
}

// An error as the kernel passes it on; behind it lies the offender's address.
struct Extended {
  sock_extended_err error;
  sockaddr_in6 offender;
};

IpAddress OffenderOf(const Extended& extended, size_t bytes) {
  sockaddr_in v4;
  if (bytes >= sizeof extended.error + sizeof v4 && extended.offender.sin6_family == AF_INET) {
    memcpy(&v4, &extended.offender, sizeof v4);
    return IpAddress::From({reinterpret_cast<const uint8_t*>(&v4.sin_addr), 4});
  }
  if (bytes >= sizeof extended && extended.offender.sin6_family == AF_INET6) {
    return IpAddress::From({reinterpret_cast<const uint8_t*>(&extended.offender.sin6_addr), 16});
  }
  return {};
}

void Interpret(const Extended& extended, size_t bytes, SocketFault& fault) {
  const sock_extended_err& error = extended.error;
  switch (error.ee_origin) {
    case SO_EE_ORIGIN_ICMP:
      fault.what.kind = KindOfIcmpv4(error.ee_type, error.ee_code);
      break;
    case SO_EE_ORIGIN_ICMP6:
      fault.what.kind = KindOfIcmpv6(error.ee_type, error.ee_code);
      break;
    case SO_EE_ORIGIN_LOCAL:
      fault.local = true;
      fault.what = FaultFromErrno(static_cast<int>(error.ee_errno));
      break;
    default:
      return;
  }
  if (fault.what.kind == FaultKind::kTooBig) fault.what.mtu = error.ee_info;
  if (!fault.local) fault.what.offender = OffenderOf(extended, bytes);
}

}  // namespace

void KeepSocketFaults(int descriptor, Family family) {
  const int on = 1;
  if (family == Family::kIpv4) {
    (void)setsockopt(descriptor, IPPROTO_IP, IP_RECVERR, &on, sizeof on);
  } else {
    (void)setsockopt(descriptor, IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof on);
  }
}

std::optional<SocketFault> TakeSocketFault(int descriptor, std::span<uint8_t> room) {
  SocketAddress destination;
  iovec part{room.data(), room.size()};
  struct alignas(cmsghdr) {
    std::array<uint8_t, CMSG_SPACE(sizeof(Extended))> bytes{};
  } control;
  msghdr message{};
  message.msg_name = destination.data();
  message.msg_namelen = destination.length();
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes.data();
  message.msg_controllen = control.bytes.size();
  const ssize_t quoted = recvmsg(descriptor, &message, MSG_ERRQUEUE | MSG_DONTWAIT);
  if (quoted < 0) return std::nullopt;
  SocketFault fault{.destination = destination.ToEndpoint(),
                    .quoted_bytes = static_cast<size_t>(quoted)};
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    const bool v4 = header->cmsg_level == IPPROTO_IP && header->cmsg_type == IP_RECVERR;
    const bool v6 = header->cmsg_level == IPPROTO_IPV6 && header->cmsg_type == IPV6_RECVERR;
    const size_t bytes = header->cmsg_len - CMSG_LEN(0);
    if ((!v4 && !v6) || bytes < sizeof(sock_extended_err)) continue;
    Extended extended{};
    memcpy(&extended, CMSG_DATA(header), std::min(bytes, sizeof extended));
    Interpret(extended, bytes, fault);
  }
  return fault;
}

DatagramFault FaultFromErrno(int error) {
  switch (error) {
    case ENETUNREACH:
    case ENETDOWN:
    case EADDRNOTAVAIL:
      return {.kind = FaultKind::kNetwork};
    case EHOSTUNREACH:
    case EHOSTDOWN:
      return {.kind = FaultKind::kHost};
    case ECONNREFUSED:
      return {.kind = FaultKind::kPort};
    case EACCES:
    case EPERM:
      return {.kind = FaultKind::kProhibited};
    case EMSGSIZE:
      return {.kind = FaultKind::kTooBig};
    default:
      return {};
  }
}

}  // namespace penstock
