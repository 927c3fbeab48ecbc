#include "relay/relay.h"

#include <utility>

#include "relay/tcp_task.h"

namespace penstock {

Relay::Relay(boost::asio::io_context& io, RelayOptions options, Doorbell& stack_doorbell)
    : io_(io),
      options_(std::move(options)),
      stack_doorbell_(stack_doorbell),
      to_relay_(options_.flow_count_max),
      to_stack_(options_.flow_count_max),
      blocks_(options_.block_bytes_max) {}

Relay::~Relay() = default;

void Relay::RunReady() {
  doorbell_.Silence();
  do {
    FlowPipe* pipe;
    while (!shut_down_ && to_relay_.Pop(pipe)) Serve(*pipe);
    if (shut_down_) return;
    WakeWaiters();
    doorbell_.Arm();
    // The second look of the doorbell's protocol.
  } while (!to_relay_.empty() && (doorbell_.Silence(), true));
}

void Relay::Serve(FlowPipe& pipe) {
  BeginService(pipe.ready_for_relay);
  auto* task = static_cast<TcpTask*>(pipe.relay_task);
  if (task == nullptr) task = BeginTask(pipe);
  if (task != nullptr) task->Serve();
}

// A flow that is over may stand on the ring once more: with blocks that came back after
// its task had ended, which are nobody's credit, or with a kAbort that crossed kClosed.
// Only kOpen begins a flow. Whatever the stack gave back before kOpen is visible once
// kOpen is: look for it first, or the new task would be credited with old blocks.
TcpTask* Relay::BeginTask(FlowPipe& pipe) {
  bool opens = false;
  for (ToHostMessage message; !opens && pipe.to_host.Pop(message);) {
    opens = message.kind == ToHost::kOpen;
  }
  for (Block* block = pipe.returned.TakeAll(); block != nullptr;) {
    Block* next = block->next;
    blocks_.Give(block);
    block = next;
  }
  if (!opens) return nullptr;
  auto owner = std::make_shared<TcpTask>(shared_from_this(), pipe);
  TcpTask* task = owner.get();
  tasks_.insert(task);
  task->Begin(std::move(owner));
  return task;
}

void Relay::TellStack(FlowPipe& pipe) {
  MarkReady(pipe.ready_for_stack, to_stack_, pipe);
  stack_doorbell_.RingIfArmed();
}

void Relay::WaitForBlock(TcpTask& task) { waiting_for_block_.insert(&task); }

void Relay::WakeWaiters() {
  if (waiting_for_block_.empty() || !blocks_.HasRoom()) return;
  const auto waiting = std::exchange(waiting_for_block_, {});
  for (TcpTask* task : waiting) task->ReadAgain();
}

void Relay::Remove(TcpTask& task) {
  waiting_for_block_.erase(&task);
  tasks_.erase(&task);
}

void Relay::Shutdown() {
  shut_down_ = true;
  while (!tasks_.empty()) (*tasks_.begin())->Abandon();
}

}  // namespace penstock
