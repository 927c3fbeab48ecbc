// An Endpoint as the kernel wants it, and back. Any thread.
#ifndef PENSTOCK_RELAY_SOCKET_ADDRESS_H_
#define PENSTOCK_RELAY_SOCKET_ADDRESS_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>

#include "relay/endpoint.h"

namespace penstock {

class SocketAddress final {
 public:
  // Room for any, to be filled by a system call through data() and length_pointer().
  SocketAddress() = default;
  // `zone`: the interface's index, for link-local addresses.
  explicit SocketAddress(const Endpoint& endpoint, uint32_t zone = 0);

  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&any_); }
  [[nodiscard]] socklen_t length() const { return length_; }
  [[nodiscard]] sockaddr* data() { return reinterpret_cast<sockaddr*>(&any_); }
  [[nodiscard]] socklen_t* length_pointer() { return &length_; }

  // Of AF_INET and AF_INET6; anything else gives 0.0.0.0:0.
  [[nodiscard]] Endpoint ToEndpoint() const;
  // Of a link-local address; else 0.
  [[nodiscard]] uint32_t zone() const;

 private:
  sockaddr_storage any_{};
  socklen_t length_ = sizeof any_;
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_SOCKET_ADDRESS_H_
