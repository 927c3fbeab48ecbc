#include "publisher/publisher.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "publisher/kernel_acceptor.h"
#include "publisher/tcp_listener.h"

namespace penstock {
namespace {

// The system chooses a port for the first family; the other one may have it in use.
constexpr int kChosenPortTries = 32;

const IpAddress kEveryIpv4 = IpAddress::V4(0, 0, 0, 0);
const IpAddress kEveryIpv6 = *IpAddress::Parse("::");

std::vector<IpAddress> AddressesOf(const BindPlace& place) {
  if (place.kind == BindPlace::Kind::kAddress) return {place.address};
  return {kEveryIpv4, kEveryIpv6};
}

bool IsLoopback(const IpAddress& address) {
  return address.is_v4() ? address.bytes[0] == 127 : address == *IpAddress::Parse("::1");
}

Exposure ExposureOf(const BindPlace& place) {
  switch (place.kind) {
    case BindPlace::Kind::kInterface:
      return Exposure::kInterface;
    case BindPlace::Kind::kEverywhere:
      return Exposure::kEverywhere;
    case BindPlace::Kind::kAddress:
      break;
  }
  if (IsLoopback(place.address)) return Exposure::kLoopback;
  const bool every = place.address == kEveryIpv4 || place.address == kEveryIpv6;
  return every ? Exposure::kEverywhere : Exposure::kAddress;
}

absl::Status BindFailure(const PortSpec& spec, const Endpoint& address, int error) {
  const std::string what =
      absl::StrCat("cannot publish ", address.ToString(), "/",
                   spec.protocol == PortProtocol::kTcp ? "tcp" : "udp",
                   spec.place.interface.empty() ? "" : " on ", spec.place.interface, ": ");
  switch (error) {
    case EADDRINUSE:
      return absl::AlreadyExistsError(
          absl::StrCat(what, "the port is in use: choose another, or 0 for any"));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(absl::StrCat(
          what, strerror(error),
          address.port != 0 && address.port < 1024 ? ": choose a port from 1024 up, or lower the "
                                                     "sysctl net.ipv4.ip_unprivileged_port_start"
                                                   : ""));
    case EADDRNOTAVAIL:
      return absl::NotFoundError(absl::StrCat(what, "no interface of the host has this address"));
    case ENODEV:
      return absl::NotFoundError(absl::StrCat(what, "the host has no such interface"));
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(
          absl::StrCat(what, "no descriptors left: raise the limit on open files (ulimit -n)"));
    default:
      return absl::UnavailableError(absl::StrCat(what, strerror(error)));
  }
}

void ReadGauge(const PortGauge& gauge, PublishedPort& row) {
  // What ended was accepted before: read in this order, the difference is never less than
  // nothing.
  const uint64_t ended = gauge.ended.value();
  row.flows_total = gauge.accepted.value();
  row.flows_live = row.flows_total - ended;
  row.bytes_to_guest = gauge.bytes_to_guest.value();
  row.bytes_to_host = gauge.bytes_to_host.value();
}

bool IsExcluded(const PortSpec& spec, uint16_t port) {
  return std::ranges::any_of(spec.excluded, [port](const PortRange& range) {
    return range.first <= port && port <= range.last;
  });
}

}  // namespace

std::shared_ptr<PortTask> MakeTcpListener(Relay& relay, ListenerSettings settings, int descriptor) {
  return std::make_shared<TcpListener<KernelAcceptor>>(relay, std::move(settings), descriptor);
}

// A socket without a task yet.
struct Publisher::Bound {
  Bound(int number, const Endpoint& where) : descriptor(number), address(where) {}
  Bound(Bound&& other) noexcept
      : descriptor(std::exchange(other.descriptor, -1)),
        address(other.address),
        guest_port(other.guest_port) {}
  Bound& operator=(Bound&&) = delete;
  ~Bound() {
    if (descriptor >= 0) close(descriptor);
  }

