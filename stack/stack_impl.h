// The inside of Stack: the order of a pass, and what owns what. Poll thread unless a
// method says otherwise; not installed.
//
// A pass, always in this order:
//   1 control      Post()ed tasks, changes of the host's routes and name servers
//   2 relays       flows and datagram sockets that have something from the host become ready
//   3 ingress      frames from the link, parsed, to the gateway, to their flow, port or
//                  mapping; fragments when all of a datagram are there
//   4 timers       lwIP's tick, deadlines, fragments whose rest did not come, router
//                  advertisements
//   5 relays       get what the guest sent; a relay on this thread gives it to the host's
//                  sockets now, and its answer counts in this pass
//   6 service      ready flows (tcp_flows.h) and datagrams to guest (datagram_ends.h)
//   7 flush        the frames of the pass to the link, what they released to the relays
//   8 sleep        arm the doorbell, look once more, say when to come back
//
// Timers come before service and flush, so that what they cause leaves in the same
// pass. Relays come before service, because somebody waits for what the guest sent, and
// nobody for its acknowledgement, which costs as much.
#ifndef PENSTOCK_STACK_STACK_IMPL_H_
#define PENSTOCK_STACK_STACK_IMPL_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "publisher/publisher.h"
#include "relay/doorbell.h"
#include "relay/relay_thread.h"
#include "stack/dns/dns_datagrams.h"
#include "stack/dns/dns_policy.h"
#include "stack/dns/dns_service.h"
#include "stack/dns/dns_streams.h"
#include "stack/flow/datagram_ends.h"
#include "stack/flow/datagrams_to_guest.h"
#include "stack/flow/frame_batch.h"
#include "stack/flow/gate.h"
#include "stack/flow/gated_names.h"
#include "stack/flow/guest_datagrams.h"
#include "stack/flow/tcp_flows.h"
#include "stack/flow/udp_ports.h"
#include "stack/service/gateway.h"
#include "stack/service/host_routes.h"
#include "stack/service/services.h"
#include "stack/stack.h"
#include "stack/wire/packet.h"
#include "stack/wire/reassembly.h"

namespace penstock {

class Stack::Impl {
 public:
  Impl(Config config, std::unique_ptr<Link> link);
  ~Impl();

  // Relay threads of our own, or none: then `relay` (the driver's, on the caller's
  // thread) is the only one.
  [[nodiscard]] absl::Status Open(std::shared_ptr<Relay> relay);
  // What a relay of this stack needs to know.
  [[nodiscard]] RelayOptions MakeRelayOptions() const;

  // `link_ready` false: the caller knows that the link's descriptor is quiet, which
  // saves asking the link.
  [[nodiscard]] Time Poll(Stack& stack, Time now, bool link_ready = true);
  // For a caller that looks for events before it sleeps; see TcpFlows.
  void HoldAcknowledgements(bool may_wait) {
    flows_->HoldAcknowledgements(may_wait && capabilities_.frame_wakes_somebody);
  }
  [[nodiscard]] bool ReleaseAcknowledgements() { return flows_->ReleaseAcknowledgements(); }
  // Of frames, both ways, so far.
  [[nodiscard]] uint64_t link_bytes() const {
    return counters_.link_bytes_to_host.value() + counters_.link_bytes_to_guest.value();
  }
  void Wake() noexcept;
  void Post(std::function<void(Stack&)> task);

  [[nodiscard]] int descriptor() const { return epoll_; }
  // Readable when the host's routes changed; -1: nobody follows them. Part of descriptor().
  [[nodiscard]] int routes_descriptor() const {
    return route_follower_ ? route_follower_->descriptor() : -1;
  }
  // Readable when the host's name servers may be others; -1: nobody follows them. Likewise.
  [[nodiscard]] int names_descriptor() const { return dns_ ? dns_->descriptor() : -1; }
  [[nodiscard]] Link& link() { return *link_; }
  // The last pass that asked the link took all its frames.
  [[nodiscard]] Time now() const { return now_; }  // of the last pass
  [[nodiscard]] bool link_drained() const { return link_drained_; }
  [[nodiscard]] bool link_full() const { return batch_.link_full(); }
  [[nodiscard]] Doorbell& doorbell() { return doorbell_; }
  [[nodiscard]] CounterSnapshot Snapshot() const;  // any thread
  [[nodiscard]] std::vector<FlowInfo> Flows() const;
  [[nodiscard]] Publisher& publisher() { return *publisher_; }
  [[nodiscard]] absl::StatusOr<std::vector<PublishedPort>> Publish(const PortSpec& spec);
  [[nodiscard]] absl::Status Unpublish(std::span<const uint32_t> ids, LiveFlows live);
  [[nodiscard]] Gate& gate() { return gate_; }
  void SetPolicy(PolicyLayer layer, std::shared_ptr<const Policy> policy, LiveFlows live);
  // What the guest is told about default routes, and names, from now on.
  void SetHostRoutes(const HostRoutes& routes) {
    services_.SetHostRoutes(routes, now_);
    if (dns_) dns_->SetHostRoutes(routes);
  }

