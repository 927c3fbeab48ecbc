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
  // As setsockopt(2) and getsockopt(2) of an int.
  void SetOption(int level, int name, int value);
  [[nodiscard]] int Option(int level, int name) const;
  void Connect(const Endpoint& to);
  // To whom it is connected: the errno, or 0.
  [[nodiscard]] int TrySend(std::string_view text);
  // The errno of the next error that the kernel reports; 0: none within `limit`.
  [[nodiscard]] int NextError(Duration limit);
  // The next datagram's control message, an int; throws if none comes within kSocketLimit.
  [[nodiscard]] int ReceiveControl(int level, int type);
  // nullopt if none comes within `limit`.
  [[nodiscard]] std::optional<Datagram> TryReceive(Duration limit);
  // Throws if none comes within kSocketLimit.
  [[nodiscard]] Datagram Receive();

 private:
  Descriptor descriptor_;
};

}  // namespace penstock::e2e

#endif  // PENSTOCK_TESTS_SUPPORT_SANDBOX_DATAGRAM_H_
