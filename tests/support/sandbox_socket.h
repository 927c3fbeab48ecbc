// Stream sockets for the end-to-end scenarios, and transfers whose every byte is
// checked at its place.
//
// A socket belongs to the network namespace of the thread that made it, for good:
// guest's and host's sockets differ only in where they were made, and scenario code
// uses both alike, from any thread. No call blocks for more than kSocketLimit.
#ifndef PENSTOCK_TESTS_SUPPORT_SANDBOX_SOCKET_H_
#define PENSTOCK_TESTS_SUPPORT_SANDBOX_SOCKET_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "relay/endpoint.h"
#include "relay/time.h"
#include "tests/support/sandbox_process.h"

namespace penstock::e2e {

inline constexpr auto kSocketLimit = std::chrono::seconds(30);

class TcpSocket {
 public:
  // In the calling thread's network namespace.
  explicit TcpSocket(Family family);
  // Takes over a connected socket.
  explicit TcpSocket(Descriptor descriptor);

  [[nodiscard]] int descriptor() const { return descriptor_.get(); }
  void Set(int level, int name, int value);

  void Bind(const Endpoint& own);
  // errno of connect(2), or 0.
  [[nodiscard]] int TryConnect(const Endpoint& destination);
  void Connect(const Endpoint& destination);

  // One send(2) or recv(2); they throw std::system_error. Receive: 0 is the end.
  size_t Send(std::span<const uint8_t> bytes, int flags = 0);
  size_t Receive(std::span<uint8_t> bytes, int flags = 0);
  void SendAll(std::string_view text, int flags = 0);
  std::string ReceiveToEnd();

  // Waits until the socket is readable or writable (POLLIN, POLLOUT), or has failed.
  [[nodiscard]] bool WaitFor(short events, Duration limit) const;

  void ShutdownSending();
  void Close() { descriptor_.Close(); }
  void Reset();  // RST instead of FIN

 private:
  Descriptor descriptor_;
};

// A dual-stack listener on every address of the calling thread's namespace.
class TcpListener {
 public:
  explicit TcpListener(uint16_t port = 0);
  [[nodiscard]] uint16_t port() const { return port_; }
  [[nodiscard]] int descriptor() const { return descriptor_.get(); }
  [[nodiscard]] TcpSocket Accept();

 private:
  Descriptor descriptor_;
  uint16_t port_ = 0;
};

// Bytes [offset, offset + size) of the endless pseudo-random stream `seed`.
void FillPattern(uint64_t seed, uint64_t offset, std::span<uint8_t> bytes);

// Checks bytes against their place in the stream; throws naming the first wrong one.
void CheckPattern(uint64_t seed, uint64_t offset, std::span<const uint8_t> bytes);

struct Stream {
  uint64_t seed = 0;
  uint64_t bytes = 0;
};

// What one side of a connection does until both directions have ended.
struct Exchange {
  Stream send;
  Stream receive;            // must be exactly this, then the end
  size_t chunk_max = 65536;  // bytes of one send or receive
  // Ends its own direction only after the other side ended its.
  bool end_last = false;
  // A slow reader: waits so long before each receive.
  Duration read_pause{};
  // Asked for after so many received bytes, once: a scenario's hook.
  uint64_t hook_after = 0;
  std::function<void()> hook{};
};

// Sends and receives at the same time, ends its direction, closes the socket.
void Perform(TcpSocket& socket, const Exchange& exchange);

// Sends it all, blocking.
void SendStream(TcpSocket& socket, const Stream& stream);

// Sends the stream from `offset` on, as far as it goes without blocking: until no
// room has come for `quiet`. Returns the offset reached.
uint64_t SendUntilBlocked(TcpSocket& socket, uint64_t seed, uint64_t offset, Duration quiet);

// Runs in a thread of its own, in the host's namespace; get() throws what it threw.
template <typename Task>
auto Concurrently(Task task) {
  return std::async(std::launch::async, std::move(task));
}

}  // namespace penstock::e2e

#endif  // PENSTOCK_TESTS_SUPPORT_SANDBOX_SOCKET_H_
