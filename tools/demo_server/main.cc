// The web server of the demo: GET sends a file of one folder, PUT stores one there.
//
//   demo-server FOLDER
//
// Listens on 127.0.0.1 and ::1, one port chosen by the system, and says so on stdout.
// Files go out by sendfile(2), so that the server costs little beside what the demo
// shows. One thread for each connection, one request on each. Ends by a signal.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

constexpr size_t kHeadBytesMax = 16384;

class Descriptor final {
 public:
  explicit Descriptor(int descriptor) : descriptor_(descriptor) {}
  ~Descriptor() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  Descriptor(Descriptor&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  [[nodiscard]] int get() const { return descriptor_; }
  [[nodiscard]] bool valid() const { return descriptor_ >= 0; }

 private:
  int descriptor_;
};

struct Request {
  std::string method;
  std::string name;  // a plain file name
  uint64_t content_length = 0;
  bool expects_continue = false;
  std::string body_start;  // bytes of the body that came with the head
};

bool SendAll(int to, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t size = write(to, bytes.data(), bytes.size());
    if (size < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(size));
  }
  return true;
}

void Answer(int socket, std::string_view status) {
  SendAll(socket,
          "HTTP/1.1 " + std::string(status) + "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

// The value of a header field, found without regard to case.
std::string_view Field(std::string_view head, std::string_view name) {
  for (size_t at = 0; (at = head.find("\r\n", at)) != std::string_view::npos;) {
    at += 2;
    std::string_view line = head.substr(at, head.find("\r\n", at) - at);
    if (line.size() <= name.size() || line[name.size()] != ':') continue;
    if (strncasecmp(line.data(), name.data(), name.size()) != 0) continue;
    line.remove_prefix(name.size() + 1);
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    return line;
  }
  return {};
}

std::optional<Request> ReadRequest(int socket) {
  std::string bytes;
  size_t end;
  while ((end = bytes.find("\r\n\r\n")) == std::string::npos) {
    char buffer[4096];
    ssize_t size = read(socket, buffer, sizeof buffer);
    if (size <= 0 || bytes.size() > kHeadBytesMax) return std::nullopt;
    bytes.append(buffer, static_cast<size_t>(size));
  }
  std::string head = bytes.substr(0, end + 2);
  size_t first_space = head.find(' ');
  size_t second_space = head.find(' ', first_space + 1);
  if (second_space == std::string::npos) return std::nullopt;

  Request request;
  request.method = head.substr(0, first_space);
  std::string target = head.substr(first_space + 1, second_space - first_space - 1);
  // One folder, no way out of it.
  if (target.size() < 2 || target[0] != '/' || target[1] == '.') return std::nullopt;
  request.name = target.substr(1);
  if (request.name.find('/') != std::string::npos) return std::nullopt;
  std::string_view length = Field(head, "Content-Length");
  std::from_chars(length.data(), length.data() + length.size(), request.content_length);
  request.expects_continue = Field(head, "Expect").starts_with("100-");
  request.body_start = bytes.substr(end + 4);
  return request;
}

void SendFile(int socket, const std::string& path) {
  Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (!file.valid() || fstat(file.get(), &status) != 0) return Answer(socket, "404 Not Found");
  SendAll(socket, "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(status.st_size) +
                      "\r\nConnection: close\r\n\r\n");
  for (off_t offset = 0; offset < status.st_size;) {
    size_t rest = static_cast<size_t>(status.st_size - offset);
    if (sendfile(socket, file.get(), &offset, rest) <= 0) return;
  }
}

void StoreFile(int socket, const std::string& path, const Request& request) {
  Descriptor file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file.valid()) return Answer(socket, "500 Internal Server Error");
  if (request.expects_continue) SendAll(socket, "HTTP/1.1 100 Continue\r\n\r\n");
  if (!SendAll(file.get(), request.body_start)) return Answer(socket, "507 Insufficient Storage");
  std::vector<char> buffer(1 << 20);
  for (uint64_t stored = request.body_start.size(); stored < request.content_length;) {
    ssize_t size = read(socket, buffer.data(), buffer.size());
    if (size <= 0) return;
    if (!SendAll(file.get(), {buffer.data(), static_cast<size_t>(size)})) {
      return Answer(socket, "507 Insufficient Storage");
    }
    stored += static_cast<uint64_t>(size);
  }
  Answer(socket, "201 Created");
}

void Serve(const Descriptor& socket, const std::string& folder) {
  std::optional<Request> request = ReadRequest(socket.get());
  if (!request) return Answer(socket.get(), "400 Bad Request");
  std::string path = folder + "/" + request->name;
  if (request->method == "GET") return SendFile(socket.get(), path);
  if (request->method == "PUT") return StoreFile(socket.get(), path, *request);
  Answer(socket.get(), "405 Method Not Allowed");
}

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "demo-server: cannot %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

// Loopback of one family; port 0: any.
Descriptor Listen(int family, uint16_t port) {
  sockaddr_storage address{};
  socklen_t size = 0;
  if (family == AF_INET) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(address);
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    v4.sin_port = htons(port);
    size = sizeof v4;
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(address);
    v6.sin6_addr = in6addr_loopback;
    v6.sin6_port = htons(port);
    size = sizeof v6;
  }
  address.ss_family = static_cast<sa_family_t>(family);
  Descriptor listener(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listener.valid()) Fail("make a socket");
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) {
    Fail(family == AF_INET ? "bind 127.0.0.1" : "bind ::1");
  }
  if (listen(listener.get(), 128) != 0) Fail("listen");
  return listener;
}

uint16_t PortOf(const Descriptor& listener) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "Usage: demo-server FOLDER\n");
    return 2;
  }
  const std::string folder = arguments[1];
  std::signal(SIGPIPE, SIG_IGN);
  const Descriptor v4 = Listen(AF_INET, 0);
  const uint16_t port = PortOf(v4);
  const Descriptor v6 = Listen(AF_INET6, port);
  std::printf("demo-server: listening on TCP port %d\n", port);
  std::fflush(stdout);

  pollfd listeners[] = {{v4.get(), POLLIN, 0}, {v6.get(), POLLIN, 0}};
  for (;;) {
    if (poll(listeners, 2, -1) < 0 && errno != EINTR) Fail("wait for connections");
    for (const pollfd& each : listeners) {
      if ((each.revents & POLLIN) == 0) continue;
      Descriptor accepted(accept4(each.fd, nullptr, nullptr, SOCK_CLOEXEC));
      if (!accepted.valid()) continue;
      std::thread([socket = std::move(accepted), folder] { Serve(socket, folder); }).detach();
    }
  }
}
