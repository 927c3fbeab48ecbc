#include "stack/tcpip/engine.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <new>
#include <optional>

#include "relay/check.h"
#include "stack/tcpip/lwip_repairs.h"

extern "C" {
#include "lwip/ip.h"
#include "lwip/netif.h"
#include "lwip/pbuf.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/tcp.h"
#include "penstock_hooks.h"
}

namespace penstock {

static_assert(sizeof(struct pbuf_custom) <= sizeof(GuestBuffer::pbuf));
static_assert(kWindowBytesMax == TCP_WND);
static_assert(kTick == std::chrono::milliseconds(TCP_SLOW_INTERVAL));

struct Engine::Lwip {
  struct netif netif {};
  struct tcp_pcb_listen listener {};
};

namespace {

// 300 ms; with sv at 3 lwIP's arithmetic never goes below it.
constexpr uint32_t kRtoFloorTicks = 3;

// The engine inside which lwIP runs on this thread, and the PCB it works on.
thread_local Engine* current_engine = nullptr;
thread_local Pcb* current_pcb = nullptr;
thread_local struct netif* current_netif = nullptr;

void ToLwip(const IpAddress& address, ip_addr_t& out) {
  std::memset(&out, 0, sizeof out);
  if (address.is_v4()) {
    IP_SET_TYPE_VAL(out, IPADDR_TYPE_V4);
    std::memcpy(&ip_2_ip4(&out)->addr, address.bytes.data(), 4);
  } else {
    IP_SET_TYPE_VAL(out, IPADDR_TYPE_V6);
    std::memcpy(ip_2_ip6(&out)->addr, address.bytes.data(), 16);
  }
}

GuestBuffer& BufferOf(struct pbuf* p) {
  return *reinterpret_cast<GuestBuffer*>(reinterpret_cast<std::byte*>(p) -
                                         offsetof(GuestBuffer, pbuf));
}

void FreeGuestPbuf(struct pbuf* p) {
  GuestBuffer& buffer = BufferOf(p);
  if (!buffer.is_slot) buffer.pool->Give(&buffer);
}

void FreeNothing(struct pbuf*) {}

}  // namespace

// What lwIP calls. Only records.
struct LwipCallbacks {
  static err_t Accepted(void* arg, struct tcp_pcb*, err_t) {
    static_cast<Pcb*>(arg)->established = true;
    return ERR_OK;
  }

  // The guest's SYN-ACK came, its acknowledgement has not left. lwIP has just taken its
  // compile-time window, and the guest's MSS as it stands in the option.
  static err_t Connected(void* arg, struct tcp_pcb* raw, err_t) {
    Pcb& pcb = *static_cast<Pcb*>(arg);
    pcb.established = true;
    raw->rcv_wnd = raw->rcv_ann_wnd = pcb.window_bytes_;
    raw->mss = static_cast<u16_t>(current_engine->SuperSegmentBytes(pcb));
    return ERR_OK;
  }

  static err_t Received(void* arg, struct tcp_pcb*, struct pbuf* p, err_t) {
    Pcb& pcb = *static_cast<Pcb*>(arg);
    if (p == nullptr) {
      pcb.guest_fin = true;
      return ERR_OK;
    }
    while (p != nullptr) {
      struct pbuf* next = p->next;
      p->next = nullptr;
      p->tot_len = p->len;
      if (p->len == 0) {
        pbuf_free(p);
      } else {
        Chunk& chunk = BufferOf(p).chunk;
        chunk = {.data = static_cast<const uint8_t*>(p->payload), .length = p->len};
        pcb.received_bytes += p->len;
        (pcb.received_head == nullptr ? pcb.received_head : pcb.received_tail->next) = &chunk;
        pcb.received_tail = &chunk;
      }
      p = next;
    }
    return ERR_OK;
  }

  static err_t Sent(void* arg, struct tcp_pcb*, u16_t bytes) {
    static_cast<Pcb*>(arg)->acknowledged_bytes += bytes;
    return ERR_OK;
  }

  static void Ended(void* arg, err_t error) {
    Pcb& pcb = *static_cast<Pcb*>(arg);
    pcb.pcb_ = nullptr;
    pcb.end = error == ERR_CLSD  ? PcbEnd::kClosed
              : error == ERR_RST ? PcbEnd::kReset
                                 : PcbEnd::kFailed;
  }

