// How flows end: the part of TcpFlows that lets go of a flow, in this order: the PCB is
// gone, its blocks are given back, the relay is told, the relay's last word frees the
// slot. Also what the flow table tells of flows, the ended ones among them.
#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "relay/check.h"
#include "stack/flow/tcp_flows.h"

namespace penstock {
namespace {

std::string_view StateName(const Flow& flow) {
  switch (flow.state) {
    case FlowState::kFree:
      return "free";
    case FlowState::kDialing:
      return "dialing";
    case FlowState::kHandshake:
      return "handshake";
    case FlowState::kOpen:
      return flow.host_eof || flow.pcb.guest_fin ? "half-closed" : "established";
    case FlowState::kClosing:
      return "closing";
  }
  return "";
}

std::string_view EndName(FlowEnd end) {
  switch (end) {
    case FlowEnd::kNone:
      return "";
    case FlowEnd::kClosed:
      return "closed";
    case FlowEnd::kResetByGuest:
      return "reset by guest";
    case FlowEnd::kResetByHost:
      return "reset by host";
    case FlowEnd::kRefused:
      return "refused";
    case FlowEnd::kUnreachable:
      return "unreachable";
    case FlowEnd::kDialTimeout:
      return "dial timeout";
    case FlowEnd::kHandshakeTimeout:
      return "handshake timeout";
    case FlowEnd::kRemoved:
      return "port removed";
    case FlowEnd::kSilent:
      return "guest silent";
    case FlowEnd::kStalled:
      return "stalled";
    case FlowEnd::kKeepalive:
      return "keepalive timeout";
    case FlowEnd::kOutOfMemory:
      return "out of memory";
    case FlowEnd::kDenied:
      return "denied";
    case FlowEnd::kShutdown:
      return "shut down";
  }
  return "";
}

FlowInfo Describe(const Flow& flow, Time now) {
  return {.guest = flow.tuple.guest,
          .destination = flow.tuple.destination,
          .client = flow.port != nullptr ? std::optional(flow.client) : std::nullopt,
          .name = flow.name != nullptr ? *flow.name : std::string(),
          .state = std::string(StateName(flow)),
          .end = std::string(EndName(flow.end)),
          .bytes_to_host = flow.bytes_to_host,
          .bytes_to_guest = flow.bytes_to_guest,
          .age = now - flow.opened_at};
}

}  // namespace

void TcpFlows::Close(Flow& flow, FlowEnd end, bool abort) {
  PENSTOCK_CHECK(!flow.pcb.alive());
  NoteRecord(flow);
  if (abort) {
    // What the guest sent before is the host's.
    PassToRelay(flow);
    DropChunks(flow);
  }
  flow.end = end;
  windows_bytes_ -= std::exchange(flow.window_bytes, 0);
  flow.pcb.acknowledged_bytes = 0;
  while (flow.blocks_head != nullptr) {
    Block* block = flow.blocks_head;
    flow.blocks_head = block->next;
    ReturnBlock(flow, block);
  }
  to_guest_bytes_ -= flow.block_bytes;
  flow.block_bytes = 0;
  flow.blocks_tail = flow.unwritten = nullptr;
  flow.syn.reset();
  table_.Unlist(flow);
  SetState(flow, FlowState::kClosing);
  flow.abort = abort;
  closing_.push_back(&flow);
  flow.last_progress = now_;
  if (flow.port != nullptr) flow.port->ended.Add(1);
  flow.no_host.reset();
  if (flow.number != 0) {
    gate_.Close(QuestionOf(flow), {.flow = flow.number,
                                   .reason = EndName(end),
                                   .bytes_to_host = flow.bytes_to_host,
                                   .bytes_to_guest = flow.bytes_to_guest,
                                   .age = now_ - flow.opened_at});
  }
  FlowInfo info = Describe(flow, now_);
  info.state = "closed";
  if (closed_.size() < kClosedMax) {
    closed_.push_back(std::move(info));
  } else {
    closed_[closed_next_] = std::move(info);
  }
  closed_next_ = (closed_next_ + 1) % kClosedMax;
}

void TcpFlows::DropChunks(Flow& flow) {
  while (flow.pending_head != nullptr) {
    Chunk* chunk = flow.pending_head;
    flow.pending_head = chunk->next;
    auto* buffer = reinterpret_cast<GuestBuffer*>(chunk);
    buffer->pool->Give(buffer);
  }
  flow.pending_tail = nullptr;
  to_host_bytes_ -= std::exchange(flow.pending_bytes, 0);
}

void TcpFlows::AfterFlush() {
  if (!batch_.empty()) return;
  for (auto [flow, block] : acknowledged_) {
    flow->pipe.returned.Push(block);
    TellRelay(*flow);
  }
  acknowledged_.clear();
  for (Flow* flow : closing_) {
    flow->pipe.words_to_host.Say(flow->abort ? ToHost::kAbort : ToHost::kClose);
    flow->close_told = true;
    TellRelay(*flow);
  }
  closing_.clear();
  counters_.buffer_bytes_to_host.Set(to_host_bytes_);
  counters_.buffer_bytes_to_guest.Set(to_guest_bytes_);
}

// The relay's last word came: everything was given back.
void TcpFlows::Free(Flow& flow) {
  TakeBackChunks(flow);
  PENSTOCK_CHECK(flow.state == FlowState::kClosing);
  flow.deadline = kNever;
  UpdateTicking(flow);
  SetState(flow, FlowState::kFree);
  flow.port.reset();
  table_.Release(flow);
}

void TcpFlows::Shutdown() {
  table_.ForEach([this](Flow& flow) {
    engine_.Drop(flow.pcb);
    NoteRecord(flow);
    DropChunks(flow);
    for (Chunk* chunk = flow.pipe.to_host.TakeAll(); chunk != nullptr;) {
      Chunk* next = chunk->next;
      auto* buffer = reinterpret_cast<GuestBuffer*>(chunk);
      buffer->pool->Give(buffer);
      chunk = next;
    }
    TakeBackChunks(flow);
    BlockPool& blocks = relays_[flow.relay_index]->blocks();
    for (Block* block = flow.pipe.to_guest.TakeAll(); block != nullptr;) {
      Block* next = block->next;
      blocks.Give(block);
      block = next;
    }
    for (Block* block = flow.blocks_head; block != nullptr;) {
      Block* next = block->next;
      blocks.Give(block);
      block = next;
    }
    flow.blocks_head = nullptr;
    flow.state = FlowState::kFree;
  });
  for (auto [flow, block] : acknowledged_) relays_[flow->relay_index]->blocks().Give(block);
  acknowledged_.clear();
  table_.ForEachSlot([this](Flow& flow) {
    for (Block* block = flow.pipe.returned.TakeAll(); block != nullptr;) {
      Block* next = block->next;
      relays_[flow.relay_index]->blocks().Give(block);
      block = next;
    }
  });
}

// ---------------------------------------------------------------- the flow table

void TcpFlows::AddLiveTo(std::vector<FlowInfo>& rows) const {
  rows.reserve(table_.in_use() + closed_.size());
  table_.ForEach([&](Flow& flow) {
    if (flow.state != FlowState::kClosing) rows.push_back(Describe(flow, now_));
  });
}

void TcpFlows::AddClosedTo(std::vector<FlowInfo>& rows) const {
  for (size_t i = 0; i < closed_.size(); ++i) {
    rows.push_back(closed_[(closed_next_ + closed_.size() - 1 - i) % closed_.size()]);
  }
}

}  // namespace penstock
