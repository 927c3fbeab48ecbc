// Publishes a port of a guest that is not there. A client of it is accepted, and reset once
// the guest's time to answer is over.
#include "embedder.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "publisher/port_spec.h"
#include "stack/link/frame_ring.h"
#include "stack/stack.h"

namespace {

using penstock::Clock;

constexpr std::chrono::milliseconds kGuestTime(100);
constexpr std::chrono::seconds kLimit(20);  // far more than it takes

class Client {
 public:
  // The errno of a connect to 127.0.0.1, which the kernel answers at once.
  int Connect(uint16_t port) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connect(socket_, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0 ? 0 : errno;
  }
  // Drives the stack until the connection ends; the errno that it ends with.
  int AwaitEnd(penstock::Stack& stack) {
    const auto limit = Clock::now() + kLimit;
    while (Clock::now() < limit) {
      const auto now = Clock::now();
      const auto wait = std::min(stack.Poll(now), limit) - now;
      std::array<pollfd, 2> waiting{pollfd{.fd = socket_, .events = POLLIN, .revents = 0},
                                    pollfd{.fd = stack.descriptor(), .events = POLLIN}};
      poll(waiting.data(), waiting.size(),
           static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(wait).count()));
      char byte = 0;
      if (waiting[0].revents != 0) return recv(socket_, &byte, 1, 0) < 0 ? errno : 0;
    }
    return ETIMEDOUT;
  }
  ~Client() { close(socket_); }

 private:
  int socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
};

std::string Run() {
  auto rings = penstock::FrameRings::Create({});
  if (!rings.ok()) return rings.status().ToString();
  auto stack =
      penstock::Stack::Create({.inbound_dial_timeout = kGuestTime}, std::move(rings->stack_end));
  if (!stack.ok()) return stack.status().ToString();

  const auto spec = penstock::ParsePortSpec("127.0.0.1:0:80/tcp");
  if (!spec.ok()) return spec.status().ToString();
  const auto published = (*stack)->Publish(*spec);
  if (!published.ok()) return published.status().ToString();
  if (published->size() != 1) return "one port makes " + std::to_string(published->size());
  const penstock::PublishedPort port = published->front();

  Client client;
  if (client.Connect(port.bound.port) != 0) return "the client is not accepted";
  if (const int error = client.AwaitEnd(**stack); error != ECONNRESET) {
    return "the client sees errno " + std::to_string(error) + " and no reset";
  }
  const auto ports = (*stack)->PublishedPorts();
  if (ports.size() != 1 || ports[0].id != port.id || ports[0].flows_total != 1) {
    return "the list does not show one port with one connection";
  }

  const std::array<uint32_t, 1> ids{port.id};
  const auto removed = (*stack)->Unpublish(ids, penstock::LiveFlows::kReset);
  if (!removed.ok()) return removed.ToString();
  if (!(*stack)->PublishedPorts().empty()) return "a removed port is still listed";
  if (Client().Connect(port.bound.port) != ECONNREFUSED) return "a removed port still listens";
  return "";
}

}  // namespace

const char* RunEmbedder() {
  static const std::string fault = Run();
  return fault.c_str();
}
