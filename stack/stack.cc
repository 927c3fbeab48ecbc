#include "stack/stack.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "relay/out_of_memory.h"
#include "stack/stack_impl.h"

namespace penstock {
namespace {

// Descriptors kept free for listeners, DNS, control and the embedder.
constexpr rlim_t kDescriptorReserve = 64;

// One descriptor per flow and per UDP mapping: no more than the process may have.
Config Complete(Config config) {
  if (config.socket_factory == nullptr) config.socket_factory = DefaultSocketFactory();
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return config;
  const rlim_t usable = limit.rlim_cur > 2 * kDescriptorReserve
                            ? limit.rlim_cur - kDescriptorReserve
                            : kDescriptorReserve;
  // UDP gets what the flows leave, and an eighth where that is short; echo has few. So the
  // 20,000 descriptors of a common limit are enough for all flows of the default.
  const rlim_t left = usable - std::min<rlim_t>(usable, config.flow_count_max);
  config.udp_mapping_count_max = static_cast<uint32_t>(
      std::min<rlim_t>(config.udp_mapping_count_max, std::max(left, usable / 8)));
  const rlim_t for_flows = usable - config.udp_mapping_count_max;
  config.flow_count_max = static_cast<uint32_t>(std::min<rlim_t>(config.flow_count_max, for_flows));
  config.half_open_count_max = std::min(config.half_open_count_max, config.flow_count_max);
  config.half_open_per_destination_max =
      std::min(config.half_open_per_destination_max, config.half_open_count_max);
  return config;
}

Event EventOf(EventKind kind, const PublishedPort& port) {
  return {
      .kind = kind,
      .direction = Direction::kIngress,
      .protocol = port.protocol == PortProtocol::kTcp ? PolicyProtocol::kTcp : PolicyProtocol::kUdp,
      .guest = port.guest,
      .peer = port.bound};
}

}  // namespace

// ---------------------------------------------------------------- the facade

int PollTimeout(Time now, Time deadline) {
  using std::chrono::milliseconds;
  if (deadline == kNever) return -1;
  if (deadline <= now) return 0;
  constexpr int64_t kMax = std::numeric_limits<int>::max();
  return static_cast<int>(
      std::min<int64_t>(std::chrono::ceil<milliseconds>(deadline - now).count(), kMax));
}

Stack::Stack(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Stack::~Stack() = default;

absl::StatusOr<std::unique_ptr<Stack>> Stack::Create(Config config, std::unique_ptr<Link> link) {
  if (link == nullptr) return absl::InvalidArgumentError("no link was given");
  if (absl::Status status = Validate(config, link->capabilities()); !status.ok()) return status;
  if (config.relay_threads == 0) {
    return absl::InvalidArgumentError(
        "relay_threads is 0: a stack without threads of its own is made by AsioDriver::Create");
  }
  auto impl = std::make_unique<Impl>(std::move(config), std::move(link));
  if (absl::Status status = impl->Open(nullptr); !status.ok()) return status;
  return std::unique_ptr<Stack>(new Stack(std::move(impl)));
}

Time Stack::Poll(Time now) {
  return OrEndWithoutMemory([&] { return impl_->Poll(*this, now); });
}
int Stack::descriptor() const { return impl_->descriptor(); }
void Stack::Wake() noexcept { impl_->Wake(); }
void Stack::Post(std::function<void(Stack&)> task) { impl_->Post(std::move(task)); }
CounterSnapshot Stack::Snapshot() const { return impl_->Snapshot(); }
std::vector<FlowInfo> Stack::Flows() const { return impl_->Flows(); }
absl::StatusOr<std::vector<PublishedPort>> Stack::Publish(const PortSpec& spec) {
  return impl_->Publish(spec);
}
absl::Status Stack::Unpublish(std::span<const uint32_t> ids, LiveFlows live) {
  return impl_->Unpublish(ids, live);
}
absl::Status Stack::Unpublish(const PortSelector& selector, LiveFlows live) {
  std::vector<uint32_t> ids;
  for (const PublishedPort& port : PublishedPorts()) {
    if (Matches(selector, port)) ids.push_back(port.id);
  }
  if (ids.empty()) {
    return absl::NotFoundError(absl::StrCat("nothing is published as ", ToString(selector)));
  }
  return Unpublish(ids, live);
}
std::vector<PublishedPort> Stack::PublishedPorts() const { return impl_->publisher().List(); }
std::optional<PublishedPort> Stack::NextPublishedPort(uint32_t id) const {
  return impl_->publisher().Next(id);
}
void Stack::SetPolicy(PolicyLayer layer, std::shared_ptr<const Policy> policy, LiveFlows live) {
  impl_->SetPolicy(layer, std::move(policy), live);
}
std::shared_ptr<const Policy> Stack::policy(PolicyLayer layer) const {
  return impl_->gate().engine().policy(layer);
}
Decision Stack::Decide(const PolicyQuestion& question) const {
  const PolicyEngine::Answer answer = impl_->gate().engine().Decide(question, impl_->now());
  return {.verdict = answer.verdict, .rule = answer.rule, .group = answer.group};
}
std::string Stack::Explain(const PolicyQuestion& question) const {
  return impl_->gate().engine().Explain(question, impl_->now());
}
bool Stack::TakeEvent(Event& event) { return impl_->gate().events().Take(event); }
bool Stack::link_ended() const { return impl_->link().ended(); }

// ---------------------------------------------------------------- set-up

Stack::Impl::Impl(Config config, std::unique_ptr<Link> link)
    : config_(Complete(std::move(config))),
      link_(std::move(link)),
      capabilities_(link_->capabilities()),
      gate_(config_, counters_),
      gateway_(config_),
      services_(config_, addresses_, counters_),
      batch_(*link_, counters_),
      datagrams_to_guest_(config_, capabilities_, addresses_, batch_, counters_) {
  addresses_.ethernet = capabilities_.ethernet;
  addresses_.gateway_mac = config_.gateway_mac;
  addresses_.guest_mac = config_.guest_mac.value_or(MacAddress{});
  parse_options_ = {.ethernet = capabilities_.ethernet,
                    .gateway_mac = config_.gateway_mac,
                    .guest_mac = config_.guest_mac,
                    .mtu = config_.mtu,
                    .unsegmented_tcp_to_host = capabilities_.unsegmented_tcp_to_host,
                    .ipv4 = config_.ipv4,
                    .ipv6 = config_.ipv6};
}

RelayOptions Stack::Impl::MakeRelayOptions() const {
  const auto threads = static_cast<uint64_t>(std::max(config_.relay_threads, 1));
  return {.flow_count_max = config_.flow_count_max,
          .block_bytes_max = config_.buffer_bytes_max / threads,
          .keepalive_idle = config_.keepalive_idle,
          .keepalive_interval = config_.keepalive_interval,
          .keepalive_probes = config_.keepalive_probes,
          .socket_factory = config_.socket_factory};
}

absl::Status Stack::Impl::Open(std::shared_ptr<Relay> relay) {
  if (absl::Status status = doorbell_.Open(); !status.ok()) return status;
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_ < 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot open an epoll descriptor: ", strerror(errno)));
  }
  OpenRoutes();
  for (const int descriptor : {doorbell_.descriptor(), link_->descriptor(), routes_descriptor()}) {
    if (absl::Status status = Watch(descriptor); !status.ok()) return status;
  }
  if (relay != nullptr) {
    own_relay_ = std::move(relay);
    relays_.push_back(own_relay_.get());
  }
  for (int i = 0; i < config_.relay_threads && own_relay_ == nullptr; ++i) {
    auto thread = RelayThread::Start(MakeRelayOptions(), doorbell_);
    if (!thread.ok()) return thread.status();
    relays_.push_back(&(*thread)->relay());
    threads_.push_back(*std::move(thread));
  }
  counters_.flow_count_max.Set(config_.flow_count_max);
  flows_ =
      std::make_unique<TcpFlows>(config_, capabilities_, addresses_, batch_, counters_, gate_,
                                 relays_, kReceiveFrames * kFrameBytesMax + Reassembly::kBytesMax);
  datagram_ends_ = std::make_unique<DatagramEnds>(batch_, counters_, relays_);
  udp_ports_ =
      std::make_unique<UdpPorts>(config_, datagrams_to_guest_, *datagram_ends_, counters_, gate_,
                                 [this](const IpAddress& guest) { flows_->Solicit(guest); });
  guest_udp_ = std::make_unique<GuestDatagrams>(DatagramKind::kUdp, config_, datagrams_to_guest_,
                                                *datagram_ends_, counters_, gate_);
  guest_echo_ = std::make_unique<GuestDatagrams>(DatagramKind::kEcho, config_, datagrams_to_guest_,
                                                 *datagram_ends_, counters_, gate_);
  if (config_.dns.enabled) {
    dns_.emplace(config_, *datagram_ends_, gated_names_, counters_);
    dns_->SetHostRoutes(host_routes_);
    dns_datagrams_.emplace(*dns_, datagrams_to_guest_, counters_);
    ServeDnsStreams(
        {.serves = [this](const Endpoint& destination) { return IsForDns(destination); },
         .ask = [this](const DnsQuery& query, Time now) { dns_->Ask(query, now); },
         .forget = [this](DnsAsker& asker, uint64_t token) { dns_->Forget(asker, token); }});
    if (absl::Status status = Watch(dns_->descriptor()); !status.ok()) return status;
  }
  reassembly_.emplace(flows_->buffers(), counters_);
  OpenPublisher();
  for (size_t i = 0; i < kReceiveFrames; ++i) {
    GuestBuffer* buffer = flows_->buffers().Take(kFrameBytesMax);
    if (buffer == nullptr) {
      return absl::ResourceExhaustedError("out of memory for the frames of one pass");
    }
    buffer->is_slot = true;
    slots_.push_back(buffer);
    frames_.push_back({.room = buffer->room()});
  }
  return absl::OkStatus();
}

absl::Status Stack::Impl::Watch(int descriptor) {
  epoll_event event{.events = EPOLLIN, .data = {.fd = descriptor}};
  if (descriptor < 0 || epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event) == 0) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat("cannot watch a descriptor: ", strerror(errno)));
}