  // lwIP's output: every segment of every PCB passes here.
  static err_t Output(struct pbuf* p, const ip_addr_t* source) {
    // Segments of a PCB come with a pointer to its local address, resets that
    // answer a bad segment with a pointer into ip_data.
    Pcb* pcb = current_pcb;
    if (source != &ip_data.current_iphdr_dest) {
      const auto* sender = reinterpret_cast<const struct tcp_pcb*>(
          reinterpret_cast<const std::byte*>(source) - offsetof(struct tcp_pcb, local_ip));
      pcb = static_cast<Pcb*>(sender->callback_arg);
    }
    auto* header = static_cast<struct tcp_hdr*>(p->payload);
    const u16_t header_bytes = TCPH_HDRLEN_BYTES(header);
    if (pcb == nullptr || p->len < header_bytes) return ERR_ARG;
    if ((TCPH_FLAGS(header) & TCP_SYN) != 0) {
      // lwIP would offer its compile-time window.
      header->wnd = lwip_htons(
          static_cast<u16_t>(std::min<uint32_t>(pcb->window_bytes_, kInitialWindowBytes)));
    }
    std::array<iovec, kFramePartsMax - 2> parts;
    size_t count = 0;
    for (struct pbuf* q = p->next; q != nullptr; q = q->next) {
      if (q->len == 0) continue;
      if (count == parts.size()) return ERR_BUF;  // Write() never makes so many
      parts[count++] = {q->payload, q->len};
    }
    const SegmentToGuest segment{
        .owner = pcb->owner_,
        .tuple = pcb->tuple_,
        .header = {static_cast<const uint8_t*>(p->payload), header_bytes},
        .own_payload = {static_cast<const uint8_t*>(p->payload) + header_bytes,
                        size_t{p->len} - header_bytes},
        .payload = {parts.data(), count},
        .payload_bytes = static_cast<uint32_t>(p->tot_len - header_bytes),
        .negotiated_mss = pcb->negotiated_mss_};
    return current_engine->sink_.SendSegment(segment) ? ERR_OK : ERR_WOULDBLOCK;
  }

