// What penstock itself works: a program that does the same work each time it is run, for
// callgrind to count the instructions of (bench/budgets.py, bench/profiles.py). It prints how
// much it did; without callgrind that is all.
//
//   count_bench CELL...       one line of JSON for each:
//                             {"cell": "up", "unit": "MiB", "units": 64, "packets": 2132}
//
//   round-trips    one byte there and back on one connection
//   up, down       bulk data on one connection, MTU 1500, in super-segments
//   connects       connect, a byte there and back, closed by the host
//   udp-up, udp-down    datagrams of 1,400 bytes, 32 at once
//   flows-N        one byte there and back on each of N connections in turn, with an ACK of
//                  its own for each
//
//   sizes          instead: bytes of a Flow and of its parts, {"Flow": 856, ...}
//
// Each begins with a world of its own (counted_world.h) and some of the same work, so that
// pools are filled and windows wide before anything counts. Under
// `valgrind --tool=callgrind --instr-atstart=no --collect-atstart=no` there is a profile for
// each cell, which is named as the cell is. One thread.
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "bench/counted_world.h"
#include "bench/counting.h"
#include "stack/flow/flow.h"

namespace penstock::bench {
namespace {

constexpr uint64_t kMebibyte = 1 << 20;
constexpr size_t kBurst = 32;

// Runs `work(first)` for the warm-up, then counts `work(units)`.
struct Cell {
  const char* unit;
  size_t warm_up;
  size_t units;
  size_t flows;  // open from the beginning
  std::function<void(CountedWorld&, size_t)> work;
};

void RoundTripsInTurn(CountedWorld& world, size_t flows, size_t count) {
  for (size_t i = 0; i < count; ++i) world.RoundTrip(i % flows);
}

std::optional<size_t> FlowCount(std::string_view name) {
  constexpr std::string_view kPrefix = "flows-";
  size_t count = 0;
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + kPrefix.size(), end, count);
  if (error != std::errc() || rest != end || count == 0 || count > 1'000'000) return std::nullopt;
  return count;
}

std::optional<Cell> CellFor(std::string_view name) {
  if (name == "round-trips") {
    return Cell{"round trip", 500, 2'000, 1,
                [](CountedWorld& world, size_t n) { RoundTripsInTurn(world, 1, n); }};
  }
  if (name == "up") {
    return Cell{"MiB", 64, 64, 1,
                [](CountedWorld& world, size_t n) { world.Up(0, n * kMebibyte); }};
  }
  if (name == "down") {
    return Cell{"MiB", 64, 64, 1,
                [](CountedWorld& world, size_t n) { world.Down(0, n * kMebibyte); }};
  }
  if (name == "connects") {
    return Cell{"connection", 100, 500, 0, [](CountedWorld& world, size_t n) {
                  for (size_t i = 0; i < n; ++i) world.ConnectRequestClose();
                }};
  }
  if (name == "udp-up") {
    return Cell{"datagram", 256, 8'192, 0,
                [](CountedWorld& world, size_t n) { world.DatagramsUp(n, kBurst); }};
  }
  if (name == "udp-down") {
    return Cell{"datagram", 256, 8'192, 0, [](CountedWorld& world, size_t n) {
                  world.DatagramsUp(1, 1);
                  world.DatagramsDown(n, kBurst);
                }};
  }
  if (const auto flows = FlowCount(name)) {
    return Cell{"round trip", *flows, std::max<size_t>(*flows, 2'000), *flows,
                [flows](CountedWorld& world, size_t n) { RoundTripsInTurn(world, *flows, n); }};
  }
  return std::nullopt;
}

bool PrintSizes() {
  const std::pair<const char*, size_t> sizes[] = {
      {"Flow", sizeof(Flow)},
      {"FlowPipe", sizeof(FlowPipe)},
      {"Pcb", sizeof(Pcb)},
      {"TcpTuple, there and in Pcb", sizeof(TcpTuple)},
      {"Endpoint client", sizeof(Endpoint)},
  };
  const char* separator = "{";
  for (const auto& [name, bytes] : sizes) {
    std::printf("%s\"%s\": %zu", std::exchange(separator, ", "), name, bytes);
  }
  std::printf("}\n");
  return true;
}

bool Run(const std::string& name) {
  if (name == "sizes") return PrintSizes();
  const std::optional<Cell> cell = CellFor(name);
  if (!cell) return false;
  CountedWorld world(cell->flows);
  if (FlowCount(name)) world.AcknowledgeAtOnce();
  world.Open(cell->flows);
  cell->work(world, cell->warm_up);
  const uint64_t before = world.frames();
  Counting::Begin();
  cell->work(world, cell->units);
  Counting::End(name);
  std::printf("{\"cell\": \"%s\", \"unit\": \"%s\", \"units\": %zu, \"packets\": %llu}\n",
              name.c_str(), cell->unit, cell->units,
              static_cast<unsigned long long>(world.frames() - before));
  std::fflush(stdout);
  return true;
}

}  // namespace
}  // namespace penstock::bench

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "count_bench CELL...: see the head of bench/count_bench.cc\n");
    return 2;
  }
  for (int i = 1; i < argc; ++i) {
    if (penstock::bench::Run(argv[i])) continue;
    std::fprintf(stderr, "count_bench: there is no cell '%s'\n", argv[i]);
    return 2;
  }
  return 0;
}
