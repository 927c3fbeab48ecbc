// Published UDP ports on the stack's side: datagrams of host peers to the guest, and what
// the guest answers back to the peer that it answers.
//
// A pass calls, in this order: BeginPass, TakeFromRelays, FromGuest for each UDP packet,
// ServeReady, then the batch's Flush, AfterFlush, RingRelays. Work is in proportion to the
// datagrams that came; Time is Poll's.
//
// To guest: the peer is found or, if the ingress hook allows it, made (udp_peers.h), and
// the datagram leaves from the relay's own buffer, in fragments where it is longer than
// the MTU. The buffer goes back only while no frame waits in the batch (frame_batch.h).
// Whatever cannot leave now is dropped and counted, by cause.
//
// To host: a packet whose destination is whom some live peer is seen as, and whose source
// is that port's guest port, is copied into a datagram of the stack's pool and handed to
// the relay.
//
// A port that is removed is `leaving` until the relay has said its last word
// (datagram_pipe.h). Poll thread only.
#ifndef PENSTOCK_STACK_FLOW_UDP_PORTS_H_
#define PENSTOCK_STACK_FLOW_UDP_PORTS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "publisher/datagram_ports.h"
#include "publisher/published_port.h"
#include "relay/datagram_pool.h"
#include "relay/relay.h"
#include "stack/config.h"
#include "stack/counters.h"
#include "stack/flow/frame_batch.h"
#include "stack/flow/udp_peers.h"
#include "stack/wire/emit.h"
#include "stack/wire/packet.h"

namespace penstock {

class UdpPorts final : public DatagramPorts {
 public:
  // `link` may learn the guest's MAC later; until then `solicit` is called for each
  // datagram that would need it. All references outlive this.
  UdpPorts(const Config& config, const LinkCapabilities& capabilities, const LinkAddresses& link,
           FrameBatch& batch, Counters& counters, std::vector<Relay*> relays,
           std::function<void(const IpAddress& guest)> solicit);
  ~UdpPorts() override;
  UdpPorts(const UdpPorts&) = delete;
  UdpPorts& operator=(const UdpPorts&) = delete;

  void Add(const PublishedPort& info, std::shared_ptr<DatagramPipe> pipe, Relay& relay) override;
  bool Remove(uint32_t id) override;
  bool Describe(PublishedPort& row) const override;
  // The guest is reached at another address (of `link`): ports lead there, and their peers
  // of before are forgotten.
  void OnGuestMoved();

  void BeginPass(Time now);
  void TakeFromRelays();
  // False: the packet is not for a peer of ours. True: it was counted, as consumed or
  // dropped.
  [[nodiscard]] bool FromGuest(const Packet& packet);
  // Serves at most `datagrams_max`; false if more wait.
  [[nodiscard]] bool ServeReady(size_t datagrams_max);
  // With an empty batch: gives datagrams back and ends ports.
  void AfterFlush();
  void RingRelays();
  [[nodiscard]] Time NextDeadline() const { return peers_.next_expiry(); }

  // After the relays were shut down: every datagram goes home.
  void Shutdown();

 private:
  friend class FlowAudit;  // tests/world

  struct Port final : UdpPeerSet {
    PublishedPort info;
    std::shared_ptr<DatagramPipe> pipe;
    Relay* relay = nullptr;
    size_t relay_index = 0;
    // The relay's, in order, that wait for a turn.
    Datagram* waiting_head = nullptr;
    Datagram* waiting_tail = nullptr;
    uint64_t bytes_out = 0;  // of our datagrams at the relay
    bool ready = false;
    bool leaving = false;
    bool done_told = false;
  };

  // Datagrams of one port in a row before the next ready one has its turn.
  static constexpr size_t kTurnDatagrams = 32;
  // Peers that may expire in one pass; more expire in the next.
  static constexpr uint32_t kExpiriesPerPass = 1'024;

  void Take(Port& port);
  void TakeHome(Port& port);
  // How many.
  size_t Serve(Port& port, size_t datagrams_max);
  // True if the batch refers to the datagram now.
  [[nodiscard]] bool ToGuest(Port& port, Datagram& datagram);
  [[nodiscard]] UdpPeer* PeerOf(Port& port, const DatagramPath& path);
  // Whom the guest should see; nullopt: the gateway.
  [[nodiscard]] std::optional<Endpoint> Identity(const Port& port, const Endpoint& client) const;
  // The address of the host's that the peer asked.
  [[nodiscard]] static Endpoint HostEndpoint(const Port& port, const DatagramPath& path);
  static void PutProxyHeader(const Port& port, Datagram& datagram,
                             std::span<const uint8_t>& payload);
  [[nodiscard]] bool Send(const UdpPeer& peer, std::span<const uint8_t> payload, bool& referred);
  void GiveBack(Port& port, Datagram* datagram);
  void SayLastWord(Port& port);
  void Forget(Port& port);

  const Config& config_;
  const LinkCapabilities& capabilities_;
  const LinkAddresses& link_;
  FrameBatch& batch_;
  Counters& counters_;
  const std::vector<Relay*> relays_;
  const std::function<void(const IpAddress& guest)> solicit_;
  std::vector<bool> relay_to_ring_;
  DatagramPool datagrams_;
  UdpPeers peers_;
  Time now_{};
  uint32_t identification_ = 0;

  absl::flat_hash_map<uint32_t, std::unique_ptr<Port>> ports_;
  std::vector<std::unique_ptr<Port>> leaving_;
  std::vector<Port*> ready_, serving_;
  // Datagrams to which frames in the batch refer.
  std::vector<std::pair<Port*, Datagram*>> in_batch_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_FLOW_UDP_PORTS_H_