  static u32_t InitialSequence(const ip_addr_t* local, u16_t local_port, const ip_addr_t* remote,
                               u16_t remote_port) {
    std::array<uint8_t, 36> tuple{};
    std::memcpy(tuple.data(), local, 16);
    std::memcpy(tuple.data() + 16, remote, 16);
    std::memcpy(tuple.data() + 32, &local_port, 2);
    std::memcpy(tuple.data() + 34, &remote_port, 2);
    // RFC 6528 section 3: a clock of 4 microseconds plus a keyed hash of the tuple.
    const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(
        current_engine->now_.time_since_epoch());
    const u32_t sequence = static_cast<u32_t>(micros.count() / 4) +
                           static_cast<u32_t>(SipHash(current_engine->options_.isn_key, tuple));
    // RFC 9293 3.6.1: beyond what the tuple's last connection used.
    const std::optional<u32_t>& after = current_engine->isn_after_;
    if (after.has_value() && static_cast<s32_t>(sequence - *after) <= 0) return *after + 65'537;
    return sequence;
  }
};

// Enters lwIP for one PCB: it stands alone on the list that lwIP searches. On the
// way out the lists are empty again, and a PCB that went to TIME_WAIT is taken
// over.
class Engine::Scope {
 public:
  Scope(Engine& engine, Pcb* pcb) : engine_(engine), pcb_(pcb) {
    current_engine = &engine;
    current_pcb = pcb;
    current_netif = &engine.lwip_->netif;
    tcp_ticks = engine.ticks_;
    if (pcb != nullptr && pcb->alive()) {
      pcb->pcb_->next = nullptr;
      tcp_active_pcbs = pcb->pcb_;
    }
  }
  ~Scope() {
    if (pcb_ != nullptr && tcp_tw_pcbs != nullptr) {
      pcb_->time_wait_ = {.send_next = tcp_tw_pcbs->snd_nxt, .receive_next = tcp_tw_pcbs->rcv_nxt};
      pcb_->end = PcbEnd::kTimeWait;
      pcb_->pcb_ = nullptr;
      tcp_abandon(tcp_tw_pcbs, 0);
    }
    tcp_active_pcbs = tcp_tw_pcbs = nullptr;
    tcp_listen_pcbs.pcbs = nullptr;
    engine_.ticks_ = tcp_ticks;
    current_engine = nullptr;
    current_pcb = nullptr;
    current_netif = nullptr;
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Engine& engine_;
  Pcb* pcb_;
};

// ---------------------------------------------------------------- Engine

Engine::Engine(const EngineOptions& options, SegmentSink& sink)
    : options_(options), sink_(sink), lwip_(std::make_unique<Lwip>()) {
  lwip_->netif.mtu = static_cast<u16_t>(options.mtu);
  lwip_->listener.state = LISTEN;
  lwip_->listener.accept = &LwipCallbacks::Accepted;
  IP_SET_TYPE_VAL(lwip_->listener.local_ip, IPADDR_TYPE_ANY);
}

Engine::~Engine() = default;

void Engine::SetTime(Time now) { now_ = now; }

uint32_t Engine::SuperSegmentBytes(const Pcb& pcb) const {
  const bool v4 = pcb.tuple_.guest.address.is_v4();
  const uint32_t mss = pcb.negotiated_mss_;
  if (!(v4 ? options_.super_segments_ipv4 : options_.super_segments_ipv6)) return mss;
  return (v4 ? kSuperSegmentBytesIpv4 : kSuperSegmentBytesIpv6) / mss * mss;
}

void Engine::Prepare(Pcb& pcb, const TcpTuple& tuple, const OpenOptions& options, void* owner) {
  pcb.tuple_ = tuple;
  pcb.owner_ = owner;
  pcb.negotiated_mss_ = options.negotiated_mss;
  pcb.window_bytes_ = options.window_bytes;
  pcb.opened_tick_ = ticks_;
  isn_after_ = options.isn_after;
}

void Engine::SetCallbacks(Pcb& pcb) {
  tcp_recv(pcb.pcb_, &LwipCallbacks::Received);
  tcp_sent(pcb.pcb_, &LwipCallbacks::Sent);
  tcp_err(pcb.pcb_, &LwipCallbacks::Ended);
  tcp_nagle_disable(pcb.pcb_);
}

bool Engine::Accept(Pcb& pcb, const TcpTuple& tuple, std::span<uint8_t> tcp_header,
                    const OpenOptions& options, void* owner) {
  Prepare(pcb, tuple, options, owner);
  Scope scope(*this, &pcb);
  ip_data.current_netif = ip_data.current_input_netif = &lwip_->netif;
  ToLwip(tuple.guest.address, ip_data.current_iphdr_src);
  ToLwip(tuple.destination.address, ip_data.current_iphdr_dest);
  lwip_->listener.local_port = tuple.destination.port;
  lwip_->listener.callback_arg = &pcb;
  lwip_->listener.next = nullptr;
  tcp_listen_pcbs.listen_pcbs = &lwip_->listener;
  struct pbuf_custom custom {};
  custom.custom_free_function = &FreeNothing;
  struct pbuf* p =
      pbuf_alloced_custom(PBUF_RAW, static_cast<u16_t>(tcp_header.size()), PBUF_REF, &custom,
                          tcp_header.data(), static_cast<u16_t>(tcp_header.size()));
  tcp_input(p, &lwip_->netif);
  struct tcp_pcb* made = tcp_active_pcbs;
  if (made == nullptr) return false;
  pcb.pcb_ = made;
  pcb.end = PcbEnd::kNone;
  SetCallbacks(pcb);
  made->mss = static_cast<u16_t>(SuperSegmentBytes(pcb));
  made->rcv_wnd = made->rcv_ann_wnd = options.window_bytes;
  made->rcv_ann_right_edge = made->rcv_nxt + options.window_bytes;
  return true;
}

// tcp_bind and port 0 would scan every list: the address is set by hand.
bool Engine::Connect(Pcb& pcb, const TcpTuple& tuple, const OpenOptions& options, void* owner) {
  Prepare(pcb, tuple, options, owner);
  Scope scope(*this, &pcb);
  struct tcp_pcb* const made = tcp_new();
  if (made == nullptr) return false;
  pcb.pcb_ = made;
  pcb.end = PcbEnd::kNone;
  tcp_arg(made, &pcb);
  SetCallbacks(pcb);
  ToLwip(tuple.destination.address, made->local_ip);
  made->local_port = tuple.destination.port;
  ip_addr_t guest;
  ToLwip(tuple.guest.address, guest);
  if (tcp_connect(made, &guest, tuple.guest.port, &LwipCallbacks::Connected) != ERR_OK) {
    tcp_err(made, nullptr);
    tcp_abandon(made, 0);
    pcb.pcb_ = nullptr;
    return false;
  }
  // The window stays lwIP's until the guest answers (Connected): it asserts that a
  // SYN-ACK with a scale finds its own. What the SYN says is Output's.
  return true;
}

void Engine::Receive(Pcb& pcb, GuestBuffer& buffer, std::span<uint8_t> segment) {
  if (!pcb.alive()) {
    if (!buffer.is_slot) buffer.pool->Give(&buffer);
    return;
  }
  struct tcp_pcb* const raw = pcb.pcb_;
  const bool acceptable_at_closed_window = IsAcceptableAtClosedWindow(*raw, segment);
  segment = TrimToWindow(*raw, segment);
  auto* custom = new (buffer.pbuf) pbuf_custom{};
  custom->custom_free_function = &FreeGuestPbuf;
  struct pbuf* p = pbuf_alloced_custom(PBUF_RAW, static_cast<u16_t>(segment.size()), PBUF_REF,
                                       custom, segment.data(), static_cast<u16_t>(segment.size()));
  if (acceptable_at_closed_window) raw->rcv_wnd = 1;
  const bool was_recovering = (raw->flags & TF_INFR) != 0;
  const bool was_handshake = pcb.in_handshake();
  Scope scope(*this, &pcb);
  ip_data.current_netif = ip_data.current_input_netif = &lwip_->netif;
  ip_addr_copy(ip_data.current_iphdr_src, raw->remote_ip);
  ip_addr_copy(ip_data.current_iphdr_dest, raw->local_ip);
  tcp_input(p, &lwip_->netif);
  if (!pcb.alive() || tcp_active_pcbs != raw) return;  // ended, or in TIME_WAIT
  if (acceptable_at_closed_window) raw->rcv_wnd = 0;
  ForgetRepeated(*raw);
  NoteDupack(pcb, was_recovering);
  // The byte of a probe was taken, and nothing waits behind it: lwIP would go on to count,
  // and the next byte would wait for a timer that had backed off for others.
  if (raw->unsent == nullptr) raw->persist_backoff = raw->persist_probe = 0;
  if (was_handshake && !pcb.in_handshake()) {
    // The link to the guest is local: no slow start.
    raw->cwnd = TCP_SND_BUF;
    raw->ssthresh = TCP_SND_BUF;
    // lwIP counts what a SYN of ours was sent again against the first segment.
    raw->nrtx = 0;
    TakeHandshakeTime(pcb);
  }
  // One acknowledgement for the whole pass: Acknowledge().
  if ((raw->flags & (TF_ACK_DELAY | TF_ACK_NOW)) != 0) {
    pcb.owed = std::max(pcb.owed, (raw->flags & TF_ACK_NOW) != 0 ? Owed::kNow : Owed::kSoon);
    tcp_clear_flags(raw, TF_ACK_DELAY | TF_ACK_NOW);
  }
}

// RFC 6298 2.2: the first measurement sets the estimate, where lwIP would let its
// initial one decay over many round trips: the first loss of a connection would cost a
// second. sa is eight times the round trip, sv four times its deviation, in ticks.
void Engine::TakeHandshakeTime(Pcb& pcb) {
  if (pcb.handshake_retransmitted_) return;  // Karn: whose answer was it?
  struct tcp_pcb* raw = pcb.pcb_;
  const uint32_t round_trip = std::min<uint32_t>(ticks_ - pcb.opened_tick_, 100);
  raw->sa = static_cast<s16_t>(round_trip << 3);
  raw->sv = static_cast<s16_t>(std::max<uint32_t>(round_trip << 1, kRtoFloorTicks));
  raw->rto = static_cast<s16_t>((raw->sa >> 3) + raw->sv);
}

bool Engine::BeyondWindow(const Pcb& pcb, uint32_t sequence) const {
  return pcb.alive() && !pcb.in_handshake() && StartsBeyondWindow(*pcb.pcb_, sequence);
}

void Engine::NoteDupack(Pcb& pcb, bool was_recovering) {
  if (!was_recovering && (pcb.pcb_->flags & TF_INFR) != 0) ++pcb.retransmits_by_dupack;
}

uint32_t Engine::SendRoom(const Pcb& pcb, uint32_t wanted) const {
  const struct tcp_pcb* raw = pcb.pcb_;
  // What waits is retransmitted first; and lwIP walks this list at each write.
  if (raw == nullptr || raw->unsent != nullptr) return 0;
  if (raw->state != ESTABLISHED && raw->state != CLOSE_WAIT) return 0;
  const uint32_t window = std::min<uint32_t>(raw->snd_wnd, raw->cwnd);
  const uint32_t in_flight = raw->snd_lbb - raw->lastack;
  if (window <= in_flight) return in_flight == 0 ? std::min(wanted, 1u) : 0;
  const uint32_t usable = window - in_flight, mss = pcb.negotiated_mss_;
  const uint32_t half = std::max<uint32_t>(raw->snd_wnd_max / 2, 1);
  // lwIP makes no segment larger than half of the largest window.
  const uint32_t most = std::min<uint32_t>(half < mss ? half : half / mss * mss, 65'535);
  // RFC 9293 3.8.6.2.1: no silly small segments while there is more.
  if (usable >= wanted) return std::min(wanted, most);
  if (usable >= mss) return std::min(usable / mss * mss, most);
  if (usable >= half) return std::min(usable, most);
  if (in_flight > 0) return 0;
  // More than the window lets leave: lwIP's timer for closed windows decides (rule 4).
  return std::min(wanted, mss);
}

bool Engine::Write(Pcb& pcb, std::span<const uint8_t> data, Behind behind) {
  struct tcp_pcb* raw = pcb.pcb_;
  // The newest window rides on the data.
  if (static_cast<int32_t>(raw->rcv_nxt + raw->rcv_wnd - raw->rcv_ann_right_edge) > 0) {
    raw->rcv_ann_wnd = raw->rcv_wnd;
  }
  Scope scope(*this, &pcb);
  const u8_t flags = behind == Behind::kMore ? TCP_WRITE_FLAG_MORE : 0;
  if (tcp_write(raw, data.data(), static_cast<u16_t>(data.size()), flags) != ERR_OK) {
    pcb.short_of_memory = true;
    return false;
  }
  if (behind == Behind::kFin) {
    tcp_shutdown(raw, 0, 1);
  } else {
    tcp_output(raw);
  }
  // The acknowledgement rode on the data, if it left.
  if (raw->unsent == nullptr) pcb.owed = Owed::kNothing;
  return true;
}

void Engine::ShutdownWrite(Pcb& pcb) {
  Scope scope(*this, &pcb);
  tcp_shutdown(pcb.pcb_, 0, 1);
}

void Engine::Output(Pcb& pcb) {
  const struct tcp_pcb* raw = pcb.pcb_;
  if (raw->unsent == nullptr && (raw->flags & TF_ACK_NOW) == 0) return;
  Scope scope(*this, &pcb);
  tcp_output(pcb.pcb_);
}

void Engine::Consume(Pcb& pcb, uint32_t bytes) {
  if (!pcb.alive()) return;
  pcb.pcb_->rcv_wnd = std::min<uint32_t>(pcb.pcb_->rcv_wnd + bytes, pcb.window_bytes_);
}

void Engine::GrowWindow(Pcb& pcb, uint32_t window_bytes) {
  pcb.pcb_->rcv_wnd += window_bytes - pcb.window_bytes_;
  pcb.window_bytes_ = window_bytes;
}

void Engine::Acknowledge(Pcb& pcb, Owed may_stay) {
  struct tcp_pcb* raw = pcb.pcb_;
  if (raw == nullptr || raw->state < ESTABLISHED) return;
  // A window update when the right edge moved by half the window or two segments,
  // or when the guest was told that it is closed (less than one scaled unit).
  const uint32_t moved = raw->rcv_nxt + raw->rcv_wnd - raw->rcv_ann_right_edge;
  const uint32_t worthwhile = std::min(pcb.window_bytes_ / 2, 2 * pcb.negotiated_mss_);
  const uint32_t told = raw->rcv_ann_right_edge - raw->rcv_nxt;
  const bool was_closed = (told >> raw->rcv_scale) == 0 && (raw->rcv_wnd >> raw->rcv_scale) > 0;
  const bool update = static_cast<int32_t>(moved) > 0 && (moved >= worthwhile || was_closed) &&
                      raw->state != CLOSE_WAIT && raw->state != LAST_ACK && raw->state != CLOSING;
  if (!update && pcb.owed <= may_stay) return;
  if (static_cast<int32_t>(moved) > 0) raw->rcv_ann_wnd = raw->rcv_wnd;
  Scope scope(*this, &pcb);
  tcp_ack_now(raw);
  if (tcp_output(raw) == ERR_BUF) pcb.short_of_memory = true;
  // Not sent for want of room: the flags are still set, and the flow is served
  // again when the link takes frames.
  pcb.owed = (raw->flags & TF_ACK_NOW) != 0 ? Owed::kNow : Owed::kNothing;
}

void Engine::SendKeepalive(Pcb& pcb) {
  Scope scope(*this, &pcb);
  tcp_keepalive(pcb.pcb_);
}

void Engine::LowerMss(Pcb& pcb, uint32_t mss) {
  pcb.negotiated_mss_ = mss;
  pcb.pcb_->mss = static_cast<u16_t>(SuperSegmentBytes(pcb));
  Cut(pcb);
}

void Engine::Cut(Pcb& pcb) {
  struct tcp_pcb* raw = pcb.pcb_;
  Scope scope(*this, &pcb);
  const bool in_flight = raw->unacked != nullptr;
  // Not while the link holds one of them. What waits can be cut all the same.
  const bool again = in_flight && tcp_rexmit_rto_prepare(raw) == ERR_OK;
  if (again) pcb.acknowledged_bytes += TrimAcknowledged(*raw);
  pcb.must_cut_ = in_flight && !again;
  // Where the link does not segment, all is cut. lwIP splits the head of the list only.
  struct tcp_seg* const head = raw->unsent;
  for (struct tcp_seg* segment = head; segment != nullptr; segment = segment->next) {
    if (segment->len <= raw->mss) continue;
    raw->unsent = segment;
    pcb.must_cut_ |= tcp_split_unsent_seg(raw, raw->mss) != ERR_OK;
  }
  raw->unsent = head;
  if (!again) return;
  tcp_rexmit_rto_commit(raw);
  raw->nrtx = 0;  // no loss: the path told
}

void Engine::Abort(Pcb& pcb) {
  if (!pcb.alive()) return;
  Scope scope(*this, &pcb);
  tcp_err(pcb.pcb_, nullptr);
  tcp_abort(pcb.pcb_);
  pcb.pcb_ = nullptr;
}

void Engine::Drop(Pcb& pcb) {
  if (!pcb.alive()) return;
  Scope scope(*this, &pcb);
  tcp_clear_flags(pcb.pcb_, TF_ACK_DELAY);  // not even an ACK is sent
  tcp_err(pcb.pcb_, nullptr);
  tcp_abandon(pcb.pcb_, 0);
  pcb.pcb_ = nullptr;
}

void Engine::Tick(std::span<Pcb* const> pcbs) {
  // The ticks themselves count time only while something is armed: what lwIP
  // measures with them is always in flight, and therefore armed, meanwhile.
  for (Pcb* pcb : pcbs) {
    if (pcb->alive() && pcb->must_cut_) Cut(*pcb);
    if (!pcb->alive()) continue;
    struct tcp_pcb* raw = pcb->pcb_;
    const std::array<uint8_t, 2> before = {raw->nrtx, raw->persist_probe};
    Scope scope(*this, pcb);
    pcb->acknowledged_bytes += TrimAcknowledged(*raw);
    pcb->short_of_memory = false;  // the flow is served next
    // lwIP counts the tick itself; every PCB is to see the same one.
    const uint32_t tick = tcp_ticks;
    // Handshakes and closes end by the flow's deadlines, not by lwIP's.
    if (raw->state == SYN_RCVD || raw->state == LAST_ACK) raw->tmr = tick;
    tcp_fasttmr();
    tcp_slowtmr();
    tcp_ticks = tick;
    if (!pcb->alive()) continue;
    ForgetRepeated(*raw);
    if (raw->nrtx > before[0] && raw->persist_backoff == 0) {  // else its window is too small now
      ++pcb->retransmits_by_timer;
      pcb->handshake_retransmitted_ |= pcb->in_handshake();
    }
    if (raw->persist_probe > before[1]) ++pcb->zero_window_probes;
  }
  ++ticks_;
}

void Engine::HurryConnect(Pcb& pcb) {
  if (pcb.connecting() && pcb.pcb_->rtime >= 0) pcb.pcb_->rtime = pcb.pcb_->rto;
}

void Engine::HurryRetransmission(Pcb& pcb) {
  struct tcp_pcb* raw = pcb.pcb_;
  if (raw == nullptr) return;
  // Only what went unanswered: what was sent just now may be answered by this frame.
  if (raw->rtime >= 0 && raw->nrtx > 0) raw->rtime = raw->rto;
  if (raw->persist_backoff > 0 && raw->persist_probe > 1) {
    raw->persist_backoff = 1;
    raw->persist_cnt = 0xff;
  }
}

}  // namespace penstock

// ---------------------------------------------------------------- what lwIP links to

extern "C" {

using penstock::LwipCallbacks;

u32_t penstock_tcp_isn(const ip_addr_t* local_ip, u16_t local_port, const ip_addr_t* remote_ip,
                       u16_t remote_port) {
  return LwipCallbacks::InitialSequence(local_ip, local_port, remote_ip, remote_port);
}

void penstock_lwip_assert_failed(const char* message, int line, const char* file) {
  penstock::CheckFailed(file, line, message);
}

// ip_2_ip4() and ip_2_ip6() of an ip_addr_t point to its start.
err_t ip4_output_if(struct pbuf* p, const ip4_addr_t* source, const ip4_addr_t*, u8_t, u8_t, u8_t,
                    struct netif*) {
  return LwipCallbacks::Output(p, reinterpret_cast<const ip_addr_t*>(source));
}
err_t ip6_output_if(struct pbuf* p, const ip6_addr_t* source, const ip6_addr_t*, u8_t, u8_t, u8_t,
                    struct netif*) {
  return LwipCallbacks::Output(p, reinterpret_cast<const ip_addr_t*>(source));
}
struct netif* ip4_route(const ip4_addr_t*) {
  return penstock::current_netif;
}
struct netif* ip6_route(const ip6_addr_t*, const ip6_addr_t*) {
  return penstock::current_netif;
}
struct netif* netif_get_by_index(u8_t) {
  return penstock::current_netif;
}
u16_t nd6_get_destination_mtu(const ip6_addr_t*, struct netif* netif) { return netif->mtu; }
u8_t ip4_addr_isbroadcast_u32(u32_t address, const struct netif*) {
  return address == 0xffffffffu || address == 0;
}
// Ours is Pcb::NeedsTick.
void tcp_timer_needed(void) {}
// Local addresses are always set; nothing comes in through lwIP's own IP layer.
const ip_addr_t* ip6_select_source_address(struct netif*, const ip6_addr_t*) { return nullptr; }
err_t ip4_input(struct pbuf*, struct netif*) { return ERR_VAL; }
err_t ip6_input(struct pbuf*, struct netif*) { return ERR_VAL; }
// Only tcp_bind and the printing of addresses ask for these; neither is ever called.
const ip_addr_t ip_addr_any = IPADDR4_INIT(IPADDR_ANY);
char* ip4addr_ntoa(const ip4_addr_t*) { return nullptr; }
char* ip6addr_ntoa(const ip6_addr_t*) { return nullptr; }
char* ip4addr_ntoa_r(const ip4_addr_t*, char*, int) { return nullptr; }
char* ip6addr_ntoa_r(const ip6_addr_t*, char*, int) { return nullptr; }
int ip4addr_aton(const char*, ip4_addr_t*) { return 0; }
int ip6addr_aton(const char*, ip6_addr_t*) { return 0; }

}  // extern "C"
