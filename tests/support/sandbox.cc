#include "tests/support/sandbox.h"

#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "tests/support/places.h"

namespace penstock::e2e {
namespace {

constexpr auto kStartLimit = std::chrono::seconds(20);
constexpr auto kEndLimit = std::chrono::seconds(30);

// An ordinary user may do all this as root of a user namespace, but a process with
// threads (the thread sanitizer's own is one) cannot enter one: so by exec.
void BecomeRootOfUserNamespace() {
  std::string command_line = ReadFile("/proc/self/cmdline");
  std::vector<std::string> words = {"unshare", "--user", "--map-root-user", "--mount"};
  words.push_back(std::filesystem::read_symlink("/proc/self/exe"));
  std::istringstream stream(command_line.substr(command_line.find('\0') + 1));
  for (std::string word; std::getline(stream, word, '\0');) words.push_back(word);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  execvp(arguments[0], arguments.data());
  ThrowErrno("cannot run unshare(1), which end-to-end tests need when not run as root");
}

void RaiseDescriptorLimit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

Descriptor OpenNamespace(const std::string& path) {
  Descriptor descriptor(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (descriptor.get() < 0) ThrowErrno("open " + path);
  return descriptor;
}

void WriteSysctl(const std::string& name, const std::string& value) {
  WriteFile("/proc/sys/net/" + name, value);
}

void RunIp(const std::string& lines) { RunOrThrow({"ip", "-batch", "-"}, {.input = lines}); }

Process StartHolder() { return Process({"sleep", "infinity"}, {.own_network_namespace = true}); }

// A veth pair from the host into another namespace. Both ends know each other's MAC
// address for good: a fresh link's first neighbour solicitations may be lost.
struct VethPair {
  std::string host_end;
  std::string host_v4;
  std::string host_v6;
  std::string far_end;
  std::string far_v4;
  std::string far_v6;
};

constexpr char kHostMac[] = "02:00:00:00:00:02";
constexpr char kFarMac[] = "02:00:00:00:00:01";

// One end's address of a family, and the other's, as lines for ip(8).
std::string Addresses(const std::string& name, const std::string& own, const std::string& other,
                      const std::string& other_mac) {
  return "addr add " + own + " dev " + name + (own.find(':') != std::string::npos ? " nodad" : "") +
         "\nneigh add " + other + " lladdr " + other_mac + " dev " + name + " nud permanent\n";
}

// A link that has just come up drops frames until the kernel's deferred work has seen
// it; asking ethtool for the link's state does that work at once.
void SettleLink(const std::string& name) {
  Descriptor control(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ethtool_value state{.cmd = ETHTOOL_GLINK, .data = 0};
  ifreq request{};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_data = reinterpret_cast<char*>(&state);
  if (ioctl(control.get(), SIOCETHTOOL, &request) != 0) ThrowErrno("ask for the link of " + name);
  if (state.data == 0) throw std::runtime_error(name + " has no link");
}

// An IPv6 address receives nothing until deferred work of the kernel has made a local
// route to it, although it may be bound before.
void AwaitLocalRoute(const std::string& address) {
  const IpAddress parsed = *IpAddress::Parse(address);
  std::string digits;
  for (uint8_t byte : parsed.bytes) {
    digits += "0123456789abcdef"[byte >> 4];
    digits += "0123456789abcdef"[byte & 15];
  }
  constexpr uint32_t kLocal = 0x80000000;  // RTF_LOCAL
  for (Time limit = Clock::now() + kStartLimit; Clock::now() < limit; poll(nullptr, 0, 1)) {
    std::istringstream lines(ReadFile("/proc/thread-self/net/ipv6_route"));
    for (std::string line; std::getline(lines, line);) {
      if (!line.starts_with(digits + " 80 ")) continue;
      std::istringstream words(line);
      std::string flags;
      for (int column = 0; column < 9; ++column) words >> flags;
      if ((std::stoul(flags, nullptr, 16) & kLocal) != 0) return;
    }
  }
  throw std::runtime_error("no local route to " + address);
}

void Join(const VethPair& pair, const Namespace& far) {
  RunIp("link add " + pair.host_end + " address " + kHostMac + " type veth peer name " +
        pair.far_end + " address " + kFarMac + " netns " + std::to_string(far.holder()) + "\n" +
        "link set " + pair.host_end + " up\n");
  {
    InNamespace inside(far.descriptor());
    RunIp("link set lo up\nlink set " + pair.far_end + " up\n");
    SettleLink(pair.far_end);
    RunIp(Addresses(pair.far_end, pair.far_v4 + "/24", pair.host_v4, kHostMac) +
          Addresses(pair.far_end, pair.far_v6 + "/64", pair.host_v6, kHostMac));
    AwaitLocalRoute(pair.far_v6);
  }
  SettleLink(pair.host_end);
  RunIp(Addresses(pair.host_end, pair.host_v4 + "/24", pair.far_v4, kFarMac) +
        Addresses(pair.host_end, pair.host_v6 + "/64", pair.far_v6, kFarMac));
  AwaitLocalRoute(pair.host_v6);
}

void ConfigureHost() {
  RunIp(
      "link set lo up\n"
      "route add 198.19.0.0/16 via 198.18.0.1\n"
      "route add fd02::/16 via fd01::1\n");
  // A neighbour that does not answer is given up after one second, not three.
  WriteSysctl("ipv4/neigh/to-outside/mcast_solicit", "1");
  WriteSysctl("ipv6/neigh/to-outside/mcast_solicit", "1");
}

// Forwards, sends as many ICMP errors as it likes, and does not depend on the machine's
// choice of congestion control: Reno is the one that every namespace may choose.
void ConfigureKernel() {
  WriteSysctl("ipv4/ip_forward", "1");
  WriteSysctl("ipv6/conf/all/forwarding", "1");
  WriteSysctl("ipv4/icmp_ratelimit", "0");
  WriteSysctl("ipv6/icmp/ratelimit", "0");
  WriteSysctl("ipv4/tcp_congestion_control", "reno");
}

void ConfigureOutside(const Namespace& outside) {
  InNamespace inside(outside.descriptor());
  ConfigureKernel();
  RunIp(
      "route add 10.0.2.0/24 via 198.18.0.2\n"
      "route add fd00::/64 via fd01::2\n"
      "route add unreachable 198.19.1.0/24\n"
      "route add unreachable fd02:1::/32\n"
      "route add prohibit 198.19.2.0/24\n"
      "route add prohibit fd02:2::/32\n"
      "route add blackhole 198.19.3.0/24\n"
      "route add blackhole fd02:3::/32\n");
}

Endpoint Choose(Family family, std::string_view v4, std::string_view v6, uint16_t port) {
  return {.address = *IpAddress::Parse(family == Family::kIpv4 ? v4 : v6), .port = port};
}

std::string RelayThreads(Via via) {
  return via == Via::kOneThread ? "0" : via == Via::kRelayThread ? "1" : "2";
}

// Waits for "1" and end of file on the pipe that penstock was given as --ready-fd.
void WaitUntilReady(int descriptor) {
  pollfd readable{.fd = descriptor, .events = POLLIN, .revents = 0};
  int limit = static_cast<int>(std::chrono::milliseconds(kStartLimit).count());
  if (poll(&readable, 1, limit) == 0) throw std::runtime_error("penstock did not become ready");
  char byte = 0;
  if (read(descriptor, &byte, 1) != 1 || byte != '1') {
    throw std::runtime_error("penstock ended before it was ready");
  }
}

}  // namespace

InNamespace::InNamespace(int network_namespace)
    : before_(OpenNamespace("/proc/thread-self/ns/net")) {
  if (setns(network_namespace, CLONE_NEWNET) != 0) ThrowErrno("setns");
}

InNamespace::~InNamespace() {
  // A thread in the wrong namespace would make every later result a lie.
  if (setns(before_.get(), CLONE_NEWNET) != 0) std::abort();
}

Namespace::Namespace()
    : holder_(StartHolder()),
      descriptor_(OpenNamespace("/proc/" + std::to_string(holder_.pid()) + "/ns/net")) {}

void Namespace::SetSysctl(const std::string& name, const std::string& value) const {
  InNamespace inside(descriptor());
  WriteSysctl(name, value);
}

void Namespace::Ip(const std::string& lines) const {
  InNamespace inside(descriptor());
  RunIp(lines);
}

TemporaryFolder::TemporaryFolder() : path_(::testing::TempDir() + "/penstock-XXXXXX") {
  if (mkdtemp(path_.data()) == nullptr) ThrowErrno("mkdtemp " + path_);
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  if (!file) throw std::runtime_error("cannot read " + path);
  return content.str();
}

void WriteFile(const std::string& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary);
  file << content << std::flush;
  if (!file) throw std::runtime_error("cannot write " + path);
}

World::World()
    : outside_([] {
        if (geteuid() != 0) BecomeRootOfUserNamespace();
        RaiseDescriptorLimit();
        if (unshare(CLONE_NEWNET) != 0) ThrowErrno("unshare a network namespace");
        return Namespace();
      }()) {
  ConfigureKernel();
  Join({.host_end = "to-outside",
        .host_v4 = "198.18.0.2",
        .host_v6 = "fd01::2",
        .far_end = "to-host",
        .far_v4 = "198.18.0.1",
        .far_v6 = "fd01::1"},
       outside_);
  ConfigureHost();
  ConfigureOutside(outside_);
}

Endpoint World::Outside(Family family, uint16_t port) {
  return Choose(family, "198.18.0.1", "fd01::1", port);
}
Endpoint World::RouterSaysUnreachable(Family family) {
  return Choose(family, "198.19.1.1", "fd02:1::1", 80);
}
Endpoint World::RouterSaysProhibited(Family family) {
  return Choose(family, "198.19.2.1", "fd02:2::1", 80);
}
Endpoint World::Silent(Family family) { return Choose(family, "198.19.3.1", "fd02:3::1", 80); }
Endpoint World::NoSuchNeighbour(Family family) {
  return Choose(family, "198.18.0.99", "fd01::99", 80);
}
Endpoint World::NoRouteAtHost(Family family) {
  return Choose(family, "203.0.113.1", "2001:db8::1", 80);
}

Stats::Stats(const std::string& file_content) {
  std::istringstream lines(file_content);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name;
    uint64_t value = 0;
    if (words >> name >> value) values_[name] = value;
  }
}

uint64_t Stats::operator[](const std::string& name) const {
  auto found = values_.find(name);
  if (found == values_.end()) throw std::runtime_error("no counter is called " + name);
  return found->second;
}

std::string Stats::ToString() const {
  std::string text;
  for (const auto& [name, value] : values_) {
    if (value != 0) text += "  " + name + " " + std::to_string(value) + "\n";
  }
  return text;
}

Sandbox::Sandbox(SandboxOptions options) : options_(std::move(options)) {
  guest_.SetSysctl("ipv4/tcp_congestion_control", "reno");
  // The guest has its addresses and routes: no frames of its own that ask for more.
  guest_.SetSysctl("ipv6/conf/default/accept_ra", "0");
  guest_.SetSysctl("ipv6/conf/default/router_solicitations", "0");
  if (options_.via == Via::kPlain) {
    StartPlain();
  } else {
    StartPenstock();
  }
  if (options_.opener == Opener::kHost) {
    listener_ = std::make_unique<TcpListener>(GuestListener(kPublishedPort));
  }
}

Sandbox::~Sandbox() {
  if (penstock_.pid() <= 0) return;
  try {
    penstock_.Signal(SIGTERM);
    EXPECT_EQ(penstock_.Wait(kEndLimit), 0) << "penstock's exit status";
  } catch (const std::exception& error) {
    ADD_FAILURE() << "ending penstock: " << error.what();
  }
}

void Sandbox::StartPlain() {
  Join({.host_end = "to-guest",
        .host_v4 = "10.0.2.2",
        .host_v6 = "fd00::2",
        .far_end = "eth0",
        .far_v4 = "10.0.2.15",
        .far_v6 = "fd00::15"},
       guest_);
  guest_.Ip(
      "route add default via 10.0.2.2\n"
      "route add default via fd00::2 dev eth0\n");
}

void Sandbox::StartPenstock() {
  Pipe ready;
  std::string ready_fd = std::to_string(ready.writing_end.get());
  std::vector<std::string> command = {ProgramPath("penstock"),
                                      "attach",
                                      "--pid",
                                      std::to_string(guest_.holder()),
                                      "--ready-fd",
                                      ready_fd,
                                      "--host-loopback",
                                      "--stats-file",
                                      folder_ / "stats",
                                      "--relay-threads",
                                      RelayThreads(options_.via)};
  if (options_.opener == Opener::kHost) {
    const std::string port = std::to_string(kPublishedPort);
    for (const char* address : {"127.0.0.1", "[::1]"}) {
      command.insert(command.end(), {"--publish", address + (":" + port + ":") + port});
    }
  }
  for (const std::string& word : options_.penstock_options) command.push_back(word);
  if (!options_.environment.empty()) {
    command.insert(command.begin(), options_.environment.begin(), options_.environment.end());
    command.insert(command.begin(), "env");
  }
  penstock_ = Process(command, {.kept = {ready.writing_end.get()}});
  ready.writing_end.Close();
  WaitUntilReady(ready.reading_end.get());
}

Endpoint Sandbox::Gateway(Family family, uint16_t port) {
  return Choose(family, "10.0.2.2", "fd00::2", port);
}

Endpoint Sandbox::GuestAddress(Family family, uint16_t port) {
  return Choose(family, "10.0.2.15", "fd00::15", port);
}

TcpSocket Sandbox::GuestSocket(Family family) const {
  InNamespace inside(guest_.descriptor());
  return TcpSocket(family);
}

TcpListener Sandbox::GuestListener(uint16_t port) const {
  InNamespace inside(guest_.descriptor());
  return TcpListener(port);
}

Endpoint Sandbox::Published(Family family, uint16_t port) const {
  if (options_.via == Via::kPlain) return GuestAddress(family, port);
  return Choose(family, "127.0.0.1", "::1", port);
}

Sandbox::Connection Sandbox::Connect(Family family) const {
  if (listener_ != nullptr) {
    TcpSocket host(family);
    host.Connect(Published(family, kPublishedPort));
    // Whom penstock refuses hears so, and nobody comes to the guest.
    pollfd either[] = {{.fd = listener_->descriptor(), .events = POLLIN, .revents = 0},
                       {.fd = host.descriptor(), .events = POLLIN, .revents = 0}};
    poll(either, 2, static_cast<int>(std::chrono::milliseconds(kSocketLimit).count()));
    uint8_t none = 0;
    if (either[0].revents == 0 && either[1].revents != 0) (void)host.Receive({&none, 1});
    return {.guest = listener_->Accept(), .host = std::move(host)};
  }
  TcpListener listener;
  TcpSocket guest = GuestSocket(family);
  guest.Connect(Gateway(family, listener.port()));
  return {.guest = std::move(guest), .host = listener.Accept()};
}

Stats Sandbox::ReadStats() const {
  // The file is replaced when the signal is answered: the folder tells when.
  Descriptor watch(inotify_init1(IN_CLOEXEC));
  std::string folder = folder_ / "";
  if (watch.get() < 0 || inotify_add_watch(watch.get(), folder.c_str(), IN_MOVED_TO) < 0) {
    ThrowErrno("inotify");
  }
  penstock_.Signal(SIGUSR1);
  for (;;) {
    pollfd readable{.fd = watch.get(), .events = POLLIN, .revents = 0};
    int limit = static_cast<int>(std::chrono::milliseconds(kStartLimit).count());
    if (poll(&readable, 1, limit) == 0) throw std::runtime_error("no stats after SIGUSR1");
    alignas(inotify_event) char buffer[4096];
    ssize_t size = read(watch.get(), buffer, sizeof buffer);
    for (ssize_t at = 0; at < size;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
      if (std::string_view(event->name) == "stats") return Stats(ReadFile(folder_ / "stats"));
      at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
    }
  }
}

uint64_t Sandbox::ProcessStatus(const std::string& name) const {
  std::istringstream lines(ReadFile("/proc/" + std::to_string(penstock_.pid()) + "/status"));
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name + ":")) return std::stoull(line.substr(name.size() + 1));
  }
  throw std::runtime_error("/proc/PID/status has no " + name);
}

