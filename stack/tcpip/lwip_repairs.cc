#include "stack/tcpip/lwip_repairs.h"

#include <algorithm>
#include <cstring>

#include "lwip/priv/tcp_priv.h"
#include "lwip/tcp.h"

namespace penstock {
namespace {

bool SequenceBefore(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) < 0; }

// Where text must end: at the window's edge, or at a FIN that came before the data in
// front of it.
uint32_t TextLimit(const struct tcp_pcb& pcb) {
  uint32_t limit = pcb.rcv_nxt + pcb.rcv_wnd;
  for (const struct tcp_seg* held = pcb.ooseq; held != nullptr; held = held->next) {
    const uint32_t fin = held->tcphdr->seqno + held->len;
    if ((TCPH_FLAGS(held->tcphdr) & TCP_FIN) != 0 && SequenceBefore(fin, limit)) limit = fin;
  }
  return limit;
}

}  // namespace

std::span<uint8_t> TrimToWindow(const struct tcp_pcb& pcb, std::span<uint8_t> segment) {
  auto* header = reinterpret_cast<struct tcp_hdr*>(segment.data());
  const size_t header_bytes = TCPH_HDRLEN_BYTES(header);
  const auto text = static_cast<uint32_t>(segment.size() - header_bytes);
  const uint32_t begin = lwip_ntohl(header->seqno);
  const bool fin = (TCPH_FLAGS(header) & TCP_FIN) != 0;
  if (text == 0 && !fin) return segment;
  const uint32_t limit = TextLimit(pcb), edge = pcb.rcv_nxt + pcb.rcv_wnd;
  const uint32_t end = begin + text;
  if (SequenceBefore(limit, end)) {
    const uint32_t beyond = std::min(end - limit, text);
    if (fin) TCPH_UNSET_FLAG(header, TCP_FIN);
    return segment.first(segment.size() - beyond);
  }
  if (fin && !SequenceBefore(end, edge)) TCPH_UNSET_FLAG(header, TCP_FIN);
  return segment;
}

bool StartsBeyondWindow(const struct tcp_pcb& pcb, uint32_t sequence) {
  return SequenceBefore(pcb.rcv_nxt + pcb.rcv_wnd, sequence);
}

bool IsAcceptableAtClosedWindow(const struct tcp_pcb& pcb, std::span<const uint8_t> segment) {
  const auto* header = reinterpret_cast<const struct tcp_hdr*>(segment.data());
  return pcb.rcv_wnd == 0 && lwip_ntohl(header->seqno) == pcb.rcv_nxt &&
         segment.size() == TCPH_HDRLEN_BYTES(header) &&
         (TCPH_FLAGS(header) & (TCP_SYN | TCP_FIN | TCP_RST)) == 0;
}

void ForgetRepeated(struct tcp_pcb& pcb) {
  if ((pcb.flags & (TF_RTO | TF_INFR)) != 0 || pcb.nrtx > 0) pcb.rttest = 0;
}

uint32_t TrimAcknowledged(struct tcp_pcb& pcb) {
  struct tcp_seg* segment = pcb.unsent;
  if (segment == nullptr || segment->len == 0) return 0;
  const uint32_t sequence = lwip_ntohl(segment->tcphdr->seqno);
  const auto done = static_cast<int32_t>(pcb.lastack - sequence);
  if (done <= 0 || done > segment->len) return 0;
  auto rest = static_cast<u16_t>(done);
  struct pbuf* const head = segment->p;
  // Bytes of lwIP's own lie behind the header; what Write() was given comes next.
  auto* const own =
      reinterpret_cast<uint8_t*>(segment->tcphdr) + TCPH_HDRLEN_BYTES(segment->tcphdr);
  const auto own_bytes = static_cast<u16_t>(static_cast<uint8_t*>(head->payload) + head->len - own);
  const u16_t from_own = std::min(own_bytes, rest);
  std::memmove(own, own + from_own, size_t{own_bytes} - from_own);
  head->len = static_cast<u16_t>(head->len - from_own);
  rest = static_cast<u16_t>(rest - from_own);
  while (rest > 0 && head->next != nullptr) {
    struct pbuf* const part = head->next;
    const u16_t from_part = std::min<u16_t>(part->len, rest);
    rest = static_cast<u16_t>(rest - from_part);
    if (from_part == part->len) {
      head->next = part->next;
      part->next = nullptr;
      pbuf_free(part);
      --pcb.snd_queuelen;
    } else {
      part->payload = static_cast<uint8_t*>(part->payload) + from_part;
      part->len = static_cast<u16_t>(part->len - from_part);
      part->tot_len = static_cast<u16_t>(part->tot_len - from_part);
    }
  }
  head->tot_len = static_cast<u16_t>(head->tot_len - done);
  segment->len = static_cast<u16_t>(segment->len - done);
  segment->tcphdr->seqno = lwip_htonl(sequence + static_cast<uint32_t>(done));
  pcb.snd_buf += static_cast<uint32_t>(done);
  return static_cast<uint32_t>(done);
}

}  // namespace penstock