void Stack::Impl::OpenRoutes() {
  if (config_.follow_host_routes) {
    route_follower_.emplace([this](const HostRoutes& routes) {
      counters_.host_route_changes.Add(1);
      OnHostRoutes(routes);
    });
  }
  OnHostRoutes(route_follower_ ? route_follower_->routes() : HostRoutes{});
}

void Stack::Impl::OpenPublisher() {
  std::vector<RelayPlace> places;
  if (own_relay_ != nullptr) {
    places.push_back({own_relay_.get(), [](const std::function<void()>& work) { work(); }});
  }
  for (const auto& thread : threads_) {
    places.push_back(
        {&thread->relay(), [&thread](const std::function<void()>& work) { thread->Run(work); }});
  }
  PublisherOptions options{.socket_factory = config_.socket_factory,
                           .ingress_hook = config_.ingress_hook,
                           .datagram_ports = udp_ports_.get(),
                           .keepalive_idle = config_.keepalive_idle,
                           .keepalive_interval = config_.keepalive_interval,
                           .keepalive_probes = config_.keepalive_probes,
                           .dialing_max = config_.half_open_per_destination_max,
                           .make_listener = make_listener_,
                           .make_udp_task = make_udp_task_};
  if (config_.ipv4.enabled) options.guest4 = config_.ipv4.guest;
  if (config_.ipv6.enabled) options.guest6 = config_.ipv6.guest;
  publisher_ = std::make_unique<Publisher>(std::move(options), std::move(places));
}