size_t Sandbox::OpenDescriptors() const {
  const std::filesystem::directory_iterator open("/proc/" + std::to_string(penstock_.pid()) +
                                                 "/fd");
  return static_cast<size_t>(std::distance(begin(open), end(open)));
}

void Sandbox::EndPenstock() {
  penstock_.Signal(SIGTERM);
  AwaitEnd();
}

void Sandbox::AwaitEnd() {
  if (const int status = penstock_.Wait(kEndLimit); status != 0) {
    throw std::runtime_error("penstock's exit status is " + std::to_string(status));
  }
  penstock_ = Process();
}

void Sandbox::KillPenstock() {
  penstock_.Signal(SIGKILL);
  (void)penstock_.Wait(kEndLimit);
  penstock_ = Process();
}

uint64_t Sandbox::VoluntarySwitches() const {
  uint64_t total = 0;
  std::string tasks = "/proc/" + std::to_string(penstock_.pid()) + "/task";
  for (const auto& task : std::filesystem::directory_iterator(tasks)) {
    std::istringstream lines(ReadFile(task.path() / "status"));
    const std::string name = "voluntary_ctxt_switches:";
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with(name)) total += std::stoull(line.substr(name.size()));
    }
  }
  return total;
}

uint64_t Sandbox::FramesFromGuest() const {
  InNamespace inside(guest_.descriptor());
  std::istringstream lines(ReadFile("/proc/thread-self/net/dev"));
  for (std::string line; std::getline(lines, line);) {
    size_t colon = line.find(':');
    if (colon == std::string::npos || line.find("tap0") == std::string::npos) continue;
    std::istringstream numbers(line.substr(colon + 1));
    uint64_t sent = 0;
    for (int column = 0; column < 10; ++column) numbers >> sent;  // the tenth: packets sent
    return sent;
  }
  throw std::runtime_error("the guest has no tap0");
}

