#include "tests/relay/played_stack.h"

#include <dirent.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <utility>

namespace penstock {
namespace {

constexpr auto kRealLimit = std::chrono::seconds(30);
// How long a wait lasts at most: tests also wait for sockets that ring no doorbell.
constexpr auto kLook = std::chrono::milliseconds(2);

RelayOptions WithDefaults(RelayOptions options) {
  if (options.flow_count_max == 0) options.flow_count_max = 64;
  if (options.block_bytes_max == 0) options.block_bytes_max = uint64_t{64} << 20;
  if (options.keepalive_idle == Duration{}) {
    options.keepalive_idle = std::chrono::hours(2);
    options.keepalive_interval = std::chrono::seconds(75);
    options.keepalive_probes = 9;
  }
  if (options.socket_factory == nullptr) options.socket_factory = DefaultSocketFactory();
  return options;
}

}  // namespace

std::string FormName(RelayForm form) { return form == RelayForm::kThread ? "Thread" : "IoContext"; }

Endpoint Loopback(Family family, uint16_t port) {
  const IpAddress address =
      family == Family::kIpv4 ? IpAddress::V4(127, 0, 0, 1) : *IpAddress::Parse("::1");
  return {.address = address, .port = port};
}

size_t OpenDescriptorCount() {
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) throw std::runtime_error("cannot list /proc/self/fd");
  size_t count = 0;
  while (const dirent* entry = readdir(folder)) count += entry->d_name[0] != '.';
  closedir(folder);
  return count - 1;  // without the folder's own
}

// ---------------------------------------------------------------- one flow

PlayedFlow::PlayedFlow(PlayedStack& stack, std::vector<Endpoint> destinations, uint32_t block_bytes)
    : stack_(stack) {
  pipe_.stack_flow = this;
  Reopen(std::move(destinations), block_bytes);
}

void PlayedFlow::Reopen(std::vector<Endpoint> destinations, uint32_t block_bytes) {
  EXPECT_TRUE(words_.empty() || closed()) << "the pipe is still in use";
  words_.clear();
  received_.clear();
  error_ = 0;
  pipe_.open = std::make_unique<OpenRequest>();  // the relay takes it
  std::copy(destinations.begin(), destinations.end(), pipe_.open->destinations.begin());
  pipe_.open->destination_count = static_cast<uint8_t>(destinations.size());
  pipe_.open->block_bytes = block_bytes;
  block_bytes_ = block_bytes;
  Say({.kind = ToHost::kOpen});
}

void PlayedFlow::Say(const ToHostMessage& message) {
  pipe_.PushToHost(message);
  stack_.Tell(pipe_);
}

bool PlayedFlow::TrySend(std::string_view bytes, size_t chunk_bytes) {
  if (pipe_.to_host.free_slots() <= kToHostSlots - kDataToHostMax) return false;
  const auto total = static_cast<uint32_t>(bytes.size());
  Chunk* head = nullptr;
  Chunk** end = &head;
  while (!bytes.empty()) {
    Sent& sent = sent_.emplace_back();
    sent.bytes = bytes.substr(0, chunk_bytes);
    sent.chunk.data = reinterpret_cast<const uint8_t*>(sent.bytes.data());
    sent.chunk.length = static_cast<uint32_t>(sent.bytes.size());
    *end = &sent.chunk;
    end = &sent.chunk.next;
    bytes.remove_prefix(sent.bytes.size());
  }
  bytes_out_ += total;
  Say({.chunks = head, .value = total, .kind = ToHost::kData});
  return true;
}

void PlayedFlow::GiveBack(size_t count) {
  for (; count > 0 && !held_.empty(); --count) {
    pipe_.returned.Push(held_.front());
    held_.pop_front();
  }
  stack_.Tell(pipe_);
}

bool PlayedFlow::Heard(ToGuest word) const {
  return std::find(words_.begin(), words_.end(), word) != words_.end();
}

void PlayedFlow::TakeBack() {
  for (Chunk* chunk = pipe_.taken.TakeAll(); chunk != nullptr;) {
    Chunk* next = chunk->next;
    bytes_out_ -= chunk->length;
    const auto found = std::find_if(sent_.begin(), sent_.end(),
                                    [chunk](const Sent& sent) { return &sent.chunk == chunk; });
    ASSERT_NE(found, sent_.end()) << "given back twice, or never ours";
    sent_.erase(found);
    chunk = next;
  }
}