void Stack::Impl::ServeDnsStreams(DnsStreamsService service) {
  dns_streams_ = std::make_unique<DnsStreams>(*datagram_ends_, counters_, std::move(service));
  flows_->SetLocalPorts(*dns_streams_, make_pair_);
}

Stack::Impl::~Impl() {
  for (auto& thread : threads_) thread->Join();
  if (own_relay_ != nullptr) own_relay_->Shutdown();
  reassembly_.reset();
  if (flows_ != nullptr) {
    flows_->Shutdown();
    for (GuestBuffer* buffer : slots_) flows_->buffers().Give(buffer);
    flows_.reset();
  }
  if (datagram_ends_ != nullptr) datagram_ends_->ShutdownBatch();
  if (udp_ports_ != nullptr) udp_ports_->Shutdown();
  for (const auto& datagrams : {guest_udp_.get(), guest_echo_.get()}) {
    if (datagrams != nullptr) datagrams->Shutdown();
  }
  if (dns_streams_ != nullptr) dns_streams_->Shutdown();
  if (dns_) dns_->Shutdown();
  if (epoll_ >= 0) close(epoll_);
}

// ---------------------------------------------------------------- a pass

Time Stack::Impl::Poll(Stack& stack, Time now, bool link_ready) {
  now_ = now;
  counters_.polls.Add(1);
  doorbell_.Silence();
  batch_.SetTime(now);
  gate_.BeginPass(now);
  flows_->BeginPass(now);
  udp_ports_->BeginPass(now);
  guest_udp_->BeginPass(now);
  guest_echo_->BeginPass(now);
  if (dns_streams_ != nullptr) dns_streams_->BeginPass(now);
  if (dns_) dns_->BeginPass(now);
  RunTasks(stack);
  FollowHost();
  TakeFromRelays();
  if (link_ready || !link_drained_ || link_->deadline() <= now) ReceiveFrames();
  flows_->RunTimers();
  reassembly_->Expire(now);
  RunServices();
  PassOn();
  TakeFromRelays();
  const bool flows_served = flows_->ServeReady(kFlowsPerPass);
  const bool complete =
      datagram_ends_->ServeReady(kDatagramsPerPass) && flows_served && link_drained_;
  (void)batch_.Flush();
  if (batch_.TakeReopened()) flows_->OnLinkWritable();
  WatchLinkWritable(batch_.link_full());
  flows_->AfterFlush();
  datagram_ends_->AfterFlush();
  RingRelays();
  counters_.frames_lost_by_link.Set(link_->frames_lost());
  counters_.link_framing_errors.Set(link_->framing_errors());
  // Once more at once, so that an embedder looks at link_ended() before it sleeps.
  if (link_->ended() && !std::exchange(link_end_told_, true)) return now;
  if (!complete || flows_->HasWork() || !SleepAllowed()) return now;
  return std::min({flows_->NextDeadline(), udp_ports_->NextDeadline(), guest_udp_->NextDeadline(),
                   guest_echo_->NextDeadline(), dns_ ? dns_->NextDeadline() : kNever,
                   dns_streams_ != nullptr ? dns_streams_->NextDeadline() : kNever,
                   reassembly_->NextDeadline(), services_.NextDeadline(), link_->deadline()});
}

