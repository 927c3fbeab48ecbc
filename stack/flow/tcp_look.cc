// Connections that the policy allows only under a certain name, or but for certain names:
// the part of TcpFlows that looks at the guest's first bytes. See tcp_flows.h.
//
// The connection is made as any other, and what the host says goes to the guest at once;
// only the guest's bytes wait until they have shown the name, or that they show none
// (shown_name.h). Then the policy is asked again. Allowed: they go on their way, as if
// nothing had been. Denied: the host's socket is reset without having had a byte, and the
// guest gets a reset or, for HTTP and by choice, a page.
//
// What is denied at once, and on port 80, is accepted all the same where a page is wanted: it
// has no host, its request is read, and it is told no by the page; if it is no HTTP, by a
// reset.
//
// Bounds: 16 KiB, or the guest's window, and 5 s from the first byte on. Who says nothing
// keeps nobody waiting: nothing is held back, and a host that speaks first is not one that
// tells its names apart by what the client says, so the look is over.
#include <string_view>

#include "stack/flow/tcp_flows.h"
#include "stack/policy/shown_name.h"

namespace penstock {
namespace {

#define PENSTOCK_PAGE_BODY                                            \
  "The network policy of this sandbox does not allow this request.\n" \
  "Whoever runs the sandbox can allow it.\n"
static_assert(std::string_view(PENSTOCK_PAGE_BODY).size() == 103);
constexpr std::string_view kPage =
    "HTTP/1.1 403 Forbidden\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
    "Content-Length: 103\r\n"
    "Connection: close\r\n"
    "\r\n" PENSTOCK_PAGE_BODY;
#undef PENSTOCK_PAGE_BODY

}  // namespace

GateQuestion TcpFlows::QuestionOf(const Flow& flow) {
  const bool inbound = flow.port != nullptr;
  GateQuestion question{.direction = inbound ? Direction::kIngress : Direction::kEgress,
                        .guest = flow.tuple.guest,
                        .peer = inbound ? flow.client : flow.tuple.destination,
                        .looked = !flow.looking};
  question.peer.address = question.peer.address.Unmapped();
  if (flow.name != nullptr) question.name = *flow.name;
  return question;
}

void TcpFlows::Look(Flow& flow, bool last) {
  if (flow.state != FlowState::kOpen) return;
  if (flow.pending_bytes == 0) {
    const bool host_spoke = flow.block_bytes > 0 || flow.host_eof || flow.bytes_to_guest > 0;
    const bool no_wait = flow.denied && last;
    if (host_spoke || flow.pcb.guest_fin || no_wait)
      OnLooked(flow, {.kind = ShownName::Kind::kNone});
    return;
  }
  if (flow.looking_since == Time{}) flow.looking_since = now_;
  first_bytes_.clear();
  for (const Chunk* chunk = flow.pending_head; chunk != nullptr; chunk = chunk->next) {
    first_bytes_.insert(first_bytes_.end(), chunk->data, chunk->data + chunk->length);
    if (first_bytes_.size() >= kShownBytesMax) break;
  }
  // No more can come once the window is full.
  last = last || flow.pcb.guest_fin || flow.pending_bytes >= flow.window_bytes;
  ShownName shown = FindShownName(first_bytes_);
  if (last) shown = EndedName(std::move(shown), first_bytes_.size());
  if (shown.kind != ShownName::Kind::kNeedMore) OnLooked(flow, shown);
}

void TcpFlows::OnLooked(Flow& flow, const ShownName& shown) {
  flow.looking = false;
  counters_.first_bytes_looked_at.Add(1);
  const bool page =
      config_.denial_answer == DenialAnswer::kPage && shown.protocol == ShownName::Protocol::kHttp;
  if (flow.denied) {
    if (page && AnswerWithPage(flow)) return;
    DropChunks(flow);
    return Reset(flow, FlowEnd::kDenied);
  }
  const bool readable = shown.kind != ShownName::Kind::kUnreadable;
  if (shown.kind == ShownName::Kind::kName) flow.name = std::make_unique<std::string>(shown.name);
  const GateQuestion question = QuestionOf(flow);
  if (readable && gate_.Ask(question) != Verdict::kDeny) return;
  if (!readable) {
    counters_.denied_to_host.Add(1);
    gate_.TellDenied(question, EventLayer::kTenant, "unreadable name");
  }
  counters_.flows_denied.Add(1);
  if (page && AnswerWithPage(flow)) return;
  DropChunks(flow);
  Reset(flow, FlowEnd::kDenied);
}

bool TcpFlows::GetsPage(const Endpoint& destination) const {
  constexpr uint16_t kHttpPort = 80;
  return config_.denial_answer == DenialAnswer::kPage && destination.port == kHttpPort;
}

// The page lies in static memory and its acknowledgement gives nothing back. The host's
// socket is reset when the guest has taken the page and its end, or does not in time. Behind
// something that the host has said, or in front of it, it would be no answer.
bool TcpFlows::AnswerWithPage(Flow& flow) {
  const std::span<const uint8_t> page(reinterpret_cast<const uint8_t*>(kPage.data()), kPage.size());
  if (flow.bytes_to_guest > 0 || flow.block_bytes > 0) return false;
  if (!flow.pcb.alive() || engine_.SendRoom(flow.pcb, kPage.size()) < kPage.size()) return false;
  if (!engine_.Write(flow.pcb, page, Behind::kFin)) return false;
  counters_.pages_to_guest.Add(1);
  flow.answering = true;
  flow.looking_since = now_;
  DiscardPending(flow);
  flow.fin_to_guest = true;
  return true;
}

// Whatever else the guest says is taken, so that its request has an end.
void TcpFlows::DiscardPending(Flow& flow) {
  if (flow.pending_bytes > 0) engine_.Consume(flow.pcb, flow.pending_bytes);
  DropChunks(flow);
}

void TcpFlows::CutDenied() {
  table_.ForEach([&](Flow& flow) {
    if (flow.state == FlowState::kClosing || flow.denied || flow.answering) return;
    if (flow.port == nullptr && IsLocal(flow.tuple.destination)) return;
    if (gate_.StillAllows(QuestionOf(flow))) return;
    Serve(flow);  // whatever ended it just now counts first
    if (flow.state == FlowState::kFree || flow.state == FlowState::kClosing) return;
    if (flow.state == FlowState::kDialing) {
      counters_.flows_cut.Add(1);
      SendResetForSyn(flow);
      return Close(flow, FlowEnd::kDenied, true);
    }
    counters_.flows_cut.Add(1);
    Reset(flow, FlowEnd::kDenied);
  });
}

}  // namespace penstock
