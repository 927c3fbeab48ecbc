// Lists of pipes and the lists in them: order, marks that come once, late and from the
// other side while they are served.
#include "relay/datagram_pipe.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace penstock {
namespace {

std::vector<uint32_t> LengthsInOrder(ReturnList<Datagram>& list) {
  std::vector<uint32_t> lengths;
  for (Datagram* d = list.TakeInOrder(); d != nullptr; d = d->next) lengths.push_back(d->length);
  return lengths;
}

TEST(ReturnListTest, InOrder) {
  ReturnList<Datagram> list;
  std::vector<Datagram> datagrams(6);
  for (uint32_t i = 0; i < 6; ++i) datagrams[i].length = i;
  EXPECT_EQ(list.TakeInOrder(), nullptr);
  list.Push(&datagrams[0]);
  datagrams[3].next = &datagrams[2];
  datagrams[2].next = &datagrams[1];
  list.PushChain(&datagrams[3], &datagrams[1]);
  list.Push(&datagrams[4]);
  EXPECT_EQ(LengthsInOrder(list), (std::vector<uint32_t>{0, 1, 2, 3, 4}));
  list.Push(&datagrams[5]);
  EXPECT_EQ(LengthsInOrder(list), (std::vector<uint32_t>{5}));
  EXPECT_TRUE(list.empty());
}

TEST(ReadyPipesTest, APipeStandsThereOnce) {
  ReadyPipes ready;
  const auto pipe = std::make_shared<DatagramPipe>();
  const auto other = std::make_shared<DatagramPipe>();
  ready.Mark(pipe->for_stack, *pipe);
  ready.Mark(other->for_stack, *other);
  ready.Mark(pipe->for_stack, *pipe);
  int served = 0, served_again = 0;
  ready.Serve([&](DatagramPipe& each) {
    ++served;
    if (&each == pipe.get()) ready.Mark(pipe->for_stack, *pipe);  // something new came
  });
  EXPECT_EQ(served, 2);
  EXPECT_FALSE(ready.empty());
  ready.Serve([&](DatagramPipe& each) { served_again += &each == pipe.get() ? 1 : 100; });
  EXPECT_EQ(served_again, 1);
  EXPECT_TRUE(ready.empty());
}

TEST(ReadyPipesTest, BothSidesHaveTheirOwnList) {
  ReadyPipes for_stack, for_relay;
  const auto pipe = std::make_shared<DatagramPipe>();
  for_stack.Mark(pipe->for_stack, *pipe);
  for_relay.Mark(pipe->for_relay, *pipe);
  int served = 0;
  for_stack.Serve([&](DatagramPipe&) { ++served; });
  for_relay.Serve([&](DatagramPipe&) { ++served; });
  EXPECT_EQ(served, 2);
}

TEST(ReadyPipesTest, APipeOnTheListLivesOnAndNoLonger) {
  std::weak_ptr<DatagramPipe> watched;
  {
    ReadyPipes ready;
    auto pipe = std::make_shared<DatagramPipe>();
    watched = pipe;
    ready.Mark(pipe->for_relay, *pipe);
    pipe.reset();
    EXPECT_FALSE(watched.expired());
    ready.Serve([](DatagramPipe& each) { EXPECT_EQ(each.relay_task, nullptr); });
    EXPECT_TRUE(watched.expired());

    pipe = std::make_shared<DatagramPipe>();
    watched = pipe;
    ready.Mark(pipe->for_relay, *pipe);
  }
  EXPECT_TRUE(watched.expired()) << "with the list";
}

// What is put into a pipe before it is marked is found by whoever serves the mark.
TEST(ReadyPipesTest, NothingIsMissedBetweenTwoThreads) {
  constexpr uint32_t kCount = 20'000;
  ReadyPipes ready;
  const auto pipe = std::make_shared<DatagramPipe>();
  std::vector<Datagram> datagrams(kCount);
  std::thread producer([&] {
    for (uint32_t i = 0; i < kCount; ++i) {
      datagrams[i].length = i;
      pipe->to_guest.Push(&datagrams[i]);
      ready.Mark(pipe->for_stack, *pipe);
    }
  });
  uint32_t next = 0;
  const auto take = [&](DatagramPipe& each) {
    for (const uint32_t length : LengthsInOrder(each.to_guest)) {
      ASSERT_EQ(length, next);
      ++next;
    }
  };
  while (next < kCount) ready.Serve(take);
  producer.join();
  EXPECT_EQ(next, kCount);
}

}  // namespace
}  // namespace penstock