std::string Name(Via via) {
  switch (via) {
    case Via::kPlain:
      return "plain";
    case Via::kOneThread:
      return "one_thread";
    case Via::kRelayThread:
      return "relay_thread";
    case Via::kTwoRelayThreads:
      return "two_relay_threads";
  }
  std::abort();
}

std::string Name(Family family) { return family == Family::kIpv4 ? "ipv4" : "ipv6"; }

std::string CaseName(const ::testing::TestParamInfo<SandboxCase>& info) {
  return Name(info.param.via) + "_" + Name(info.param.family) +
         (info.param.opener == Opener::kHost ? "_published" : "");
}

std::vector<SandboxCase> BothOpeners(std::vector<SandboxCase> cases) {
  const size_t count = cases.size();
  for (size_t i = 0; i < count; ++i) {
    cases.push_back({cases[i].via, cases[i].family, Opener::kHost});
  }
  return cases;
}

std::vector<SandboxCase> EveryCase() {
  std::vector<SandboxCase> cases = {{Via::kPlain, Family::kIpv4}, {Via::kPlain, Family::kIpv6}};
  for (const SandboxCase& each : PenstockCases()) cases.push_back(each);
  return cases;
}

std::vector<SandboxCase> PenstockCases() {
  return {{Via::kOneThread, Family::kIpv4},
          {Via::kOneThread, Family::kIpv6},
          {Via::kRelayThread, Family::kIpv4},
          {Via::kRelayThread, Family::kIpv6}};
}

}  // namespace penstock::e2e
