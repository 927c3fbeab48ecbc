#include "stack/link/frame_datagrams.h"

#include <gmock/gmock.h>
#include <sys/un.h>

#include <algorithm>
#include <random>
#include <string>

#include "tests/stack/link/vmm_end.h"

namespace penstock {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const Bytes kHello{'V', 'F', 'K', 'T'};

class FrameDatagramsTest : public testing::TestWithParam<int> {
 protected:
  VmmEnd vmm_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(All, FrameDatagramsTest, testing::Values(SOCK_DGRAM, SOCK_SEQPACKET),
                         [](const auto& test) {
                           return test.param == SOCK_DGRAM ? "Datagram" : "Seqpacket";
                         });

TEST_P(FrameDatagramsTest, EachFrameIsADatagram) {
  const std::vector<Bytes> frames{Pattern(1, 60), Pattern(2, 1'514), Pattern(3, 65'549)};
  EXPECT_EQ(vmm_.Send(frames), 3u);
  for (const Bytes& frame : frames) EXPECT_EQ(vmm_.Read(), frame);

  EXPECT_FALSE(vmm_.Ready(POLLIN));
  for (const Bytes& frame : frames) ASSERT_EQ(vmm_.Write(frame), frame.size());
  EXPECT_TRUE(vmm_.Ready(POLLIN));
  EXPECT_EQ(vmm_.Receive(), frames);
  EXPECT_FALSE(vmm_.Ready(POLLIN));
  EXPECT_EQ(vmm_.link().frames_lost(), 0u);
  EXPECT_FALSE(vmm_.link().ended());
}

TEST_P(FrameDatagramsTest, MoreThanABatchStaysInOrder) {
  std::vector<Bytes> frames, received;
  for (uint32_t i = 0; i < 200; ++i) frames.push_back(Pattern(i, 1 + i));
  for (const Bytes& frame : frames) ASSERT_EQ(vmm_.Write(frame), frame.size());
  for (const size_t most : {size_t{1}, size_t{64}, size_t{100}, size_t{64}}) {
    for (Bytes& frame : vmm_.Receive(most)) received.push_back(std::move(frame));
  }
  EXPECT_EQ(received, frames);

  EXPECT_EQ(vmm_.Send(frames), frames.size());
  for (const Bytes& frame : frames) ASSERT_EQ(vmm_.Read(), frame);
}

TEST_P(FrameDatagramsTest, AGreetingIsPassedOverWhereverItComes) {
  for (const Bytes& datagram : {kHello, Pattern(1, 100), kHello, Pattern(2, 100), kHello}) {
    ASSERT_EQ(vmm_.Write(datagram), datagram.size());
  }
  EXPECT_THAT(vmm_.Receive(), ElementsAre(Pattern(1, 100), Pattern(2, 100)));
  EXPECT_EQ(vmm_.link().frames_lost(), 0u);
  EXPECT_EQ(vmm_.Write(Pattern('V', 4)), 4u);
  EXPECT_THAT(vmm_.Receive(), SizeIs(1)) << "of that length, and no greeting";
}

TEST_P(FrameDatagramsTest, WhatIsTooLongIsLostAndNothingElse) {
  for (const Bytes& datagram :
       {Pattern(1, 100), Bytes(kFrameBytesMax + 1), Pattern(2, kFrameBytesMax)}) {
    ASSERT_EQ(vmm_.Write(datagram), datagram.size());
  }
  EXPECT_THAT(vmm_.Receive(), ElementsAre(Pattern(1, 100), Pattern(2, kFrameBytesMax)));
  EXPECT_EQ(vmm_.link().frames_lost(), 1u);
}

TEST_P(FrameDatagramsTest, AFullSocketTakesTheRestLater) {
  std::mt19937 random(3);
  std::vector<Bytes> frames, received;
  for (uint32_t i = 0; i < 200; ++i) frames.push_back(Pattern(i, 1 + random() % 65'000));
  size_t taken = 0;
  int refusals = 0;
  while (received.size() < frames.size()) {
    if (taken < frames.size()) {
      const size_t end = std::min(frames.size(), taken + 64);
      const size_t now = vmm_.Send({frames.begin() + static_cast<ptrdiff_t>(taken),
                                    frames.begin() + static_cast<ptrdiff_t>(end)});
      taken += now;
      if (taken < end) {
        ++refusals;
        EXPECT_FALSE(vmm_.Ready(POLLOUT));
      }
    }
    for (Bytes one; !(one = vmm_.Read()).empty();) received.push_back(std::move(one));
    EXPECT_TRUE(vmm_.Ready(POLLOUT));
  }
  EXPECT_EQ(received, frames);
  EXPECT_GT(refusals, 0);
  EXPECT_EQ(vmm_.link().frames_lost(), 0u);
}

TEST_P(FrameDatagramsTest, WhatItCannotCarryIsLostAndHoldsNobodyUp) {
  EXPECT_EQ(vmm_.Send({Pattern(1, 100)}, {.checksum = ChecksumState::kPartial}), 1u);
  EXPECT_EQ(vmm_.Send({Pattern(1, 100), {}, Bytes(kFrameBytesMax + 1), Pattern(2, 100)}), 4u);
  EXPECT_EQ(vmm_.Read(), Pattern(1, 100));
  EXPECT_EQ(vmm_.Read(), Pattern(2, 100));
  EXPECT_EQ(vmm_.link().frames_lost(), 3u);
}

TEST_P(FrameDatagramsTest, ADeadVmmShowsWhenTheStackSpeaks) {
  ASSERT_EQ(vmm_.Write(Pattern(1, 100)), 100u);
  vmm_.Close();
  EXPECT_THAT(vmm_.Receive(1), ElementsAre(Pattern(1, 100)));
  EXPECT_FALSE(vmm_.link().ended());
  EXPECT_EQ(vmm_.Send({Pattern(2, 100), Pattern(3, 100)}), 2u);
  EXPECT_EQ(vmm_.link().frames_lost(), 2u);
  EXPECT_THAT(vmm_.Receive(), IsEmpty());
  EXPECT_TRUE(vmm_.link().ended());
  EXPECT_EQ(vmm_.link().framing_errors(), 0u);
}

// Datagrams have no end that one could wait for, and an empty one is none.
TEST(FrameDatagrams, AnEmptyDatagramIsNoEnd) {
  VmmEnd vmm(SOCK_DGRAM);
  (void)vmm.Write({});
  ASSERT_EQ(vmm.Write(Pattern(1, 100)), 100u);
  EXPECT_THAT(vmm.Receive(), ElementsAre(Pattern(1, 100)));
  EXPECT_FALSE(vmm.link().ended());
  EXPECT_EQ(vmm.link().frames_lost(), 1u);
}

TEST(FrameDatagrams, TheEndOfSeqpacketsIsSeen) {
  VmmEnd vmm(SOCK_SEQPACKET);
  ASSERT_EQ(vmm.Write(Pattern(1, 100)), 100u);
  vmm.Close();
  EXPECT_TRUE(vmm.Ready(POLLIN));
  EXPECT_EQ(vmm.Send({Pattern(2, 100)}), 1u);
  EXPECT_FALSE(vmm.link().ended()) << "a frame waits";
  EXPECT_THAT(vmm.Receive(), ElementsAre(Pattern(1, 100)));
  EXPECT_TRUE(vmm.link().ended());
}

// QEMU's socket knows whom it sends to and takes from everybody, so the kernel lets only a few
// datagrams wait in it (net.unix.max_dgram_qlen). Room for more is told all the same.
TEST(FrameDatagrams, ASocketThatIsNotConnectedBackHoldsFew) {
  const auto open = [](const char* name) {
    const int made = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    const std::string text = "penstock-" + std::to_string(getpid()) + name;
    text.copy(address.sun_path + 1, sizeof address.sun_path - 2);  // abstract
    EXPECT_EQ(bind(made, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return std::pair(made, address);
  };
  const auto [qemu, at] = open("qemu");
  const int own = open("own").first;
  ASSERT_EQ(connect(own, reinterpret_cast<const sockaddr*>(&at), sizeof at), 0);
  auto link = AdoptVmmSocket(own, {});
  ASSERT_TRUE(link.ok()) << link.status();
  Bytes bytes = Pattern(1, 10);
  const iovec part{bytes.data(), bytes.size()};
  const std::vector<FrameToGuest> frames(100'000, {.parts = {&part, 1}, .length = 10});
  const size_t taken = (*link)->Send(Time{}, frames);
  ASSERT_GT(taken, 0u);
  ASSERT_LT(taken, frames.size());
  pollfd watched{.fd = (*link)->descriptor(), .events = POLLOUT, .revents = 0};
  EXPECT_EQ(poll(&watched, 1, 0), 0);
  EXPECT_EQ(recv(qemu, bytes.data(), bytes.size(), 0), 10);
  EXPECT_EQ(poll(&watched, 1, 20'000), 1);
  EXPECT_EQ((*link)->Send(Time{}, std::span(frames).first(1)), 1u);
  EXPECT_EQ((*link)->frames_lost(), 0u);
  close(qemu);
  EXPECT_EQ((*link)->Send(Time{}, std::span(frames).first(1)), 1u);
  EXPECT_TRUE((*link)->ended());
}

TEST(FrameDatagrams, AreOfAConnectedSocket) {
  const auto link = AdoptVmmSocket(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), {});
  EXPECT_EQ(link.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(link.status().message()), HasSubstr("no connected datagram socket"));
}

}  // namespace
}  // namespace penstock