void PlayedFlow::Listen() {
  ToGuestMessage message;
  while (pipe_.to_guest.Pop(message)) {
    EXPECT_FALSE(closed()) << "a message after kClosed";
    if (message.kind == ToGuest::kData) {
      EXPECT_FALSE(Heard(ToGuest::kEof)) << "data after kEof";
      EXPECT_FALSE(Heard(ToGuest::kReset)) << "data after kReset";
      EXPECT_EQ(message.value, message.block->length);
      EXPECT_GT(message.block->length, 0u);
      EXPECT_LE(message.block->length, std::max(block_bytes_, kSmallBlockBytes));
      received_.append(reinterpret_cast<const char*>(message.block->data), message.value);
      held_.push_back(message.block);
      EXPECT_LE(held_.size(), kBlockCredit);
      continue;
    }
    EXPECT_FALSE(Heard(message.kind)) << "said twice: " << static_cast<int>(message.kind);
    if (message.kind == ToGuest::kFailed || message.kind == ToGuest::kReset) {
      error_ = static_cast<int>(message.value);
    }
    words_.push_back(message.kind);
  }
  TakeBack();
  if (closed()) {
    EXPECT_EQ(bytes_out_, 0u) << "closed, and not everything given back";
  }
  if (!hold_blocks_ && !held_.empty()) GiveBack(held_.size());
}

void PlayedFlow::Collect(BlockPool& blocks) {
  ToHostMessage lost;
  while (pipe_.to_host.Pop(lost)) bytes_out_ -= lost.value;
  TakeBack();
  EXPECT_EQ(bytes_out_, 0u) << "bytes of the stack are lost";
  ToGuestMessage message;
  while (pipe_.to_guest.Pop(message)) {
    if (message.kind == ToGuest::kData) held_.push_back(message.block);
  }
  for (Block* block = pipe_.returned.TakeAll(); block != nullptr;) {
    Block* next = block->next;
    blocks.Give(block);
    block = next;
  }
  for (Block* block : held_) blocks.Give(block);
  held_.clear();
}

// ---------------------------------------------------------------- the stack

PlayedStack::PlayedStack(RelayForm form, RelayOptions options) {
  if (absl::Status status = doorbell_.Open(); !status.ok()) {
    throw std::runtime_error(std::string(status.message()));
  }
  options = WithDefaults(std::move(options));
  if (form == RelayForm::kThread) {
    thread_ = RelayThread::Start(std::move(options), doorbell_).value();
    return;
  }
  relay_ = std::make_shared<Relay>(io_, std::move(options), doorbell_);
  // Every turn of the test serves the relay.
  relay_->doorbell().SetHook([](void*) {}, nullptr);
}

PlayedStack::~PlayedStack() { Shutdown(); }

PlayedFlow& PlayedStack::Open(std::vector<Endpoint> destinations, uint32_t block_bytes) {
  return *flows_.emplace_back(
      std::make_unique<PlayedFlow>(*this, std::move(destinations), block_bytes));
}

void PlayedStack::Tell(FlowPipe& pipe) {
  if (shut_down_) return;
  MarkReady(pipe.ready_for_relay, relay().to_relay(), pipe);
  relay().doorbell().RingIfArmed();
}

void PlayedStack::RunContext() {
  relay_->RunReady();
  io_.restart();
  io_.poll();
}

void PlayedStack::Pump() {
  if (relay_ != nullptr) RunContext();
  FlowPipe* pipe;
  while (relay().to_stack().Pop(pipe)) {
    BeginService(pipe->ready_for_stack);
    static_cast<PlayedFlow*>(pipe->stack_flow)->Listen();
  }
}

void PlayedStack::Wait() {
  if (relay_ != nullptr) {
    // Without anything to wait for it returns at once.
    io_.restart();
    io_.run_one_for(kLook);
    return;
  }
  doorbell_.Arm();
  pollfd bell{.fd = doorbell_.descriptor(), .events = POLLIN, .revents = 0};
  if (relay().to_stack().empty()) (void)poll(&bell, 1, static_cast<int>(kLook.count()));
  doorbell_.Silence();
}

void PlayedStack::Until(std::string_view what, const std::function<bool()>& done) {
  const auto limit = Clock::now() + kRealLimit;
  while (true) {
    Pump();
    if (done()) return;
    if (Clock::now() > limit) throw std::runtime_error("waited in vain: " + std::string(what));
    Wait();
  }
}

void PlayedStack::SendAll(PlayedFlow& flow, std::string_view bytes) {
  constexpr size_t kMessageBytes = 65'536;
  Until("the relay takes everything", [&] {
    while (!bytes.empty() && flow.TrySend(bytes.substr(0, kMessageBytes))) {
      bytes.remove_prefix(std::min(kMessageBytes, bytes.size()));
    }
    return bytes.empty();
  });
}

void PlayedStack::Shutdown() {
  if (std::exchange(shut_down_, true)) return;
  if (thread_ != nullptr) {
    thread_->Join();
  } else {
    relay_->Shutdown();
    // What was under way inside Asio ends now.
    io_.restart();
    io_.run();
  }
  for (auto& flow : flows_) flow->Collect(relay().blocks());
  EXPECT_EQ(relay().blocks().bytes_out(), 0u) << "blocks of the relay are lost";
}

}  // namespace penstock
