#include "tests/relay/framed_fixture.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <utility>

#include "relay/kernel_socket.h"
#include "relay/stream_pair.h"

namespace penstock {

SocketResult CountedStreams::OpenStream(const SocketRequest& request) {
  ++asked;
  destination = request.destination;
  if (error != 0) return {.error = error};
  return DefaultSocketFactory()->OpenStream(request);
}

FramedFixture::FramedFixture() {
  if (!bell_.Open().ok()) throw std::runtime_error("no eventfd");
  relay_ = std::make_shared<Relay>(io_, RelayOptions{.socket_factory = streams_}, bell_);
  relay_->doorbell().SetHook([](void*) {}, nullptr);
  pipe_->request = DatagramRequest{.kind = DatagramKind::kFramedStream};
}

FramedFixture::~FramedFixture() {
  relay_->Shutdown();
  io_.poll();
  pool_.GiveAll(pipe_->sent.TakeAll(), bytes_out_);
  pool_.GiveAll(pipe_->to_host.TakeAll(), bytes_out_);
  for (Datagram* datagram : held_) {
    datagram->next = nullptr;
    relay_->datagrams().GiveAll(datagram);
  }
  relay_->datagrams().GiveAll(pipe_->delivered.TakeAll());
  relay_->datagrams().GiveAll(pipe_->to_guest.TakeAll());
  EXPECT_EQ(pool_.bytes_out(), 0u);
  EXPECT_EQ(relay_->datagrams().bytes_out(), 0u);
}

void FramedFixture::Begin() {
  if (!connects()) {
    StreamPair pair = MakeStreamPair(*streams_);
    if (pair.error != 0) throw std::runtime_error("no pair");
    far_.emplace(static_cast<KernelAccepted&>(*pair.flow_end).Release());
    pipe_->accepted = std::move(pair.own_end);
    Mark();
    Run();
    return;
  }
  Give("hello");
  Until("a connection", [&] {
    if (!far_) far_ = listener_.TryAccept();
    return far_.has_value();
  });
  const std::string hello = Framed("hello");
  EXPECT_EQ(FarReads(hello.size()), hello);
  far_skipped_ = hello.size();
}

void FramedFixture::Give(std::string_view message) {
  Datagram* datagram = pool_.Take(static_cast<uint32_t>(message.size()), bytes_out_);
  if (datagram == nullptr) throw std::runtime_error("the stack's pool is empty");
  std::ranges::copy(message, datagram->data);
  datagram->path.peer = peer_;
  pipe_->to_host.Push(datagram);
  Mark();
}

void FramedFixture::SayLastWord() {
  GiveBack();
  pipe_->stack_done.store(true);
  Mark();
  Run();
}

void FramedFixture::GiveBack() {
  for (Datagram* datagram : std::exchange(held_, {})) pipe_->delivered.Push(datagram);
  Mark();
}

void FramedFixture::Run() {
  if (!shut_down_) relay_->ServePipes();
  io_.poll();
  io_.restart();
  Take();
}

void FramedFixture::Take() {
  pool_.GiveAll(pipe_->sent.TakeAll(), bytes_out_);
  if (pipe_->stack_done.load()) return;
  for (Datagram* each = pipe_->to_guest.TakeInOrder(); each != nullptr;) {
    Datagram* const next = each->next;
    if (each->fault.kind != FaultKind::kNone) {
      EXPECT_EQ(each->length, 0u);
      ends_.push_back({each->fault, messages_.size()});
    } else {
      messages_.emplace_back(reinterpret_cast<const char*>(each->data), each->length);
    }
    EXPECT_EQ(each->path.peer, connects() ? peer_ : Endpoint{});
    held_.push_back(each);
    each = next;
  }
  if (!hold_ && !held_.empty()) GiveBack();
}

void FramedFixture::Until(std::string_view what, const std::function<bool()>& done) {
  const Time limit = Clock::now() + std::chrono::seconds(10);
  while (!done()) {
    if (Clock::now() > limit) throw std::runtime_error("not in time: " + std::string(what));
    Run();
    std::this_thread::yield();
  }
}

void FramedFixture::TakeWholePool() {
  for (uint32_t length : {kDatagramBytesMax, 1u}) {
    for (;;) {  // each a pipe of its own
      OtherPipe other;
      other.datagram = relay_->datagrams().Take(length, other.bytes_out);
      if (other.datagram == nullptr) break;
      others_.push_back(other);
    }
  }
}

void FramedFixture::GivePoolBack() {
  for (OtherPipe& other : others_) relay_->datagrams().Give(other.datagram, other.bytes_out);
  others_.clear();
}

void FramedFixture::FarWrites(std::string_view bytes) {
  Until("the far end's write", [&] {
    bytes.remove_prefix(far().Write(bytes));
    return bytes.empty() || far().error() != 0;
  });
}

std::string FramedFixture::FarReads(size_t bytes) {
  Until("bytes at the far end", [&] {
    far().Read();
    return far().received().size() >= far_skipped_ + bytes || far().error() != 0;
  });
  return far().received().substr(far_skipped_);
}

}  // namespace penstock
