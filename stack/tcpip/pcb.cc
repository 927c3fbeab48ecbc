// What a PCB tells of its state: lwIP's fields under the names of RFC 9293.
#include "relay/check.h"
#include "stack/tcpip/engine.h"

extern "C" {
#include "lwip/priv/tcp_priv.h"
#include "lwip/tcp.h"
}

namespace penstock {

Pcb::~Pcb() { PENSTOCK_CHECK(pcb_ == nullptr); }
uint32_t Pcb::send_next() const { return pcb_->snd_nxt; }
uint32_t Pcb::receive_next() const { return pcb_->rcv_nxt; }
uint32_t Pcb::send_unacknowledged() const { return pcb_->lastack; }
uint32_t Pcb::receive_window() const { return pcb_->rcv_wnd; }
uint32_t Pcb::announced_window() const { return pcb_->rcv_ann_right_edge - pcb_->rcv_nxt; }
bool Pcb::in_handshake() const { return pcb_->state == SYN_RCVD || pcb_->state == SYN_SENT; }
bool Pcb::connecting() const { return pcb_ != nullptr && pcb_->state == SYN_SENT; }
bool Pcb::drained() const { return pcb_->unsent == nullptr && pcb_->unacked == nullptr; }

bool Pcb::NeedsTick() const {
  if (pcb_ == nullptr) return false;
  const bool settled =
      pcb_->state == ESTABLISHED || pcb_->state == CLOSE_WAIT || pcb_->state == FIN_WAIT_2;
  return !settled || pcb_->rtime >= 0 || pcb_->persist_backoff > 0 || pcb_->unsent != nullptr ||
         pcb_->ooseq != nullptr || (pcb_->flags & TF_CLOSEPEND) != 0 || short_of_memory;
}

}  // namespace penstock
