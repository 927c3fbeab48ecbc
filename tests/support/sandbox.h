// A small world of network namespaces for the end-to-end tests, and guests in it
// that reach it through penstock or, to compare, through a plain veth pair.
//
//   outside  198.18.0.1, fd01::1   a machine, and a router that gives wrong answers
//      │ veth
//   host     198.18.0.2, fd01::2   the test itself and penstock; servers on any address
//      │ penstock, or a veth pair and the host's own forwarding
//   guest    10.0.2.15, fd00::15   a kernel of its own, as far as TCP is concerned
//
// The gateway's address (10.0.2.2, fd00::2) reaches the host either way: through a
// veth pair it is the host's own, through penstock it stands for the host's loopback.
// So one scenario runs on both, and passing on the plain pair shows that what it
// expects is true of a real kernel.
//
// The world lives in namespaces made by the test; the machine's own network is never
// touched. An ordinary user's test program starts itself again as root of a user
// namespace. All of it belongs to the test's main thread, but for sockets.
#ifndef PENSTOCK_TESTS_SUPPORT_SANDBOX_H_
#define PENSTOCK_TESTS_SUPPORT_SANDBOX_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "relay/endpoint.h"
#include "relay/time.h"
#include "tests/support/sandbox_process.h"
#include "tests/support/sandbox_socket.h"

namespace penstock::e2e {

inline constexpr uint64_t kMiB = 1 << 20;

// True where a sanitizer makes memory and time larger than they are.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

// The calling thread is in the network namespace while this lives.
class InNamespace {
 public:
  explicit InNamespace(int network_namespace);
  ~InNamespace();
  InNamespace(const InNamespace&) = delete;
  InNamespace& operator=(const InNamespace&) = delete;

 private:
  Descriptor before_;
};

// A network namespace, kept by a process that does nothing else.
class Namespace {
 public:
  Namespace();
  [[nodiscard]] int descriptor() const { return descriptor_.get(); }
  [[nodiscard]] pid_t holder() const { return holder_.pid(); }
  // "ipv4/tcp_syn_retries"
  void SetSysctl(const std::string& name, const std::string& value) const;
  // Lines for ip(8), each without the leading "ip".
  void Ip(const std::string& lines) const;
  // Ends the holder. The namespace ends with the last descriptor and process in it.
  void EndHolder() { holder_ = Process(); }

 private:
  Process holder_;
  Descriptor descriptor_;
};

// A temporary folder, removed with everything in it.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, const std::string& content);

// Host and outside. The calling thread becomes the host, and so does every thread
// that it starts.
class World {
 public:
  World();

  [[nodiscard]] const Namespace& outside() const { return outside_; }

  static Endpoint Outside(Family family, uint16_t port);
  // Addresses that answer in ways of their own, each for one reason.
  static Endpoint Silent(Family family);  // a black hole
  static Endpoint RouterSaysUnreachable(Family family);
  static Endpoint RouterSaysProhibited(Family family);
  static Endpoint NoSuchNeighbour(Family family);  // on the host's link, nobody there
  static Endpoint NoRouteAtHost(Family family);

 private:
  Namespace outside_;
};

enum class Via {
  kPlain,            // a veth pair: what a real kernel does
  kOneThread,        // penstock --relay-threads 0
  kRelayThread,      // penstock --relay-threads 1
  kTwoRelayThreads,  // penstock --relay-threads 2
};

// Who opens the connections of a scenario. The host's client comes by a port that
// penstock publishes, or straight to the guest's address through the plain pair.
enum class Opener { kGuest, kHost };

class Stats {
 public:
  explicit Stats(const std::string& file_content);
  // Throws if there is no such name: a counter that was renamed is a failure.
  [[nodiscard]] uint64_t operator[](const std::string& name) const;
  // All that are not zero, one on a line, for the report of a failure.
  [[nodiscard]] std::string ToString() const;

