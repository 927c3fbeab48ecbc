// Micro-benchmarks of the queues between the poll thread and a relay thread: what one
// message costs on one thread, what two threads reach together, and how long a message
// there and one back take while nobody sleeps.
//
// With two threads on fewer than two free cores the figures are the scheduler's.
#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "relay/spsc_queue.h"

namespace penstock {
namespace {

// As large as a message between the stack and a relay.
struct Message {
  void* flow = nullptr;
  void* pointer = nullptr;
  uint32_t length = 0;
  uint32_t kind = 0;
};

constexpr uint32_t kStop = 1;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

template <typename Queue>
void PushOne(Queue& queue, const Message& message) {
  while (!queue.Push(message)) Pause();
}

template <typename Queue>
Message PopOne(Queue& queue) {
  Message message;
  while (!queue.Pop(message)) Pause();
  return message;
}

void BM_RingPushPop(benchmark::State& state) {
  SpscRing<Message> ring(4096);
  Message message;
  for (auto _ : state) {
    benchmark::DoNotOptimize(ring.Push(message));
    benchmark::DoNotOptimize(ring.Pop(message));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_RingPushPop);

// A batch in, a batch out: what a pass of the stack and a turn of the relay do.
void BM_RingBatch(benchmark::State& state) {
  const auto batch = static_cast<uint32_t>(state.range(0));
  SpscRing<Message> ring(4096);
  Message message;
  for (auto _ : state) {
    for (uint32_t i = 0; i < batch; ++i) benchmark::DoNotOptimize(ring.Push(message));
    while (ring.Pop(message)) benchmark::DoNotOptimize(message);
  }
  state.SetItemsProcessed(state.iterations() * batch);
}
BENCHMARK(BM_RingBatch)->Arg(32)->Arg(1024);

// One thread pushes, this one pops.
void BM_RingTwoThreads(benchmark::State& state) {
  SpscRing<Message> ring(4096);
  std::atomic<bool> stop{false};  // read by the producer alone
  std::thread producer([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      if (!ring.Push(Message{})) Pause();
    }
  });
  for (auto _ : state) benchmark::DoNotOptimize(PopOne(ring));
  stop.store(true, std::memory_order_relaxed);
  producer.join();
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_RingTwoThreads)->UseRealTime();

// A message to the other thread and its answer.
void BM_RingThereAndBack(benchmark::State& state) {
  SpscRing<Message> there(64);
  SpscRing<Message> back(64);
  std::thread echo([&] {
    for (;;) {
      const Message message = PopOne(there);
      if (message.kind == kStop) return;
      PushOne(back, message);
    }
  });
  for (auto _ : state) {
    PushOne(there, Message{});
    benchmark::DoNotOptimize(PopOne(back));
  }
  PushOne(there, Message{.kind = kStop});
  echo.join();
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_RingThereAndBack)->UseRealTime();

// Blocks on their way: `batch` pushed, then all taken at once.
void BM_ReturnList(benchmark::State& state) {
  struct Block {
    Block* next = nullptr;
  };
  const auto batch = static_cast<size_t>(state.range(0));
  const auto blocks = std::make_unique<Block[]>(batch);
  ReturnList<Block> list;
  for (auto _ : state) {
    for (size_t i = 0; i < batch; ++i) list.Push(&blocks[i]);
    benchmark::DoNotOptimize(list.TakeInOrder());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_ReturnList)->Arg(1)->Arg(32);

}  // namespace
}  // namespace penstock

BENCHMARK_MAIN();
