#include "tools/penstock/guest_network.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace penstock::tool {
namespace {

absl::StatusOr<MacAddress> HardwareAddressOf(const std::string& name) {
  const Descriptor any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  name.copy(request.ifr_name, sizeof request.ifr_name - 1);
  if (!any.valid() || ioctl(any.get(), SIOCGIFHWADDR, &request) != 0) {
    return ErrnoStatus(absl::StrCat("cannot read the hardware address of ", name), errno);
  }
  MacAddress address;
  std::memcpy(address.data(), request.ifr_hwaddr.sa_data, address.size());
  return address;
}

uint32_t RandomNumber() {
  uint32_t number = 0;
  (void)!getrandom(&number, sizeof number, 0);  // the link has one client: 0 would do, too
  return number;
}

sockaddr_in SocketAddress(const IpAddress& address, uint16_t port) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_port = htons(port);
  std::memcpy(&result.sin_addr, address.wire().data(), sizeof result.sin_addr);
  return result;
}

}  // namespace

absl::StatusOr<GuestNetwork> GuestNetwork::Create(const InterfaceSettings& settings) {
  GuestNetwork network;
  network.name_ = settings.name;
  if (settings.ipv6.enabled && settings.ipv6_by_advertisements) {
    network.watch_.emplace(settings.ipv6.gateway, settings.ipv6.prefix_length);
  }
  if (absl::Status s = ConfigureNamespace(settings); !s.ok()) return s;
  // Nothing comes before the stack runs: this is for a watch that cannot watch.
  if (network.watch_ && network.watch_->Arrived()) network.watch_.reset();
  if (settings.ipv4.enabled && settings.ipv4_by_dhcp) {
    const absl::StatusOr<MacAddress> hardware = HardwareAddressOf(settings.name);
    if (!hardware.ok()) return hardware.status();
    absl::StatusOr<LeasedInterface> interface = LeasedInterface::Open(settings.name);
    if (!interface.ok()) return interface.status();
    network.interface_ = *std::move(interface);
    network.client_.emplace(*hardware, RandomNumber());
  }
  return network;
}

absl::Status GuestNetwork::Missing() const {
  return absl::DeadlineExceededError(
      absl::StrCat(watch_ ? "no IPv6 address could be made of a router advertisement"
                          : "no IPv4 address came by DHCP",
                   " in the sandbox in time: with --static addresses are set without asking"));
}

std::optional<DhcpLease> GuestNetwork::lease() const {
  return client_ ? client_->lease() : std::nullopt;
}

void GuestNetwork::Wait(int descriptor, Time limit) {
  const Time until = std::min(limit, client_ ? client_->NextDeadline() : kNever);
  const Duration left = std::max(until - Clock::now(), Duration::zero());
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
  const timespec timeout{
      .tv_sec = seconds.count(),
      .tv_nsec = std::chrono::duration_cast<std::chrono::nanoseconds>(left - seconds).count()};
  // Those that are -1 are left out by the kernel.
  pollfd watched[] = {{.fd = descriptor, .events = POLLIN, .revents = 0},
                      {.fd = socket_.get(), .events = POLLIN, .revents = 0},
                      {.fd = watch_ ? watch_->descriptor() : -1, .events = POLLIN, .revents = 0}};
  (void)ppoll(watched, std::size(watched), until == kNever ? nullptr : &timeout, nullptr);
  Work(Clock::now());
}

void GuestNetwork::Work(Time now) {
  if (watch_ && watch_->Arrived()) watch_.reset();
  if (!client_) return;
  Receive(now);
  if (const std::optional<DhcpClient::Outgoing> message = client_->Tick(now)) {
    if (set_ && !client_->lease()) Follow();  // its time is over
    Send(*message);
  }
}

void GuestNetwork::Receive(Time now) {
  std::array<uint8_t, 2048> bytes;
  for (ssize_t n;
       socket_.valid() && (n = recv(socket_.get(), bytes.data(), bytes.size(), 0)) >= 0;) {
    if (client_->Receive(std::span(bytes).first(static_cast<size_t>(n)), now)) Follow();
    if (client_->idle()) socket_.Reset();
  }
}

// Lets the interface have what the client has.
void GuestNetwork::Follow() {
  const std::optional<DhcpLease>& lease = client_->lease();
  if (set_ && (!lease || lease->address != set_->address)) {
    (void)interface_->Drop(*set_);  // the kernel may have been first
    set_.reset();
  }
  if (!lease) return;
  Note(interface_->Set(*lease));
  set_ = lease;
}

void GuestNetwork::Send(const DhcpClient::Outgoing& message) {
  if (!client_->lease()) Note(interface_->AddBroadcastRoute());
  if (!socket_.valid()) Note(OpenSocket());
  const sockaddr_in to = SocketAddress(message.destination, kDhcpServerPort);
  // A message that cannot leave now (a full queue) is sent again as one that was lost.
  (void)!sendto(socket_.get(), message.bytes.data(), message.bytes.size(), 0,
                reinterpret_cast<const sockaddr*>(&to), sizeof to);
}

absl::Status GuestNetwork::OpenSocket() {
  socket_.Reset(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  const sockaddr_in own = SocketAddress(IpAddress{}, kDhcpClientPort);
  if (!socket_.valid() ||
      setsockopt(socket_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      setsockopt(socket_.get(), SOL_SOCKET, SO_BROADCAST, &on, sizeof on) != 0 ||
      setsockopt(socket_.get(), SOL_SOCKET, SO_BINDTODEVICE, name_.c_str(),
                 static_cast<socklen_t>(name_.size())) != 0 ||
      bind(socket_.get(), reinterpret_cast<const sockaddr*>(&own), sizeof own) != 0) {
    absl::Status failed = ErrnoStatus("cannot open a socket for DHCP", errno);
    socket_.Reset();
    return failed;
  }
  return absl::OkStatus();
}

void GuestNetwork::Note(const absl::Status& status) {
  if (error_.ok()) error_ = status;
}

}  // namespace penstock::tool
