#include "relay/relay.h"

#include <errno.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <utility>

namespace penstock {

DatagramScratch::DatagramScratch()
    : memory_(new uint8_t[kBatch * kDatagramBytesMax]) {  // not zeroed, so not touched
  for (size_t i = 0; i < kBatch; ++i) {
    slots[i].room = {memory_.get() + i * kDatagramBytesMax, kDatagramBytesMax};
  }
}

Relay::Relay(boost::asio::io_context& io, RelayOptions options, Doorbell& stack_doorbell)
    : io_(io),
      options_(std::move(options)),
      stack_doorbell_(stack_doorbell),
      to_relay_(options_.flow_count_max),
      to_stack_(options_.flow_count_max),
      blocks_(options_.block_bytes_max) {}

Relay::~Relay() {
  for (Inbound* inbound = TakeInbound(); inbound != nullptr;) {
    const std::unique_ptr<Inbound> refused(std::exchange(inbound, inbound->next));
  }
}

void Relay::RunReady() {
  doorbell_.Silence();
  do {
    FlowPipe* pipe;
    while (!shut_down_ && to_relay_.Pop(pipe)) Serve(*pipe);
    if (shut_down_) return;
    ServePipes();
    WakeWaiters();
    if (resume_ports_.exchange(false, std::memory_order_seq_cst)) {
      for (PortTask* port : ports_) port->Resume();
    }
    doorbell_.Arm();
    // The second look of the doorbell's protocol.
  } while ((!to_relay_.empty() || !pipes_to_relay_.empty() ||
            resume_ports_.load(std::memory_order_seq_cst)) &&
           (doorbell_.Silence(), true));
}

void Relay::Serve(FlowPipe& pipe) {
  BeginService(pipe.ready_for_relay);
  auto* task = static_cast<FlowTask*>(pipe.relay_task);
  if (task == nullptr) task = BeginTask(pipe);
  if (task != nullptr) task->Serve();
}

// A flow that is over may stand on the ring once more: with blocks that came back after
// its task had ended, which are nobody's credit, or with a kAbort that crossed kClosed.
// Only kOpen begins a flow. Whatever the stack gave back before kOpen is visible once
// kOpen is: look for it first, or the new task would be credited with old blocks.
FlowTask* Relay::BeginTask(FlowPipe& pipe) {
  const bool opens = pipe.words_to_host.Peek().Has(ToHost::kOpen);
  const Words<ToHost> words = opens ? Words<ToHost>() : pipe.words_to_host.Take();
  for (Block* block = pipe.returned.TakeAll(); block != nullptr;) {
    Block* next = block->next;
    blocks_.Give(block);
    block = next;
  }
  if (pipe.has_no_task) RefuseFlow(pipe, words.Has(ToHost::kClose) || words.Has(ToHost::kAbort));
  if (!opens) return nullptr;
  std::shared_ptr<FlowTask> owner = options_.make_task(shared_from_this(), pipe);
  FlowTask* task = owner.get();
  if (task == nullptr) {
    const Words<ToHost> said = pipe.words_to_host.Take();
    pipe.open.reset();  // a client's socket is reset by that
    pipe.has_no_task = true;
    pipe.error = ENOMEM;
    pipe.words_to_guest.Say(ToGuest::kFailed);
    RefuseFlow(pipe, said.Has(ToHost::kClose) || said.Has(ToHost::kAbort));
    return nullptr;
  }
  pipe.relay_task = task;
  tasks_.push_back(*task);
  task->Begin(std::move(owner));
  return task;
}

// Of a flow that has no task: what the guest sent meanwhile goes back, and the stack's last
// word is answered by the relay's.
void Relay::RefuseFlow(FlowPipe& pipe, bool is_last) {
  if (Chunk* chunks = pipe.to_host.TakeInOrder(); chunks != nullptr) {
    pipe.taken.PushInOrder(chunks);
  }
  if (is_last) {
    pipe.has_no_task = false;
    pipe.words_to_guest.Say(ToGuest::kClosed);
  }
  TellStack(pipe);
}

void Relay::TellStack(FlowPipe& pipe) {
  MarkReady(pipe.ready_for_stack, to_stack_, pipe);
  stack_doorbell_.RingIfArmed();
}

void Relay::WaitForBlock(FlowTask& task) {
  if (std::exchange(task.queued_, true)) return;
  task.place_in_queue_ = waiting_for_block_.insert(waiting_for_block_.end(), &task);
}

void Relay::WakeWaiters() {
  if (waiting_for_block_.empty() || !blocks_.HasRoom()) return;
  // Only those that wait now, each once; one that finishes takes itself off.
  for (size_t count = waiting_for_block_.size(); count > 0 && !waiting_for_block_.empty();
       --count) {
    FlowTask* task = waiting_for_block_.front();
    waiting_for_block_.pop_front();
    task->queued_ = false;
    task->ReadAgain();
  }
}

void Relay::Remove(FlowTask& task) {
  if (std::exchange(task.queued_, false)) waiting_for_block_.erase(task.place_in_queue_);
  tasks_.erase(tasks_.iterator_to(task));
}

void Relay::Adopt(std::shared_ptr<DatagramTask> task) {
  DatagramTask& adopted = *task;
  adopted.place_in_pipes_ = datagram_tasks_.insert(datagram_tasks_.end(), std::move(task));
}

void Relay::Release(DatagramTask& task) {
  Unlist(task);  // the stack's last word may come before the port is removed
  if (std::exchange(task.queued_, false)) waiting_for_datagrams_.erase(task.place_in_queue_);
  datagram_tasks_.erase(task.place_in_pipes_);
}

void Relay::TellStack(DatagramPipe& pipe) {
  TellStackLater(pipe);
  stack_doorbell_.RingIfArmed();
}

void Relay::TellStackLater(DatagramPipe& pipe) { pipes_to_stack_.Mark(pipe.for_stack, pipe); }

void Relay::ServePipes() {
  pipes_to_relay_.Serve([this](DatagramPipe& pipe) {
    if (pipe.relay_task == nullptr) OpenSocket(pipe);
    if (pipe.relay_task != nullptr) pipe.relay_task->Serve();
  });
  WakeDatagramWaiters();
}

// Who gives datagrams back rings only if it sees the wish. What was given back before that
// is found by a second look, as in the doorbell's protocol.
void Relay::WaitForDatagrams(DatagramTask& task) {
  if (std::exchange(task.queued_, true)) return;
  task.place_in_queue_ = waiting_for_datagrams_.insert(waiting_for_datagrams_.end(), &task);
  if (wants_datagrams_.exchange(true, std::memory_order_seq_cst)) return;
  boost::asio::post(io_, [self = shared_from_this()] {
    if (!self->shut_down_) self->ServePipes();
  });
}

void Relay::WakeDatagramWaiters() {
  if (waiting_for_datagrams_.empty()) return;
  // Only those that wait now, each once.
  for (size_t count = waiting_for_datagrams_.size(); count > 0 && !waiting_for_datagrams_.empty();
       --count) {
    DatagramTask* task = waiting_for_datagrams_.front();
    waiting_for_datagrams_.pop_front();
    task->queued_ = false;
    task->TakeAgain();
  }
  if (waiting_for_datagrams_.empty()) wants_datagrams_.store(false, std::memory_order_seq_cst);
}

void Relay::OpenSocket(DatagramPipe& pipe) {
  const bool late_mark = !pipe.request || pipe.relay_done.load(std::memory_order_relaxed);
  if (late_mark || shut_down_) return;
  const std::shared_ptr<DatagramTask> task =
      options_.make_guest_socket(*this, pipe.shared_from_this());
  task->Begin(task);
}

DatagramScratch& Relay::scratch() {
  if (scratch_ == nullptr) scratch_ = std::make_unique<DatagramScratch>();
  return *scratch_;
}

void Relay::Add(std::shared_ptr<PortTask> port) {
  PortTask& task = *port;
  task.place_ = ports_.insert(ports_.end(), &task);
  task.listed_ = true;
  task.Begin(std::move(port));
}

void Relay::Remove(PortTask& port) {
  Unlist(port);
  port.Close();
}

void Relay::Unlist(PortTask& port) {
  if (std::exchange(port.listed_, false)) ports_.erase(port.place_);
}

void Relay::HandOver(std::unique_ptr<Inbound> inbound) {
  inbound_.Push(inbound.release());
  stack_doorbell_.RingIfArmed();
}

Inbound* Relay::TakeInbound() { return inbound_.TakeInOrder(); }

void Relay::Shutdown() {
  shut_down_ = true;
  while (!ports_.empty()) Remove(*ports_.front());
  waiting_for_datagrams_.clear();
  for (const auto& task : std::exchange(datagram_tasks_, {})) task->Abandon();
  while (!tasks_.empty()) tasks_.front().Abandon();
}

}  // namespace penstock