void Stack::Impl::TakeFromRelays() {
  flows_->TakeFromRelays();
  datagram_ends_->TakeFromRelays();
}

void Stack::Impl::PassOn() {
  flows_->PassOn();
  RingRelays();
}

void Stack::Impl::RingRelays() {
  flows_->RingRelays();
  datagram_ends_->RingRelays();
}

// The second look of the doorbell's protocol.
bool Stack::Impl::SleepAllowed() {
  doorbell_.Arm();
  const bool quiet = !woken_.load(std::memory_order_seq_cst) &&
                     std::all_of(relays_.begin(), relays_.end(),
                                 [](Relay* relay) { return relay->StackIsServed(); });
  if (!quiet) doorbell_.Silence();
  return quiet;
}

CounterSnapshot Stack::Impl::Snapshot() const {
  CounterSnapshot snapshot = counters_.Snapshot();
  for (Relay* relay : relays_) {
    const Relay::ListenerCounts& counts = relay->listener_counts();
    snapshot.accept_errors += counts.accept_errors.value();
    snapshot.accept_pauses += counts.accept_pauses.value();
    snapshot.inbound_denied += counts.clients_denied.value();
    const DatagramCounts& datagrams = relay->datagram_counts();
    snapshot.udp_lost_queue += datagrams.lost_to_guest.value();
    snapshot.udp_lost_at_socket += datagrams.lost_to_host.value();
    snapshot.udp_lost_closed += datagrams.lost_closed.value();
    snapshot.udp_socket_errors += datagrams.socket_errors.value();
    snapshot.stream_messages_lost += datagrams.messages_lost.value();
  }
  return snapshot;
}