 private:
  std::map<std::string, uint64_t> values_;
};

struct SandboxOptions {
  Via via = Via::kRelayThread;
  Opener opener = Opener::kGuest;
  std::vector<std::string> penstock_options{};
  std::vector<std::string> environment{};  // of penstock, each "NAME=VALUE"
};

// A guest and its way out of its namespace.
class Sandbox {
 public:
  explicit Sandbox(SandboxOptions options = {});
  // Ends penstock by SIGTERM; a status other than 0 fails the test.
  ~Sandbox();
  Sandbox(const Sandbox&) = delete;
  Sandbox& operator=(const Sandbox&) = delete;

  static Endpoint Gateway(Family family, uint16_t port);
  static Endpoint GuestAddress(Family family, uint16_t port);

  [[nodiscard]] const Namespace& guest() const { return guest_; }
  [[nodiscard]] TcpSocket GuestSocket(Family family) const;

  // Where a client on the host reaches `port` of the guest: penstock publishes it under
  // its own number on loopback (SandboxOptions::publish, or kPublishedPort).
  [[nodiscard]] Endpoint Published(Family family, uint16_t port) const;

  // Guest's and host's end of a new connection: through the gateway address, or opened by
  // the host through kPublishedPort.
  struct Connection {
    TcpSocket guest;
    TcpSocket host;
  };
  [[nodiscard]] Connection Connect(Family family) const;
  // A listener in the guest; port 0: any.
  [[nodiscard]] TcpListener GuestListener(uint16_t port) const;

  // Only for a sandbox that runs through penstock.
  [[nodiscard]] const Process& penstock() const { return penstock_; }
  [[nodiscard]] Stats ReadStats() const;
  // A line of /proc/PID/status of penstock, such as "VmRSS": its number.
  [[nodiscard]] uint64_t ProcessStatus(const std::string& name) const;
  [[nodiscard]] size_t OpenDescriptors() const;
  // By SIGTERM; a status other than 0 throws.
  void EndPenstock();
  // Waits for an end of its own; the same.
  void AwaitEnd();
  // Kills the process that keeps the guest's namespace, to which penstock is attached.
  void EndGuest() { guest_.EndHolder(); }
  // By SIGKILL: it has no chance to put anything in order.
  void KillPenstock();
  // Times that any thread of penstock went to sleep of its own will.
  [[nodiscard]] uint64_t VoluntarySwitches() const;
  // Frames that the guest has sent on its link.
  [[nodiscard]] uint64_t FramesFromGuest() const;

  static constexpr uint16_t kPublishedPort = 7780;

 private:
  void StartPlain();
  void StartPenstock();

  SandboxOptions options_;
  // In the guest, of the scenarios that the host opens.
  std::unique_ptr<TcpListener> listener_;
  TemporaryFolder folder_;
  Namespace guest_;
  Process penstock_;
};

// The parameters that most scenarios run with.
struct SandboxCase {
  Via via;
  Family family;
  Opener opener = Opener::kGuest;
};
[[nodiscard]] std::string Name(Via via);
[[nodiscard]] std::string Name(Family family);
std::string CaseName(const ::testing::TestParamInfo<SandboxCase>& info);
std::vector<SandboxCase> EveryCase();
std::vector<SandboxCase> PenstockCases();
// The same again with connections that the host opens: one table for both.
std::vector<SandboxCase> BothOpeners(std::vector<SandboxCase> cases);

class SandboxTest : public ::testing::TestWithParam<SandboxCase> {
 protected:
  [[nodiscard]] static Family family() { return GetParam().family; }
  [[nodiscard]] static bool via_penstock() { return GetParam().via != Via::kPlain; }

  World world_;
  Sandbox sandbox_{{.via = GetParam().via, .opener = GetParam().opener}};
};

[[nodiscard]] inline double Seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace penstock::e2e

#endif  // PENSTOCK_TESTS_SUPPORT_SANDBOX_H_