  int descriptor;
  Endpoint address;
  uint16_t guest_port = 0;
};

Publisher::Publisher(PublisherOptions options, std::vector<RelayPlace> relays)
    : options_(std::move(options)), relays_(std::move(relays)) {}

Publisher::~Publisher() = default;

absl::StatusOr<std::vector<PublishedPort>> Publisher::Add(const PortSpec& spec) {
  if (absl::Status status = Validate(spec); !status.ok()) return status;
  std::vector<Bound> bound;
  if (absl::Status status = BindAll(spec, bound); !status.ok()) return status;
  std::vector<PublishedPort> rows;
  for (Bound& socket : bound) {
    absl::Status status = Begin(spec, socket, rows);
    if (status.ok()) continue;
    std::vector<uint32_t> begun;
    begun.reserve(rows.size());
    for (const PublishedPort& row : rows) begun.push_back(row.id);
    (void)Remove(begun);
    return status;
  }
  return rows;
}

absl::Status Publisher::BindAll(const PortSpec& spec, std::vector<Bound>& bound) const {
  const bool chosen = spec.host == PortRange{};
  for (uint32_t i = 0; i < spec.guest.count(); ++i) {
    const auto host_port = static_cast<uint16_t>(chosen ? 0 : spec.host.first + i);
    if (!chosen && IsExcluded(spec, host_port)) continue;
    const auto guest_port = static_cast<uint16_t>(spec.guest.first + i);
    if (absl::Status s = BindOne(spec, host_port, guest_port, bound); !s.ok()) return s;
  }
  return absl::OkStatus();
}

// One port at every address of the place, at all with the same number.
absl::Status Publisher::BindOne(const PortSpec& spec, uint16_t host_port, uint16_t guest_port,
                                std::vector<Bound>& bound) const {
  const std::vector<IpAddress> addresses = AddressesOf(spec.place);
  absl::Status failure;
  for (int i = 0; i < (host_port == 0 ? kChosenPortTries : 1); ++i) {
    const size_t before = bound.size();
    uint16_t port = host_port;
    failure = absl::OkStatus();
    for (const IpAddress& address : addresses) {
      absl::StatusOr<Bound> socket = Bind(spec, {address, port});
      // A kernel without this family has no clients of it.
      if (absl::IsUnimplemented(socket.status()) && addresses.size() > 1) continue;
      failure = socket.status();
      if (!failure.ok()) break;
      port = socket->address.port;
      bound.push_back(*std::move(socket));
      bound.back().guest_port = guest_port;
    }
    if (failure.ok()) return failure;
    while (bound.size() > before) bound.pop_back();
    if (!absl::IsAlreadyExists(failure)) break;
  }
  return failure;
}

absl::StatusOr<Publisher::Bound> Publisher::Bind(const PortSpec& spec,
                                                 const Endpoint& address) const {
  const PortResult opened =
      options_.socket_factory->OpenPort({.stream = spec.protocol == PortProtocol::kTcp,
                                         .address = address,
                                         .interface = spec.place.interface,
                                         .keepalive_idle = options_.keepalive_idle,
                                         .keepalive_interval = options_.keepalive_interval,
                                         .keepalive_probes = options_.keepalive_probes});
  if (opened.descriptor >= 0) return Bound(opened.descriptor, opened.bound);
  if (opened.error == EAFNOSUPPORT) {
    return absl::UnimplementedError(absl::StrCat("cannot publish ", address.ToString(),
                                                 ": this kernel has no such address family"));
  }
  return BindFailure(spec, address, opened.error);
}

absl::Status Publisher::Begin(const PortSpec& spec, Bound& bound,
                              std::vector<PublishedPort>& rows) {
  const bool v4 = bound.address.address.is_v4();
  const IpAddress guest =
      (v4 && options_.guest4) || !options_.guest6 ? *options_.guest4 : *options_.guest6;
  Port port{.row = {.id = next_id_++,
                    .protocol = spec.protocol,
                    .bound = bound.address,
                    .interface = spec.place.interface,
                    .guest = {guest, bound.guest_port},
                    .identity = spec.identity,
                    .exposure = ExposureOf(spec.place)},
            .place = next_relay_++ % relays_.size()};
  const int descriptor = std::exchange(bound.descriptor, -1);
  if (spec.protocol == PortProtocol::kTcp) {
    BeginListener(port, descriptor);
  } else if (!BeginDatagrams(port, descriptor)) {
    return BindFailure(spec, bound.address, EMFILE);
  }
  rows.push_back(port.row);
  ports_.emplace(port.row.id, std::move(port));
  return absl::OkStatus();
}

void Publisher::BeginListener(Port& port, int descriptor) {
  const RelayPlace& place = relays_[port.place];
  port.gauge = std::make_shared<PortGauge>();
  port.gauge->guest_port = port.row.guest.port;
  port.gauge->family = port.row.guest.address.family;
  port.gauge->dialing_max = options_.dialing_max;
  port.gauge->relay_index = static_cast<uint8_t>(port.place);
  place.run([&] {
    port.task = options_.make_listener(*place.relay,
                                       {.bound = port.row.bound,
                                        .identity = port.row.identity,
                                        .ingress_hook = options_.ingress_hook,
                                        .gauge = port.gauge},
                                       descriptor);
    place.relay->Add(port.task);
  });
}

// False: the system has no room to wait for the socket.
bool Publisher::BeginDatagrams(Port& port, int descriptor) {
  const RelayPlace& place = relays_[port.place];
  const auto pipe = std::make_shared<DatagramPipe>();
  // Each datagram gets a header in front of it.
  pipe->may_join = port.row.identity != ClientIdentity::kProxyProtocol;
  place.run([&] {
    port.task = options_.make_udp_task(*place.relay, pipe, descriptor);
    if (port.task != nullptr) place.relay->Add(port.task);
  });
  if (port.task == nullptr) return false;
  options_.datagram_ports->Add(port.row, pipe, *place.relay);
  return true;
}

absl::StatusOr<std::vector<std::shared_ptr<PortGauge>>> Publisher::Remove(
    std::span<const uint32_t> ids) {
  for (const uint32_t id : ids) {
    if (!ports_.contains(id)) {
      return absl::NotFoundError(absl::StrCat("no published port has the number ", id));
    }
  }
  std::vector<std::shared_ptr<PortGauge>> gauges;
  for (const uint32_t id : ids) {
    const auto found = ports_.find(id);
    if (found == ports_.end()) continue;  // named twice
    Port& port = found->second;
    const RelayPlace& place = relays_[port.place];
    place.run([&] {
      place.relay->Remove(*port.task);
      port.task.reset();
    });
    if (port.gauge != nullptr) {
      gauges.push_back(port.gauge);
    } else {
      (void)options_.datagram_ports->Remove(id);
    }
    ports_.erase(found);
  }
  return gauges;
}

std::vector<PublishedPort> Publisher::List() const {
  std::vector<PublishedPort> rows;
  rows.reserve(ports_.size());
  for (const auto& [id, port] : ports_) rows.push_back(RowOf(port));
  return rows;
}

std::optional<PublishedPort> Publisher::Next(uint32_t id) const {
  const auto next = ports_.upper_bound(id);
  return next == ports_.end() ? std::nullopt : std::optional(RowOf(next->second));
}

PublishedPort Publisher::RowOf(const Port& port) const {
  PublishedPort row = port.row;
  if (port.gauge == nullptr) {
    (void)options_.datagram_ports->Describe(row);
  } else {
    ReadGauge(*port.gauge, row);
  }
  return row;
}

}  // namespace penstock
