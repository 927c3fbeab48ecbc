#include "stack/flow/flow_table.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <vector>

namespace penstock {
namespace {

TcpTuple TupleOf(uint16_t guest_port, uint16_t destination_port = 80) {
  return {.guest = {IpAddress::V4(10, 0, 2, 15), guest_port},
          .destination = {IpAddress::V4(192, 0, 2, 1), destination_port}};
}

Time AtSecond(int64_t seconds) { return Time{} + std::chrono::seconds(seconds); }

TEST(FlowTableTest, FindsWhatWasAdded) {
  FlowTable table(10, 1);
  EXPECT_EQ(table.Find(TupleOf(1)), nullptr);
  Flow* flow = table.Add(TupleOf(1));
  ASSERT_NE(flow, nullptr);
  EXPECT_EQ(flow->state, FlowState::kFree);
  EXPECT_EQ(flow->pipe.stack_flow, flow);
  EXPECT_EQ(table.Find(TupleOf(1)), flow);
  EXPECT_EQ(table.in_use(), 1u);
}

TEST(FlowTableTest, EveryPartOfTheTupleCounts) {
  FlowTable table(10, 1);
  const TcpTuple tuple = TupleOf(1, 2);
  ASSERT_NE(table.Add(tuple), nullptr);
  TcpTuple other = tuple;
  other.guest.address.bytes[3] ^= 1;
  EXPECT_EQ(table.Find(other), nullptr);
  other = tuple;
  other.destination.address.bytes[0] ^= 1;
  EXPECT_EQ(table.Find(other), nullptr);
  EXPECT_EQ(table.Find(TupleOf(2, 2)), nullptr);
  EXPECT_EQ(table.Find(TupleOf(1, 1)), nullptr);
  EXPECT_EQ(table.Find(TupleOf(2, 1)), nullptr) << "ports exchanged";
  other = tuple;
  other.guest.address.family = other.destination.address.family = Family::kIpv6;
  EXPECT_EQ(table.Find(other), nullptr) << "the same bytes in the other family";
}

TEST(FlowTableTest, RefusesBeyondItsLimit) {
  // Also where a slab has more slots than that.
  for (uint32_t limit : {1u, 2u, 64u, 65u, 200u}) {
    FlowTable table(limit, 1);
    std::vector<Flow*> flows;
    for (uint16_t port = 1; port <= limit; ++port) {
      flows.push_back(table.Add(TupleOf(port)));
      ASSERT_NE(flows.back(), nullptr) << limit;
    }
    EXPECT_EQ(table.Add(TupleOf(60'000)), nullptr);
    EXPECT_EQ(table.in_use(), limit);
    table.Release(*flows[0]);
    EXPECT_NE(table.Add(TupleOf(60'000)), nullptr);
  }
}

// A flow that is closing gives its tuple free before its slot.
TEST(FlowTableTest, UnlistFreesTheTupleAndReleaseTheSlot) {
  FlowTable table(2, 1);
  Flow* closing = table.Add(TupleOf(1));
  table.Unlist(*closing);
  EXPECT_EQ(table.Find(TupleOf(1)), nullptr);
  EXPECT_EQ(table.in_use(), 1u);
  Flow* next = table.Add(TupleOf(1));
  ASSERT_NE(next, nullptr);
  EXPECT_NE(next, closing);
  table.Unlist(*closing);
  table.Release(*closing);
  EXPECT_EQ(table.Find(TupleOf(1)), next) << "the newer flow's tuple stays";
  EXPECT_EQ(table.in_use(), 1u);
  table.Release(*next);
  EXPECT_EQ(table.Find(TupleOf(1)), nullptr);
  EXPECT_EQ(table.in_use(), 0u);
}

// Late marks may point to a slot for as long as the table lives, and the rings of the
// relays are sized for as many flows as there may be.
TEST(FlowTableTest, UsesNoMoreSlotsThanFlowsAtOnce) {
  FlowTable table(3, 1);
  std::set<Flow*> slots;
  for (uint16_t round = 0; round < 100; ++round) {
    Flow* first = table.Add(TupleOf(round));
    Flow* second = table.Add(TupleOf(static_cast<uint16_t>(round + 1'000)));
    slots.insert({first, second});
    table.Release(round % 2 == 0 ? *first : *second);
    table.Release(round % 2 == 0 ? *second : *first);
  }
  EXPECT_EQ(slots.size(), 2u);
}

TEST(FlowTableTest, DealsSlotsToRelaysForGood) {
  FlowTable table(200, 3);
  std::map<Flow*, uint8_t> relay_of;
  std::map<uint8_t, int> count;
  for (uint16_t port = 0; port < 99; ++port) {
    Flow* flow = table.Add(TupleOf(port));
    ASSERT_LT(flow->relay_index, 3);
    relay_of[flow] = flow->relay_index;
    ++count[flow->relay_index];
  }
  for (const auto& [relay, flows] : count) EXPECT_NEAR(flows, 33, 1) << int{relay};
  for (const auto& [flow, relay] : relay_of) table.Release(*flow);
  for (uint16_t port = 0; port < 99; ++port) {
    Flow* flow = table.Add(TupleOf(port));
    EXPECT_EQ(flow->relay_index, relay_of.at(flow));
  }
}

TEST(FlowTableTest, VisitsThoseInUse) {
  FlowTable table(100, 1);
  std::set<const Flow*> expected, seen;
  for (uint16_t port = 0; port < 70; ++port) {
    Flow* flow = table.Add(TupleOf(port));
    if (port % 2 == 0) continue;
    flow->state = FlowState::kDialing;
    expected.insert(flow);
  }
  table.ForEach([&](const Flow& flow) { EXPECT_TRUE(seen.insert(&flow).second); });
  EXPECT_EQ(seen, expected);
}

TEST(TimeWaitTableTest, RemembersForAWhile) {
  TimeWaitTable table(10, std::chrono::seconds(60));
  EXPECT_EQ(table.Find(TupleOf(1), AtSecond(0)), nullptr);
  table.Add(TupleOf(1), {.send_next = 7, .receive_next = 9}, AtSecond(0));
  const TimeWaitState* state = table.Find(TupleOf(1), AtSecond(59));
  ASSERT_NE(state, nullptr);
  EXPECT_EQ(state->send_next, 7u);
  EXPECT_EQ(state->receive_next, 9u);
  EXPECT_EQ(table.Find(TupleOf(2), AtSecond(59)), nullptr);
  EXPECT_EQ(table.Find(TupleOf(1), AtSecond(60)), nullptr);
}

TEST(TimeWaitTableTest, ForgetsWhenTold) {
  TimeWaitTable table(10, std::chrono::seconds(60));
  table.Add(TupleOf(1), {}, AtSecond(0));
  table.Remove(TupleOf(1));
  EXPECT_EQ(table.Find(TupleOf(1), AtSecond(1)), nullptr);
  table.Remove(TupleOf(2));
}

TEST(TimeWaitTableTest, TheOldestGoesFirst) {
  TimeWaitTable table(3, std::chrono::seconds(60));
  for (uint16_t i = 0; i < 5; ++i) table.Add(TupleOf(i), {.send_next = i}, AtSecond(i));
  EXPECT_EQ(table.Find(TupleOf(0), AtSecond(5)), nullptr);
  EXPECT_EQ(table.Find(TupleOf(1), AtSecond(5)), nullptr);
  for (uint16_t i = 2; i < 5; ++i) {
    const TimeWaitState* state = table.Find(TupleOf(i), AtSecond(5));
    ASSERT_NE(state, nullptr) << i;
    EXPECT_EQ(state->send_next, i);
  }
}

// A tuple that was used again rests anew, whatever becomes of its first rest.
TEST(TimeWaitTableTest, ARepeatedTupleRestsAnew) {
  TimeWaitTable table(10, std::chrono::seconds(60));
  table.Add(TupleOf(1), {.send_next = 1}, AtSecond(0));
  table.Remove(TupleOf(1));
  table.Add(TupleOf(1), {.send_next = 2}, AtSecond(30));
  // The first rest is over and forgotten with this one.
  table.Add(TupleOf(2), {}, AtSecond(70));
  const TimeWaitState* state = table.Find(TupleOf(1), AtSecond(80));
  ASSERT_NE(state, nullptr);
  EXPECT_EQ(state->send_next, 2u);
  EXPECT_EQ(table.Find(TupleOf(1), AtSecond(90)), nullptr);
}

TEST(TimeWaitTableTest, RestsForEverIfConfigured) {
  TimeWaitTable table(10, Duration::max());
  table.Add(TupleOf(1), {}, AtSecond(100));
  EXPECT_NE(table.Find(TupleOf(1), AtSecond(1'000'000'000)), nullptr);
}

}  // namespace
}  // namespace penstock
