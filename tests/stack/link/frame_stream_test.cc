#include "stack/link/frame_stream.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <random>

#include "tests/stack/link/vmm_end.h"

namespace penstock {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

void AppendLength(Bytes& stream, uint32_t length) {
  for (int shift = 24; shift >= 0; shift -= 8) {
    stream.push_back(static_cast<uint8_t>(length >> shift));
  }
}

Bytes Framed(const std::vector<Bytes>& frames) {
  Bytes stream;
  for (const Bytes& frame : frames) {
    AppendLength(stream, static_cast<uint32_t>(frame.size()));
    stream.insert(stream.end(), frame.begin(), frame.end());
  }
  return stream;
}

class FrameStreamTest : public testing::Test {
 protected:
  // Everything that waits in the socket, read in pieces of at most `piece` bytes.
  Bytes ReadAll(size_t piece = 1 << 20) {
    Bytes all;
    for (Bytes some; !(some = vmm_.Read(piece)).empty();) {
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  }

  VmmEnd vmm_{SOCK_STREAM};
};

TEST_F(FrameStreamTest, PutsALengthBeforeEachFrameAndTakesItOff) {
  const std::vector<Bytes> frames{Pattern(1, 60), Pattern(2, 1'514), Pattern(3, 65'549)};
  EXPECT_EQ(vmm_.Send(frames), 3u);
  EXPECT_EQ(ReadAll(), Framed(frames));

  EXPECT_FALSE(vmm_.Ready(POLLIN));
  const Bytes stream = Framed(frames);
  ASSERT_EQ(vmm_.Write(stream), stream.size());
  EXPECT_TRUE(vmm_.Ready(POLLIN));
  EXPECT_EQ(vmm_.Receive(), frames);
  EXPECT_FALSE(vmm_.Ready(POLLIN));
  EXPECT_FALSE(vmm_.link().ended());
  EXPECT_EQ(vmm_.link().frames_lost(), 0u);
}

TEST_F(FrameStreamTest, DeclaresNothingUnlessTold) {
  const LinkCapabilities& quiet = vmm_.link().capabilities();
  EXPECT_TRUE(quiet.ethernet);
  EXPECT_FALSE(quiet.partial_checksum_to_guest || quiet.tcp4_gso_to_guest ||
               quiet.tcp6_gso_to_guest || quiet.udp_gso_to_guest || quiet.unsegmented_tcp_to_host);
  VmmEnd libkrun(SOCK_STREAM, {.unsegmented_tcp_to_host = true, .unsegmented_tcp_to_guest = true});
  const LinkCapabilities& told = libkrun.link().capabilities();
  EXPECT_TRUE(told.tcp4_gso_to_guest && told.tcp6_gso_to_guest && told.unsegmented_tcp_to_host);
  EXPECT_FALSE(told.partial_checksum_to_guest);
}

// Wherever a read ends.
TEST_F(FrameStreamTest, FramesInTwoPiecesAreCutNowhereElse) {
  const std::vector<Bytes> frames{Pattern(1, 1), Pattern(2, 7), Pattern(3, 30)};
  const Bytes stream = Framed(frames);
  for (size_t cut = 0; cut <= stream.size(); ++cut) {
    std::vector<Bytes> received;
    for (const auto piece : {std::span(stream).first(cut), std::span(stream).subspan(cut)}) {
      ASSERT_EQ(vmm_.Write(piece), piece.size());
      for (Bytes& frame : vmm_.Receive()) received.push_back(std::move(frame));
    }
    ASSERT_EQ(received, frames) << cut;
  }
}

TEST_F(FrameStreamTest, ByteByByte) {
  const std::vector<Bytes> frames{Pattern(1, 14), Pattern(2, 300)};
  std::vector<Bytes> received;
  for (const uint8_t byte : Framed(frames)) {
    ASSERT_EQ(vmm_.Write({&byte, 1}), 1u);
    for (Bytes& frame : vmm_.Receive()) received.push_back(std::move(frame));
  }
  EXPECT_EQ(received, frames);
}

// More than a batch and more than the buffer, in whatever pieces.
TEST_F(FrameStreamTest, KeepsOrderAndContentOfFramesOfEverySize) {
  std::mt19937 random(1);
  std::vector<Bytes> frames, received;
  for (uint32_t i = 0; i < 400; ++i) {
    frames.push_back(Pattern(i, i % 9 == 0 ? 1 + random() % kFrameBytesMax : 1 + random() % 2'000));
  }
  frames.push_back(Pattern(1, kFrameBytesMax));
  const Bytes stream = Framed(frames);
  for (size_t sent = 0; received.size() < frames.size();) {
    const size_t piece = std::min<size_t>(random() % 150'000, stream.size() - sent);
    sent += vmm_.Write(std::span(stream).subspan(sent, piece));
    for (Bytes& frame : vmm_.Receive(1 + random() % 64)) received.push_back(std::move(frame));
  }
  EXPECT_EQ(received, frames);
}

// A batch that is full says nothing about what waits in the link's own buffer: whoever asks
// again gets it, though the socket has nothing more.
TEST_F(FrameStreamTest, AFullBatchLeavesTheRest) {
  std::vector<Bytes> frames;
  for (uint32_t i = 0; i < 10; ++i) frames.push_back(Pattern(i, 100));
  const Bytes stream = Framed(frames);
  ASSERT_EQ(vmm_.Write(stream), stream.size());
  EXPECT_THAT(vmm_.Receive(4), SizeIs(4));
  EXPECT_THAT(vmm_.Receive(4), SizeIs(4));
  EXPECT_THAT(vmm_.Receive(4), ElementsAre(frames[8], frames[9]));
}

// ---------------------------------------------------------------- a full socket

// Whatever is taken arrives whole and once, though the socket took a frame in part and
// nobody offers another.
TEST_F(FrameStreamTest, WhatIsTakenArrivesWholeThoughTheSocketIsFull) {
  std::vector<Bytes> sent;
  for (uint32_t i = 0;; ++i) {
    const Bytes frame = Pattern(i, 1 + i * 7'919 % kFrameBytesMax);
    if (vmm_.Send({frame}) == 0) break;
    sent.push_back(frame);
    ASSERT_LT(i, 10'000u);
  }
  EXPECT_FALSE(vmm_.Ready(POLLIN)) << "no room yet";
  Bytes stream;
  for (int turn = 0; stream.size() < Framed(sent).size(); ++turn) {
    ASSERT_LT(turn, 10'000);
    const Bytes some = vmm_.Read(10'000);
    stream.insert(stream.end(), some.begin(), some.end());
    if (vmm_.Ready(POLLIN)) {
      EXPECT_THAT(vmm_.Receive(), IsEmpty());
    }
  }
  EXPECT_EQ(stream, Framed(sent));
  EXPECT_EQ(vmm_.link().frames_lost(), 0u);
  EXPECT_TRUE(vmm_.Ready(POLLIN)) << "it was refused, and there is room";
  EXPECT_EQ(vmm_.Send({sent[0]}), 1u);
  EXPECT_FALSE(vmm_.Ready(POLLIN)) << "nobody waits";
}

// Batches that fill the socket again and again while the other end reads a little.
TEST_F(FrameStreamTest, OffersTheRestOfABatchAgain) {
  std::mt19937 random(2);
  std::vector<Bytes> frames;
  for (uint32_t i = 0; i < 300; ++i) frames.push_back(Pattern(i, 1 + random() % 20'000));
  const Bytes whole = Framed(frames);
  Bytes stream;
  size_t taken = 0;
  int refusals = 0;
  while (stream.size() < whole.size()) {
    if (taken < frames.size()) {
      const size_t end = std::min(frames.size(), taken + 64);
      const size_t now = vmm_.Send({frames.begin() + static_cast<ptrdiff_t>(taken),
                                    frames.begin() + static_cast<ptrdiff_t>(end)});
      refusals += taken + now < end ? 1 : 0;
      taken += now;
    } else {
      (void)vmm_.Receive();
    }
    const Bytes some = vmm_.Read(1 + random() % 100'000);
    stream.insert(stream.end(), some.begin(), some.end());
  }
  EXPECT_EQ(stream, whole);
  EXPECT_GT(refusals, 3);
}

TEST_F(FrameStreamTest, WhatItCannotCarryIsLostAndHoldsNobodyUp) {
  EXPECT_EQ(vmm_.Send({Pattern(1, 100)}, {.checksum = ChecksumState::kPartial}), 1u);
  EXPECT_EQ(vmm_.Send({Pattern(1, 100), {}, Bytes(kFrameBytesMax + 1), Pattern(2, 100)}), 4u);
  EXPECT_EQ(ReadAll(), Framed({Pattern(1, 100), Pattern(2, 100)}));
  EXPECT_EQ(vmm_.link().frames_lost(), 3u);
}

// ---------------------------------------------------------------- ends

TEST_F(FrameStreamTest, EndsWhenTheVmmIsGoneAndItsFramesAreReceived) {
  const Bytes stream = Framed({Pattern(1, 100), Pattern(2, 100)});
  ASSERT_EQ(vmm_.Write(stream), stream.size());
  vmm_.Close();
  EXPECT_EQ(vmm_.Send({Pattern(3, 100), Pattern(4, 100)}), 2u);
  EXPECT_EQ(vmm_.link().frames_lost(), 2u);
  EXPECT_FALSE(vmm_.link().ended());
  EXPECT_TRUE(vmm_.Ready(POLLIN));
  EXPECT_THAT(vmm_.Receive(1), ElementsAre(Pattern(1, 100)));
  EXPECT_THAT(vmm_.Receive(), ElementsAre(Pattern(2, 100)));
  EXPECT_TRUE(vmm_.link().ended());
  EXPECT_EQ(vmm_.Send({Pattern(5, 100)}), 1u);
  EXPECT_EQ(vmm_.link().frames_lost(), 3u);
  EXPECT_EQ(vmm_.link().framing_errors(), 0u);
}

TEST_F(FrameStreamTest, DeathInTheMiddleOfAFrameLosesThatOne) {
  Bytes stream = Framed({Pattern(1, 100), Pattern(2, 100)});
  stream.pop_back();
  ASSERT_EQ(vmm_.Write(stream), stream.size());
  vmm_.Close();
  EXPECT_THAT(vmm_.Receive(), ElementsAre(Pattern(1, 100)));
  EXPECT_TRUE(vmm_.Ready(POLLIN)) << "for the end";
  EXPECT_THAT(vmm_.Receive(), IsEmpty());
  EXPECT_TRUE(vmm_.link().ended());
  EXPECT_EQ(vmm_.link().frames_lost(), 1u);
  EXPECT_EQ(vmm_.link().framing_errors(), 0u);
}

// The other end has unread frames of ours when it goes: an error, no end of stream.
TEST_F(FrameStreamTest, DeathWithUnreadFramesIsAnEndLikeAnyOther) {
  EXPECT_EQ(vmm_.Send({Pattern(1, 100)}), 1u);
  vmm_.Close();
  EXPECT_THAT(vmm_.Receive(), IsEmpty());
  EXPECT_TRUE(vmm_.link().ended());
}

TEST_F(FrameStreamTest, DeathWithAFrameHeldLosesIt) {
  const Bytes frame = Pattern(1, 50'000);
  uint64_t sent = 0;
  while (vmm_.Send({frame}) == 1) ++sent;
  vmm_.Close();
  (void)vmm_.Receive();
  (void)vmm_.Receive();
  EXPECT_TRUE(vmm_.link().ended());
  EXPECT_EQ(vmm_.link().frames_lost(), 1u);
}

class Lie : public testing::TestWithParam<uint32_t> {};

TEST_P(Lie, EndsTheLinkAndIsCounted) {
  VmmEnd vmm(SOCK_STREAM);
  Bytes stream = Framed({Pattern(1, 100)});
  AppendLength(stream, GetParam());
  const Bytes more = Framed({Pattern(2, 100)});
  stream.insert(stream.end(), more.begin(), more.end());
  ASSERT_EQ(vmm.Write(stream), stream.size());
  EXPECT_THAT(vmm.Receive(), ElementsAre(Pattern(1, 100)));
  EXPECT_TRUE(vmm.link().ended());
  EXPECT_EQ(vmm.link().framing_errors(), 1u);
  EXPECT_THAT(vmm.Receive(), IsEmpty());
  EXPECT_EQ(vmm.Send({Pattern(3, 100)}), 1u);
  EXPECT_THAT(vmm.Read(), IsEmpty());
  EXPECT_EQ(vmm.link().framing_errors(), 1u);
}

INSTANTIATE_TEST_SUITE_P(All, Lie,
                         testing::Values(0u, uint32_t{kFrameBytesMax} + 1, 0x01000000u, 0x80000000u,
                                         0xffffffffu));

TEST(FrameStream, IsOnlyForSockets) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  close(ends[1]);
  const auto link = AdoptVmmSocket(ends[0], {});
  EXPECT_EQ(link.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(link.status().message()), testing::HasSubstr("is no socket"));
  EXPECT_NE(close(ends[0]), 0) << "it was owned";
  EXPECT_FALSE(AdoptVmmSocket(-1, {}).ok());
}

}  // namespace
}  // namespace penstock
