// The host's end in tests that script the guest: real sockets on loopback, in the
// test's own process, never blocking.
//
// A HostListener stands for a server on the host; the relay connects to it, and
// the test takes the connection with TryAccept. A HostSocket remembers what it
// read, whether it saw the end, and with which error it failed. One thread each.
#ifndef PENSTOCK_TESTS_SUPPORT_HOST_SIDE_H_
#define PENSTOCK_TESTS_SUPPORT_HOST_SIDE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "relay/endpoint.h"

namespace penstock {

// A descriptor that closes itself; -1 is none.
class HostDescriptor {
 public:
  explicit HostDescriptor(int descriptor = -1) : descriptor_(descriptor) {}
  ~HostDescriptor() { Close(); }
  HostDescriptor(HostDescriptor&& other) noexcept;
  HostDescriptor& operator=(HostDescriptor&& other) noexcept;

  [[nodiscard]] int get() const { return descriptor_; }
  [[nodiscard]] int Release() { return std::exchange(descriptor_, -1); }
  void Close();

 private:
  int descriptor_;
};

class HostSocket {
 public:
  // Makes `descriptor` non-blocking and owns it.
  explicit HostSocket(int descriptor);
  // A client of a listener on this host: connected when it returns, for the kernel
  // answers whatever fits the backlog.
  static HostSocket ConnectTo(const Endpoint& destination);
  [[nodiscard]] Endpoint own() const;
  [[nodiscard]] int descriptor() const { return descriptor_.get(); }

  // Reads what is there, at most `bytes_max`, and adds it to received().
  // Notes the end and errors. Returns how many bytes came.
  size_t Read(size_t bytes_max = SIZE_MAX);
  [[nodiscard]] const std::string& received() const { return received_; }
  // EOF was read.
  [[nodiscard]] bool ended() const { return ended_; }
  // The first errno that Read or Write met, other than EAGAIN; 0 if none.
  [[nodiscard]] int error() const { return error_; }

  // Writes a prefix of `bytes`, as much as the kernel takes now.
  size_t Write(std::string_view bytes);
  // True once the peer reset the connection, whether or not bytes wait to be read:
  // ECONNRESET, or EPIPE where the peer's FIN had come before.
  [[nodiscard]] bool WasReset();

  void ShutdownWrite();
  // close(2): FIN, or RST if unread bytes wait.
  void Close() { descriptor_.Close(); }
  // Closes with zero linger: RST.
  void Reset();

 private:
  HostDescriptor descriptor_;
  std::string received_;
  bool ended_ = false;
  int error_ = 0;
};

struct HostListenerOptions {
  int backlog = 16;
  // SO_RCVBUF of accepted sockets; 0 leaves the system's default.
  int receive_buffer_bytes = 0;
};

// Listens on 127.0.0.1 or ::1, on a port that the system chooses.
class HostListener {
 public:
  explicit HostListener(Family family, HostListenerOptions options = {});

  [[nodiscard]] uint16_t port() const { return port_; }
  // The next connection, if one waits.
  [[nodiscard]] std::optional<HostSocket> TryAccept();
  // Occupies the whole backlog, so that further connects meet silence until
  // EmptyBacklog. Needs backlog 0.
  void FillBacklog();
  void EmptyBacklog();
  // A connect to this port waits for an answer: its SYN was sent.
  [[nodiscard]] bool IsBeingDialled() const;

 private:
  Family family_;
  HostDescriptor descriptor_;
  HostDescriptor filler_;
  uint16_t port_ = 0;
};

// A port that stays ours and on which nobody listens, in both families: connects
// to it are refused.
class HostRefusedPort {
 public:
  HostRefusedPort();
  [[nodiscard]] uint16_t port() const { return port_; }

 private:
  HostDescriptor descriptor_;
  uint16_t port_ = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_TESTS_SUPPORT_HOST_SIDE_H_