 private:
  friend class FlowAudit;                      // tests/world
  friend class SteppedStack;                   // likewise
  friend class StackPeer;                      // tests/support
  static constexpr size_t kReceiveFrames = 4;  // of one Receive
  static constexpr size_t kFramesPerPass = 128;
  // What a pass receives goes on to the host's sockets before more is received: from a core's
  // second cache (1 to 2 MiB where this was measured), not from memory.
  static constexpr size_t kBytesPerPass = 131'072;
  static constexpr size_t kFlowsPerPass = 1'024;
  static constexpr size_t kDatagramsPerPass = 512;
  // Between two looks at the host's routes and name servers: a busy stack pays for a
  // thousand in a second.
  static constexpr Duration kHostLookInterval = std::chrono::milliseconds(1);

  [[nodiscard]] absl::Status Watch(int descriptor);  // -1: there is none
  void OpenPublisher();
  // Connections to where `service` serves end in the stack from now on.
  void ServeDnsStreams(DnsStreamsService service);
  void OpenRoutes();
  void FollowHost();
  void OnHostRoutes(const HostRoutes& routes);
  void RunTasks(Stack& stack);
  void ReceiveFrames();
  void HandleFrame(const FrameToHost& frame, size_t slot);
  void HandleFragment(const Fragment& fragment);
  // `buffer` is where the packet lies; nullptr afterwards if a flow kept it.
  void HandlePacket(Packet& packet, GuestBuffer*& buffer);
  void HandleUdp(const Packet& packet);
  [[nodiscard]] bool IsForDns(const Endpoint& destination) const;
  void HandleIcmp(const Packet& packet);
  // True: it was to be passed on, and its hop limit is used up.
  [[nodiscard]] bool HopLimitExceeded(const Packet& packet);
  // True: it was for a network that the guest itself leads to.
  [[nodiscard]] bool RefusedBehindGuest(const Packet& packet);
  void AskGateway(const Packet& packet);
  // An echo request to the gateway that the policy denies.
  [[nodiscard]] bool EchoDenied(const Packet& packet);
  // Of a frame that was refused for whom it claims to be from, or is to.
  void TellRefused(const FrameToHost& frame, DropCause cause);
  // The address that the stack speaks from about what went to `destination`.
  [[nodiscard]] const IpAddress& OwnAddress(const IpAddress& destination) const;
  // True if it was for one of the link's services.
  [[nodiscard]] bool HandleService(const Packet& packet);
  void RunServices();
  void Reply(size_t length);
  void ReplyInFragments(std::span<const uint8_t> packet);
  void LearnGuestMac(const Packet& packet);
  [[nodiscard]] bool MayHaveNewMac(const ParseResult& parsed);
  void TakeFromRelays();
  void PassOn();
  void RingRelays();
  void WatchLinkWritable(bool wanted);
  [[nodiscard]] bool SleepAllowed();

  const Config config_;
  const std::unique_ptr<Link> link_;
  const LinkCapabilities capabilities_;
  Counters counters_;
  Doorbell doorbell_;
  int epoll_ = -1;
  std::optional<RouteFollower> route_follower_;
  HostRoutes host_routes_;
  uint64_t link_resets_ = 0;  // those that the guest's MAC was learned after
  Time host_looked_at_{};
  bool watching_writable_ = false;
  Gate gate_;
  LinkAddresses addresses_;
  ParseOptions parse_options_;
  Gateway gateway_;
  Services services_;
  FrameBatch batch_;
  std::vector<std::unique_ptr<RelayThread>> threads_;
  std::shared_ptr<Relay> own_relay_;
  std::vector<Relay*> relays_;
  ListenerMaker make_listener_ = &MakeTcpListener;
  UdpTaskMaker make_udp_task_ = &MakeUdpTask;
  StreamPairMaker make_pair_ = &MakeStreamPair;
  std::unique_ptr<Publisher> publisher_;
  std::unique_ptr<TcpFlows> flows_;
  DatagramsToGuest datagrams_to_guest_;
  std::unique_ptr<DatagramEnds> datagram_ends_;
  std::unique_ptr<UdpPorts> udp_ports_;
  std::unique_ptr<GuestDatagrams> guest_udp_, guest_echo_;
  std::unique_ptr<DnsStreams> dns_streams_;  // nullptr: nobody serves them
  GatedNames gated_names_{gate_, counters_};
  std::optional<DnsService> dns_;  // unless Config::dns says no
  std::optional<DnsDatagrams> dns_datagrams_;
  std::optional<Reassembly> reassembly_;

  std::vector<GuestBuffer*> slots_;
  std::vector<FrameToHost> frames_;
  std::unique_ptr<uint8_t[]> reply_ = std::make_unique<uint8_t[]>(kFrameBytesMax);
  Time now_{};
  Time last_frame_{};
  bool link_drained_ = false;
  bool link_end_told_ = false;

  std::mutex tasks_mutex_;  // control path only
  std::vector<std::function<void(Stack&)>> tasks_;
  std::atomic<bool> woken_{false};  // partner: Wake and Post
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_STACK_IMPL_H_
