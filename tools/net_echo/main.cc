// net-echo: the peer that tests, demos and people talk to. Echoes TCP and UDP, IPv4
// and IPv6, on any number of ports, and says on which.
//
// TCP: a peer that has finished sending gets the rest of its bytes and then the end
// of the stream; a reset closes that connection only. UDP: each datagram goes back
// to where it came from. One thread, one coroutine for each connection; ends on
// SIGTERM or SIGINT with status 0. Status 1: an address or port cannot be had, 2:
// wrong options.
#include <netinet/in.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <boost/asio.hpp>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace penstock::tool {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::ip::udp;
using boost::system::error_code;

constexpr size_t kStreamBufferBytes = size_t{64} << 10;
constexpr size_t kDatagramBytesMax = 65'535;
constexpr auto kAcceptPause = std::chrono::milliseconds(50);
constexpr auto kWithError = asio::as_tuple(asio::use_awaitable);

struct EchoOptions {
  std::vector<uint16_t> tcp_ports;
  std::vector<uint16_t> udp_ports;
  std::vector<std::string> addresses;  // empty: every address of both families
};

asio::awaitable<void> EchoStream(tcp::socket socket) {
  error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  // Not cleared: a page that nothing was read into costs no memory.
  const auto buffer = std::make_unique_for_overwrite<char[]>(kStreamBufferBytes);
  for (;;) {
    const auto [read_error, length] =
        co_await socket.async_read_some(asio::buffer(buffer.get(), kStreamBufferBytes), kWithError);
    if (read_error) break;  // the peer's end (all it sent was echoed), or a reset
    const auto [write_error, written] =
        co_await asio::async_write(socket, asio::buffer(buffer.get(), length), kWithError);
    if (write_error) break;
  }
}

asio::awaitable<void> Accept(tcp::acceptor acceptor) {
  for (;;) {
    auto [error, socket] = co_await acceptor.async_accept(kWithError);
    if (error == asio::error::operation_aborted) co_return;
    if (error) {  // out of descriptors, or a client that left: neither ends the server
      asio::steady_timer pause(acceptor.get_executor(), kAcceptPause);
      co_await pause.async_wait(kWithError);
      continue;
    }
    asio::co_spawn(acceptor.get_executor(), EchoStream(std::move(socket)), asio::detached);
  }
}

asio::awaitable<void> EchoDatagrams(udp::socket socket) {
  const auto buffer = std::make_unique_for_overwrite<char[]>(kDatagramBytesMax);
  for (;;) {
    udp::endpoint peer;
    const auto [error, length] = co_await socket.async_receive_from(
        asio::buffer(buffer.get(), kDatagramBytesMax), peer, kWithError);
    if (error == asio::error::operation_aborted) co_return;
    if (error) continue;  // a peer that had gone: the next one counts
    co_await socket.async_send_to(asio::buffer(buffer.get(), length), peer, kWithError);
  }
}

// Opens and binds `socket`, or throws; IPv6's wildcard takes IPv4 too.
template <typename Socket>
void Bind(Socket& socket, const asio::ip::address& address, uint16_t port, bool reuse) {
  const typename Socket::endpoint_type endpoint(address, port);
  error_code error;
  (void)socket.open(endpoint.protocol(), error);
  if (!error && address.is_v6()) {
    (void)socket.set_option(asio::ip::v6_only(!address.is_unspecified()), error);
  }
  if (!error && reuse) (void)socket.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) (void)socket.bind(endpoint, error);
  if (error) {
    std::ostringstream where;
    where << endpoint;
    throw std::runtime_error("cannot listen on " + where.str() + ": " + error.message());
  }
}

std::vector<asio::ip::address> Addresses(const EchoOptions& options, asio::io_context& io) {
  std::vector<asio::ip::address> addresses;
  for (const std::string& text : options.addresses) {
    addresses.push_back(asio::ip::make_address(text));
  }
  if (!addresses.empty()) return addresses;
  error_code no_ipv6;
  tcp::acceptor probe(io);
  probe.open(tcp::v6(), no_ipv6);
  if (no_ipv6) return {asio::ip::address_v4::any()};
  return {asio::ip::address_v6::any()};
}

// With several addresses and port 0, the port that the first one got serves all.
uint16_t ListenTcp(asio::io_context& io, const asio::ip::address& address, uint16_t port) {
  tcp::acceptor acceptor(io);
  Bind(acceptor, address, port, /*reuse=*/true);
  acceptor.listen(asio::socket_base::max_listen_connections);
  const uint16_t chosen = acceptor.local_endpoint().port();
  asio::co_spawn(io, Accept(std::move(acceptor)), asio::detached);
  std::printf("net-echo: listening on TCP port %u\n", chosen);
  return chosen;
}

uint16_t ListenUdp(asio::io_context& io, const asio::ip::address& address, uint16_t port) {
  udp::socket socket(io);
  Bind(socket, address, port, /*reuse=*/false);
  const uint16_t chosen = socket.local_endpoint().port();
  asio::co_spawn(io, EchoDatagrams(std::move(socket)), asio::detached);
  std::printf("net-echo: listening on UDP port %u\n", chosen);
  return chosen;
}

void Listen(asio::io_context& io, const EchoOptions& options) {
  const std::vector<asio::ip::address> addresses = Addresses(options, io);
  for (uint16_t port : options.tcp_ports) {
    for (const auto& address : addresses) port = ListenTcp(io, address, port);
  }
  for (uint16_t port : options.udp_ports) {
    for (const auto& address : addresses) port = ListenUdp(io, address, port);
  }
  std::fflush(stdout);
}

void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
}

int Main(int count, char** values) {
  EchoOptions options;
  CLI::App app("Echoes TCP and UDP until SIGTERM or SIGINT.", "net-echo");
  app.add_option("--tcp", options.tcp_ports, "TCP port; 0: any free one; may be repeated")
      ->type_name("PORT");
  app.add_option("--udp", options.udp_ports, "UDP port; 0: any free one; may be repeated")
      ->type_name("PORT");
  app.add_option("--bind", options.addresses, "Only this address; may be repeated")
      ->type_name("ADDRESS")
      ->check([](const std::string& text) -> std::string {
        error_code error;
        asio::ip::make_address(text, error);
        return error ? "\"" + text + "\" is no IP address" : "";
      });
  app.footer("Example:\n  net-echo --tcp 0 --udp 0 --bind 127.0.0.1 --bind ::1");
  try {
    app.parse(count, values);
    if (options.tcp_ports.empty() && options.udp_ports.empty()) {
      throw CLI::ValidationError("give at least one --tcp PORT or --udp PORT");
    }
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
    return 0;
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "net-echo: %s\n", error.what());
    return 2;
  }

  RaiseDescriptorLimit();
  asio::io_context io(1);
  asio::signal_set signals(io, SIGTERM, SIGINT);
  signals.async_wait([&io](const error_code&, int) { io.stop(); });
  try {
    Listen(io, options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "net-echo: %s\n", error.what());
    return 1;
  }
  io.run();
  return 0;
}

}  // namespace
}  // namespace penstock::tool

int main(int count, char** values) { return penstock::tool::Main(count, values); }
