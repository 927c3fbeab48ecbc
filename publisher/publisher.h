// The published ports of one stack: binds sockets, gives each to a relay, takes them
// back. Adding is all or nothing.
//
// Poll thread. A listener lives on a relay's thread; where something must happen there,
// the poll thread lets the relay do it and waits (RelayPlace::run), so that an address
// is free when Remove returns.
#ifndef PENSTOCK_PUBLISHER_PUBLISHER_H_
#define PENSTOCK_PUBLISHER_PUBLISHER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "publisher/datagram_ports.h"
#include "publisher/port_spec.h"
#include "publisher/published_port.h"
#include "relay/datagram_task.h"
#include "relay/inbound.h"
#include "relay/port_task.h"
#include "relay/relay.h"

namespace penstock {

struct ListenerSettings;

// A relay, and how to do something on its thread: returns when it was done.
struct RelayPlace {
  Relay* relay = nullptr;
  std::function<void(const std::function<void()>&)> run;
};

// The task behind a bound socket, which it owns from then on. Relay's thread.
using ListenerMaker = std::shared_ptr<PortTask> (*)(Relay&, ListenerSettings, int descriptor);
[[nodiscard]] std::shared_ptr<PortTask> MakeTcpListener(Relay& relay, ListenerSettings settings,
                                                        int descriptor);

struct PublisherOptions {
  std::shared_ptr<SocketFactory> socket_factory;
  IngressHook ingress_hook;
  DatagramPorts* datagram_ports = nullptr;  // where UDP goes; outlives the publisher
  // Of the families that are on; at least one.
  std::optional<IpAddress> guest4;
  std::optional<IpAddress> guest6;
  Duration keepalive_idle{};
  Duration keepalive_interval{};
  int keepalive_probes = 0;
  uint32_t dialing_max = 256;  // see PortGauge
  ListenerMaker make_listener = &MakeTcpListener;
  UdpTaskMaker make_udp_task = &MakeUdpTask;
};

class Publisher final {
 public:
  Publisher(PublisherOptions options, std::vector<RelayPlace> relays);
  ~Publisher();
  Publisher(const Publisher&) = delete;
  Publisher& operator=(const Publisher&) = delete;

  // See Stack::Publish.
  [[nodiscard]] absl::StatusOr<std::vector<PublishedPort>> Add(const PortSpec& spec);
  // Closes the sockets; nothing is done if an id is not there. The gauges of the TCP ports
  // that were removed, whose flows may live on.
  [[nodiscard]] absl::StatusOr<std::vector<std::shared_ptr<PortGauge>>> Remove(
      std::span<const uint32_t> ids);
  [[nodiscard]] std::vector<PublishedPort> List() const;
  // The one with the lowest id above this one.
  [[nodiscard]] std::optional<PublishedPort> Next(uint32_t id) const;

 private:
  friend class FlowAudit;  // tests/world
  struct Bound;
  struct Port {
    PublishedPort row;  // without the numbers
    // TCP: its numbers.
    std::shared_ptr<PortGauge> gauge;
    size_t place = 0;  // of relays_
    std::shared_ptr<PortTask> task;
  };

  [[nodiscard]] PublishedPort RowOf(const Port& port) const;
  [[nodiscard]] absl::Status BindAll(const PortSpec& spec, std::vector<Bound>& bound) const;
  [[nodiscard]] absl::Status BindOne(const PortSpec& spec, uint16_t host_port, uint16_t guest_port,
                                     std::vector<Bound>& bound) const;
  [[nodiscard]] absl::StatusOr<Bound> Bind(const PortSpec& spec, const Endpoint& address) const;
  [[nodiscard]] absl::Status Begin(const PortSpec& spec, Bound& bound,
                                   std::vector<PublishedPort>& rows);
  void BeginListener(Port& port, int descriptor);
  [[nodiscard]] bool BeginDatagrams(Port& port, int descriptor);

  const PublisherOptions options_;
  const std::vector<RelayPlace> relays_;
  std::map<uint32_t, Port> ports_;
  uint32_t next_id_ = 1;
  size_t next_relay_ = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_PUBLISHER_PUBLISHER_H_
