// A client of the host's loopback, for whatever a program under test listens at.
#ifndef PENSTOCK_TESTS_TOOLS_PEER_H_
#define PENSTOCK_TESTS_TOOLS_PEER_H_

#include <cstdint>
#include <string>

namespace penstock::tool {

// A connected socket, with a time limit on reads. What goes wrong is thrown.
class Peer final {
 public:
  // `family`: AF_INET or AF_INET6; `type`: SOCK_STREAM or SOCK_DGRAM.
  Peer(int family, int type, uint16_t port);
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  ~Peer();

  void Send(const std::string& text) const;
  void Finish() const;
  // "" at the end of the stream.
  [[nodiscard]] std::string Receive() const;
  [[nodiscard]] std::string ReceiveAll() const;

 private:
  int socket_;
};

// A TCP connection to the port is refused.
[[nodiscard]] bool IsRefused(int family, uint16_t port);

}  // namespace penstock::tool

#endif  // PENSTOCK_TESTS_TOOLS_PEER_H_
