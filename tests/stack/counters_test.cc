#include "stack/counters.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <thread>

namespace penstock {
namespace {

TEST(CountersTest, EveryDropCauseHasANameOfItsOwn) {
  std::set<std::string> names;
  for (size_t i = 0; i < kDropCauseCount; ++i) {
    const std::string name(Name(static_cast<DropCause>(i)));
    ASSERT_FALSE(name.empty());
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_"), std::string::npos)
        << name;
    EXPECT_TRUE(names.insert(name).second) << name;
  }
  EXPECT_EQ(Name(DropCause::kFrameTooShort), "frame_too_short");
  EXPECT_EQ(Name(DropCause::kTcpOption), "tcp_option");
  EXPECT_EQ(Name(static_cast<DropCause>(kDropCauseCount - 1)), "shutdown");
}

TEST(CountersTest, DropsAreCountedByCause) {
  Counters counters;
  counters.Drop(DropCause::kTcpChecksum);
  counters.Drop(DropCause::kTcpChecksum);
  counters.Drop(DropCause::kShutdown);
  const CounterSnapshot snapshot = counters.Snapshot();
  EXPECT_EQ(snapshot.drops_of(DropCause::kTcpChecksum), 2u);
  EXPECT_EQ(snapshot.drops_of(DropCause::kShutdown), 1u);
  EXPECT_EQ(snapshot.drops_of(DropCause::kFrameTooShort), 0u);
  EXPECT_EQ(snapshot.drops_total(), 3u);
}

TEST(CountersTest, ASnapshotHoldsEveryCounter) {
  Counters counters;
  uint64_t value = 0;
#define PENSTOCK_X(field, help) counters.field.Add(++value);
  PENSTOCK_COUNTERS(PENSTOCK_X)
#undef PENSTOCK_X
  counters.flows_dialing.Set(101);
  counters.flows_handshake.Set(102);
  counters.flows_open.Set(103);
  counters.flows_closing.Set(104);
  counters.buffer_bytes_to_host.Set(105);
  counters.buffer_bytes_to_guest.Set(106);
  counters.flow_count_max.Set(107);
  counters.udp_peers.Set(108);
  counters.fragments_held.Set(109);
  const CounterSnapshot snapshot = counters.Snapshot();
  value = 0;
#define PENSTOCK_X(field, help) EXPECT_EQ(snapshot.field, ++value) << #field;
  PENSTOCK_COUNTERS(PENSTOCK_X)
#undef PENSTOCK_X
  EXPECT_EQ(snapshot.flows_dialing, 101u);
  EXPECT_EQ(snapshot.flows_handshake, 102u);
  EXPECT_EQ(snapshot.flows_open, 103u);
  EXPECT_EQ(snapshot.flows_closing, 104u);
  EXPECT_EQ(snapshot.buffer_bytes_to_host, 105u);
  EXPECT_EQ(snapshot.buffer_bytes_to_guest, 106u);
  EXPECT_EQ(snapshot.flow_count_max, 107u);
  EXPECT_EQ(snapshot.udp_peers, 108u);
  EXPECT_EQ(snapshot.fragments_held, 109u);
}

TEST(CountersTest, AnotherThreadReadsWhileOneWrites) {
  constexpr uint64_t kCount = 100'000;
  Counters counters;
  std::thread writer([&] {
    for (uint64_t i = 0; i < kCount; ++i) {
      counters.frames_to_host.Add(1);
      counters.Drop(DropCause::kNoFlow);
    }
  });
  uint64_t last = 0;
  while (last < kCount) {
    const CounterSnapshot snapshot = counters.Snapshot();
    ASSERT_GE(snapshot.frames_to_host, last);
    last = snapshot.frames_to_host;
  }
  writer.join();
  EXPECT_EQ(counters.Snapshot().drops_of(DropCause::kNoFlow), kCount);
}

}  // namespace
}  // namespace penstock
