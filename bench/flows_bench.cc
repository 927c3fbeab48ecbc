// Micro-benchmarks of many flows: what finding one of them costs, and what a packet of one
// does, where 10 to 100,000 take turns. The instructions of a packet should stay the same
// (count_bench counts them); time grows with what no longer fits the caches.
//
// FindFlow is the table alone. RoundTripInTurn is a whole stack with its relay in memory
// (counted_world.h): a byte from the guest on each flow in turn, and the host's answer, each
// with an ACK of its own, four packets in all. The guest's and the host's share of its time
// is the world's, so it says how time grows and not what a packet costs.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "bench/counted_world.h"
#include "stack/flow/flow_table.h"

namespace penstock {
namespace {

TcpTuple TupleOf(uint32_t number) {
  return {.guest = {.address = IpAddress::V4(10, 0, 2, 15),
                    .port = static_cast<uint16_t>(1'024 + number % 60'000)},
          .destination = {.address = IpAddress::V4(192, 0, 2, 80),
                          .port = static_cast<uint16_t>(1'000 + number / 60'000)}};
}

void FindFlow(benchmark::State& state) {
  const auto count = static_cast<uint32_t>(state.range(0));
  FlowTable table(count, 1);
  for (uint32_t i = 0; i < count; ++i) {
    if (table.Add(TupleOf(i)) == nullptr) state.SkipWithError("no room for a flow");
  }
  uint32_t next = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(table.Find(TupleOf(next)));
    next = next + 1 == count ? 0 : next + 1;
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(FindFlow)->Arg(10)->Arg(1'000)->Arg(10'000)->Arg(100'000);

void RoundTripInTurn(benchmark::State& state) {
  const auto count = static_cast<size_t>(state.range(0));
  bench::CountedWorld world(count);
  world.AcknowledgeAtOnce();
  world.Open(count);
  const uint64_t before = world.frames();
  size_t next = 0;
  for (auto _ : state) {
    world.RoundTrip(next);
    next = next + 1 == count ? 0 : next + 1;
  }
  state.SetItemsProcessed(static_cast<int64_t>(world.frames() - before));
}
BENCHMARK(RoundTripInTurn)->Arg(10)->Arg(1'000)->Arg(10'000)->Arg(100'000);

}  // namespace
}  // namespace penstock

BENCHMARK_MAIN();
