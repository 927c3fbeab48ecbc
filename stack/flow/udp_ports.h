// Published UDP ports on the stack's side: datagrams of host peers to the guest, and what
// the guest answers back to the peer that it answers.
//
// A pass calls BeginPass, then FromGuest for each UDP packet; what comes from host peers
// arrives by way of DatagramEnds, which moves the datagrams. Time is Poll's.
//
// To guest: the peer is found or, if the ingress hook allows it, made (udp_peers.h), and
// the datagram leaves from the relay's own buffer (datagrams_to_guest.h). Whatever cannot
// leave now is dropped and counted, by cause.
//
// To host: a packet whose destination is whom some live peer is seen as, and whose source
// is that port's guest port, is copied into a datagram of the stack's pool and handed to
// the relay.
//
// Poll thread only.
#ifndef PENSTOCK_STACK_FLOW_UDP_PORTS_H_
#define PENSTOCK_STACK_FLOW_UDP_PORTS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "publisher/datagram_ports.h"
#include "publisher/published_port.h"
#include "relay/relay.h"
#include "stack/config.h"
#include "stack/counters.h"
#include "stack/flow/datagram_ends.h"
#include "stack/flow/datagrams_to_guest.h"
#include "stack/flow/gate.h"
#include "stack/flow/udp_peers.h"
#include "stack/stack.h"
#include "stack/wire/packet.h"

namespace penstock {

class UdpPorts final : public DatagramPorts, private DatagramOwner {
 public:
  // While the guest's MAC is not known, `solicit` is called for each datagram that would
  // need it. All references outlive this.
  UdpPorts(const Config& config, DatagramsToGuest& to_guest, DatagramEnds& ends, Counters& counters,
           Gate& gate, std::function<void(const IpAddress& guest)> solicit);
  ~UdpPorts();
  UdpPorts(const UdpPorts&) = delete;
  UdpPorts& operator=(const UdpPorts&) = delete;

  void Add(const PublishedPort& info, std::shared_ptr<DatagramPipe> pipe, Relay& relay) override;
  bool Remove(uint32_t id) override;
  bool Describe(PublishedPort& row) const override;
  // The guest is reached at another address (of `link`): ports lead there, and their peers
  // of before are forgotten.
  void OnGuestMoved();
  // A row for each peer.
  void AddTo(std::vector<FlowInfo>& rows) const;
  // Forgets the peers that the policies deny now.
  void CutDenied();

  void BeginPass(Time now);
  // False: the packet is not for a peer of ours. True: it was counted, as consumed or
  // dropped.
  [[nodiscard]] bool FromGuest(const Packet& packet);
  [[nodiscard]] Time NextDeadline() const { return peers_.next_expiry(); }

  // After the relays and `ends`' batch were shut down: every datagram goes home.
  void Shutdown();

 private:
  friend class FlowAudit;  // tests/world

  struct Port final : UdpPeerSet, DatagramEnd {
    PublishedPort info;
  };

  // Peers that may expire in one pass; more expire in the next.
  static constexpr uint32_t kExpiriesPerPass = 1'024;

  [[nodiscard]] bool ToGuest(DatagramEnd& end, Datagram& datagram) override;
  void Forget(DatagramEnd& end) override;
  // False: there is no room for it. `several`: it is one of several in a frame.
  [[nodiscard]] bool SendOne(Port& port, UdpPeer& peer, std::span<const uint8_t> payload,
                             bool several);
  [[nodiscard]] static GateQuestion QuestionOf(const Port& port, const DatagramPath& path);
  [[nodiscard]] UdpPeer* PeerOf(Port& port, const Datagram& datagram);
  // Whom the guest should see; nullopt: the gateway.
  [[nodiscard]] std::optional<Endpoint> Identity(const Port& port, const Endpoint& client) const;
  // The address of the host's that the peer asked.
  [[nodiscard]] static Endpoint HostEndpoint(const Port& port, const DatagramPath& path);
  static void PutProxyHeader(const Port& port, Datagram& datagram,
                             std::span<const uint8_t>& payload);

  const Config& config_;
  DatagramsToGuest& to_guest_;
  DatagramEnds& ends_;
  Counters& counters_;
  Gate& gate_;
  const std::function<void(const IpAddress& guest)> solicit_;
  UdpPeers peers_;
  Time now_{};

  absl::flat_hash_map<uint32_t, std::unique_ptr<Port>> ports_;
  std::vector<std::unique_ptr<Port>> leaving_;  // removed, and kept for `ends_`
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_FLOW_UDP_PORTS_H_