absl::Status Stack::Impl::Unpublish(std::span<const uint32_t> ids, LiveFlows live) {
  std::vector<PublishedPort> rows;
  if (gate_.events().on()) rows = publisher_->List();
  auto removed = publisher_->Remove(ids);
  if (!removed.ok()) return removed.status();
  for (const PublishedPort& port : rows) {
    if (std::ranges::find(ids, port.id) != ids.end()) {
      gate_.Tell(EventOf(EventKind::kUnpublished, port));
    }
  }
  if (live == LiveFlows::kReset) {
    for (const std::shared_ptr<PortGauge>& port : *removed) flows_->Cut(*port);
  }
  Wake();  // what the resets left behind wants a pass, and so does the end of a UDP port
  return absl::OkStatus();
}

std::vector<FlowInfo> Stack::Impl::Flows() const {
  std::vector<FlowInfo> rows;
  flows_->AddLiveTo(rows);
  guest_udp_->AddTo(rows);
  guest_echo_->AddTo(rows);
  udp_ports_->AddTo(rows);
  flows_->AddClosedTo(rows);
  return rows;
}

absl::StatusOr<std::vector<PublishedPort>> Stack::Impl::Publish(const PortSpec& spec) {
  auto ports = publisher_->Add(spec);
  if (!ports.ok()) return ports;
  for (const PublishedPort& port : *ports) gate_.Tell(EventOf(EventKind::kPublished, port));
  return ports;
}

void Stack::Impl::SetPolicy(PolicyLayer layer, std::shared_ptr<const Policy> policy,
                            LiveFlows live) {
  gate_.engine().SetPolicy(layer, std::move(policy));
  gate_.Tell(
      {.kind = EventKind::kPolicyReplaced,
       .layer = layer == PolicyLayer::kPlatform ? EventLayer::kPlatform : EventLayer::kTenant});
  if (live == LiveFlows::kKeep) return;
  flows_->CutDenied();
  udp_ports_->CutDenied();
  guest_udp_->CutDenied();
  guest_echo_->CutDenied();
  Wake();  // what the resets left behind wants a pass
}

void Stack::Impl::Wake() noexcept {
  woken_.store(true, std::memory_order_seq_cst);
  doorbell_.Ring();
}

void Stack::Impl::Post(std::function<void(Stack&)> task) {
  {
    const std::lock_guard lock(tasks_mutex_);
    tasks_.push_back(std::move(task));
  }
  Wake();
}

void Stack::Impl::RunTasks(Stack& stack) {
  if (!woken_.exchange(false, std::memory_order_seq_cst)) return;
  counters_.wakes_to_stack.Add(1);
  std::vector<std::function<void(Stack&)>> tasks;
  {
    const std::lock_guard lock(tasks_mutex_);
    tasks.swap(tasks_);
  }
  for (auto& task : tasks) task(stack);
}

// Nothing tells a pass which descriptor woke it, so it asks, but not too often.
void Stack::Impl::FollowHost() {
  if (now_ - host_looked_at_ < kHostLookInterval) return;
  host_looked_at_ = now_;
  if (route_follower_) (void)route_follower_->Update();
  if (dns_) dns_->Update();
}

// Here begins what the services make of it.
void Stack::Impl::OnHostRoutes(const HostRoutes& routes) {
  host_routes_ = routes;
  counters_.host_routes_ipv4.Set(routes.ipv4 ? 1 : 0);
  counters_.host_routes_ipv6.Set(routes.ipv6 ? 1 : 0);
  SetHostRoutes(routes);
}

void Stack::Impl::WatchLinkWritable(bool wanted) {
  if (wanted == watching_writable_ || link_->descriptor() < 0) return;
  watching_writable_ = wanted;
  epoll_event event{.events = EPOLLIN | (wanted ? uint32_t{EPOLLOUT} : 0u),
                    .data = {.fd = link_->descriptor()}};
  (void)epoll_ctl(epoll_, EPOLL_CTL_MOD, link_->descriptor(), &event);
}

}  // namespace penstock
