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
  pipe_.words_to_host.SayFirst(ToHost::kOpen);
  stack_.Tell(pipe_);
}

void PlayedFlow::Say(ToHost word) {
  pipe_.words_to_host.Say(word);
  stack_.Tell(pipe_);
}

void PlayedFlow::Send(std::string_view bytes, size_t chunk_bytes) {
  if (bytes.empty()) return;
  bytes_out_ += bytes.size();
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
  pipe_.to_host.PushInOrder(head);
  stack_.Tell(pipe_);
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
  const Words<ToGuest> words = pipe_.words_to_guest.Take();
  for (Block* block = pipe_.to_guest.TakeInOrder(); block != nullptr;) {
    Block* next = block->next;
    EXPECT_FALSE(closed()) << "data after kClosed";
    EXPECT_FALSE(Heard(ToGuest::kEof)) << "data after kEof";
    EXPECT_FALSE(Heard(ToGuest::kReset)) << "data after kReset";
    EXPECT_GT(block->length, 0u);
    EXPECT_LE(block->length, std::max(block_bytes_, kSmallBlockBytes));
    received_.append(reinterpret_cast<const char*>(block->data), block->length);
    held_.push_back(block);
    EXPECT_LE(held_.size(), pipe_.block_credit.load());
    block = next;
  }
  for (const ToGuest word :
       {ToGuest::kConnected, ToGuest::kFailed, ToGuest::kEof, ToGuest::kReset, ToGuest::kClosed}) {
    if (!words.Has(word)) continue;
    EXPECT_FALSE(closed()) << "a word after kClosed";
    EXPECT_FALSE(Heard(word)) << "said twice: " << static_cast<int>(word);
    if (word == ToGuest::kFailed || word == ToGuest::kReset) error_ = pipe_.error;
    words_.push_back(word);
  }
  TakeBack();
  if (closed()) {
    EXPECT_EQ(bytes_out_, 0u) << "closed, and not everything given back";
  }
  if (!hold_blocks_ && !held_.empty()) GiveBack(held_.size());
}

void PlayedFlow::Collect(BlockPool& blocks) {
  for (Chunk* chunk = pipe_.to_host.TakeAll(); chunk != nullptr; chunk = chunk->next) {
    bytes_out_ -= chunk->length;
  }
  TakeBack();
  EXPECT_EQ(bytes_out_, 0u) << "bytes of the stack are lost";
  for (Block* block = pipe_.to_guest.TakeAll(); block != nullptr; block = block->next) {
    held_.push_back(block);
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
