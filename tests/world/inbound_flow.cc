// Flows that a client of a published port opens: the part of WorldFlow that plays the
// client, and the guest that accepts. Clients are told apart by their listener, and each
// round has a client of its own.
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "publisher/proxy_header.h"
#include "stack/config.h"
#include "tests/world/guest_port.h"
#include "tests/world/world_flow.h"

namespace penstock::world {
namespace {

constexpr uint16_t kFirstClientPort = 10'000, kClientPortsPerFlow = 128;

IpAddress Loopback(const FlowScript& flow) {
  return flow.ipv6 != 0 ? *IpAddress::Parse("::1") : IpAddress::V4(127, 0, 0, 1);
}

}  // namespace

IpAddress ClientAddressOf(const FlowScript& flow) {
  const bool v6 = flow.ipv6 != 0;
  if (flow.client_away != 0) return *IpAddress::Parse(v6 ? "2001:db8:1::9" : "198.51.100.9");
  return Loopback(flow);
}

PortSpec WorldFlow::Spec() const {
  return {.place = {.address = Loopback(script_)},
          .guest = {destination_.port, destination_.port},
          .identity = static_cast<ClientIdentity>(script_.identity)};
}

int WorldFlow::OnAccept() {
  if (accept_errors_left_ == 0) return 0;
  --accept_errors_left_;
  return EMFILE;
}

void WorldFlow::ConnectClient() {
  client_.address = ClientAddressOf(script_);
  client_.port = static_cast<uint16_t>(kFirstClientPort + index_ * kClientPortsPerFlow +
                                       static_cast<size_t>(round_));
  connects_at_ = timeline_.now();
  const std::shared_ptr<HostPeer> peer = host_.Connect(client_, bound_);
  note_(absl::StrCat("flow ", index_, "'s client: ", peer ? "connects" : "is refused"));
  if (peer != nullptr) AddHostEnd(*peer);
}

void WorldFlow::OnAccepted(GuestConnection& connection) {
  // Of a client that left before its guest answered: the stack's reset is on its way.
  if (!started_) return;
  if (connection_ != nullptr) {
    // A SYN that comes again after the guest has reset its connection opens another.
    const bool by_a_double = doubles_ && guest_talker_->reset();
    if (!by_a_double) wrong_ = "the guest accepted two connections for one client";
    return;
  }
  connection_ = &connection;
  connected_at_ = timeline_.now();
  const Config config;
  const bool shown = script_.identity == 1 && script_.client_away != 0;
  const IpAddress gateway = script_.ipv6 != 0 ? config.ipv6.gateway : config.ipv4.gateway;
  const Endpoint peer = connection.peer();
  if (peer.address != (shown ? client_.address : gateway)) {
    wrong_ = absl::StrCat("the guest sees ", peer.ToString());
  }
  note_(absl::StrCat("flow ", index_, "'s guest: accepts ", peer.ToString()));
  const bool header = script_.identity == 2;
  guest_port_ = std::make_unique<GuestPort>(
      connection,
      header ? ProxyHeader(PortProtocol::kTcp, client_, bound_) : std::vector<uint8_t>());
}

// The guest has seen nothing of it.
std::string WorldFlow::VerifyRefusal(const LinkFacts& facts) const {
  if (ends_.empty()) return facts.unpublished ? "" : "nobody listened to a published port";
  const HostEnd& end = ends_.front();
  if (end.talker->reset() || end.talker->left()) return "";
  if (!end.peer->saw_reset()) return "the guest was not reached, and the client was not reset";
  if (script_.answer != kAccept || facts.unpublished || facts.clients_refused || facts.given_up) {
    return "";
  }
  // A guest that accepted may forget a connection whose last ACK was lost, or late.
  return facts.lossy || facts.paused_long ? "" : "a client was reset, and nothing excuses it";
}

}  // namespace penstock::world
