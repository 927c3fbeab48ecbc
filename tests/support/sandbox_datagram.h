// A UDP socket for the end-to-end scenarios: the companion of TcpSocket, with the same
// rules (sandbox_socket.h).
#ifndef PENSTOCK_TESTS_SUPPORT_SANDBOX_DATAGRAM_H_
#define PENSTOCK_TESTS_SUPPORT_SANDBOX_DATAGRAM_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "relay/endpoint.h"
#include "relay/time.h"
#include "tests/support/sandbox_process.h"
#include "tests/support/sandbox_socket.h"

namespace penstock::e2e {

class UdpSocket {
 public:
  struct Datagram {
    std::string text;
    Endpoint from;
  };

  // In the calling thread's network namespace, on a port of its own.
  explicit UdpSocket(Family family);
  void Bind(const Endpoint& own);
  [[nodiscard]] Endpoint own() const;

  // Throw std::system_error.
  void SendTo(const Endpoint& to, std::string_view text);
  // nullopt if none comes within `limit`.
  [[nodiscard]] std::optional<Datagram> TryReceive(Duration limit);
  // Throws if none comes within kSocketLimit.
  [[nodiscard]] Datagram Receive();

 private:
  Descriptor descriptor_;
};

}  // namespace penstock::e2e

#endif  // PENSTOCK_TESTS_SUPPORT_SANDBOX_DATAGRAM_H_
