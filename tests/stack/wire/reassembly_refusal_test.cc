// Each reason for which fragments are not put together, with the counts that must always
// add up: what contradicts itself or others, limits, time.
#include <gtest/gtest.h>

#include <random>

#include "stack/wire/reassembly.h"
#include "tests/stack/wire/reassembly_fixture.h"

namespace penstock {
namespace {

constexpr Duration kMoment = std::chrono::nanoseconds(1);

class ReassemblyRefusalTest : public ReassemblyFixture {};

INSTANTIATE_TEST_SUITE_P(Families, ReassemblyRefusalTest,
                         testing::Values(Family::kIpv4, Family::kIpv6), FamilyOf);

// ---------------------------------------------------------------- what is refused

TEST_P(ReassemblyRefusalTest, OverlapsDiscardTheSet) {
  struct Case {
    uint32_t begin;
    uint32_t end;
  };
  // Around what is there, [64, 128).
  for (const Case& c : {Case{56, 72}, Case{120, 136}, Case{72, 80}, Case{56, 136}, Case{64, 120},
                        Case{72, 128}, Case{64, 128}}) {
    SCOPED_TRACE(testing::Message() << c.begin << " to " << c.end);
    const uint64_t before = drops(DropCause::kFragmentOverlap);
    EXPECT_FALSE(Feed({.offset = 64, .more = true, .data = Bytes(64, 1)}));
    EXPECT_EQ(held(), 1u);
    EXPECT_FALSE(Feed({.offset = c.begin, .more = true, .data = Bytes(c.end - c.begin, 2)}));
    ExpectRefused(DropCause::kFragmentOverlap, before + 2);
    now_ += Reassembly::kLifetime;
  }
}

TEST_P(ReassemblyRefusalTest, ARefusedSetSwallowsWhatStillComes) {
  EXPECT_FALSE(Feed({.more = true, .data = Bytes(64, 1)}));
  now_ += 4s;
  EXPECT_FALSE(Feed({.more = true, .data = Bytes(64, 2)}));
  EXPECT_EQ(drops(DropCause::kFragmentOverlap), 2u);
  // It would be a whole datagram without the first one.
  EXPECT_FALSE(Feed({.more = true, .data = Bytes(64, 1)}));
  EXPECT_FALSE(Feed({.offset = 64, .data = Bytes(64, 1)}));
  ExpectRefused(DropCause::kFragmentOverlap, 4);
  EXPECT_EQ(reassembly_->NextDeadline(), kStart + Reassembly::kLifetime);
  // From the set's first fragment, not from the overlap: then it is all over.
  now_ = kStart + Reassembly::kLifetime;
  EXPECT_FALSE(Feed({.more = true, .data = Bytes(64, 1)}));
  EXPECT_TRUE(Feed({.offset = 64, .data = Bytes(64, 1)}));
}

TEST_P(ReassemblyRefusalTest, ExactDuplicatesAreDroppedAlone) {
  const auto packets = FragmentPackets(Ip(), UdpDatagram({.payload = Bytes(300, 1)}), 128);
  ASSERT_EQ(packets.size(), 3u);
  for (const size_t i : {0, 0, 2, 2, 0}) EXPECT_FALSE(Feed(packets[i]));
  EXPECT_EQ(drops(DropCause::kFragmentDuplicate), 3u);
  EXPECT_EQ(held(), 2u);
  const auto joined = Feed(packets[1]);
  ASSERT_TRUE(joined);
  EXPECT_EQ(joined->fragments, 3u);
}

// Equal bytes, but it says that it is not the last: one of the two lies.
TEST_P(ReassemblyRefusalTest, ADuplicateThatContradictsIsAnOverlap) {
  EXPECT_FALSE(Feed({.offset = 64, .data = Bytes(64)}));
  EXPECT_FALSE(Feed({.offset = 64, .more = true, .data = Bytes(64)}));
  ExpectRefused(DropCause::kFragmentOverlap, 2);
}

TEST_P(ReassemblyRefusalTest, MalformedFragmentsDiscardTheSet) {
  const std::vector<FragmentSpec> malformed = {
      {.offset = 64, .more = true, .data = Bytes(15)},  // no multiple of 8, and no last one
      {.offset = 64, .more = true, .data = {}},
      {.offset = 64, .data = {}},
  };
  for (const FragmentSpec& fragment : malformed) {
    const uint64_t before = drops(DropCause::kFragmentMalformed);
    EXPECT_FALSE(Feed({.offset = 128, .more = true, .data = Bytes(64)}));
    EXPECT_FALSE(Feed(fragment));
    ExpectRefused(DropCause::kFragmentMalformed, before + 2);
    now_ += Reassembly::kLifetime;
    // Also where it comes first: the order of arrival makes no difference.
    EXPECT_FALSE(Feed(fragment));
    EXPECT_FALSE(Feed({.offset = 128, .more = true, .data = Bytes(64)}));
    ExpectRefused(DropCause::kFragmentMalformed, before + 4);
    now_ += Reassembly::kLifetime;
  }
}

TEST_P(ReassemblyRefusalTest, TheEndIsSaidOnce) {
  const FragmentSpec last{.offset = 128, .data = Bytes(64)};
  const std::vector<FragmentSpec> contradicting = {
      {.offset = 256, .more = true, .data = Bytes(64)},  // behind the end
      {.offset = 256, .data = Bytes(64)},                // another end
      {.offset = 64, .data = Bytes(64)},
  };
  for (const FragmentSpec& other : contradicting) {
    for (const bool last_first : {true, false}) {
      const uint64_t before = drops(DropCause::kFragmentMalformed);
      EXPECT_FALSE(Feed(last_first ? last : other));
      EXPECT_FALSE(Feed(last_first ? other : last));
      ExpectRefused(DropCause::kFragmentMalformed, before + 2);
      now_ += Reassembly::kLifetime;
    }
  }
}

TEST_P(ReassemblyRefusalTest, OversizedDatagramsAreDiscarded) {
  const auto last = [&](size_t length) {
    return FragmentSpec{.offset = 65'528 - 8 * 8, .data = Bytes(length)};
  };
  const size_t fits = payload_bytes_max() - (65'528 - 64);
  EXPECT_FALSE(Feed({.offset = 64, .more = true, .data = Bytes(64)}));
  EXPECT_FALSE(Feed(last(fits + 1)));
  ExpectRefused(DropCause::kFragmentOversized, 2);
  now_ += Reassembly::kLifetime;
  EXPECT_FALSE(Feed(last(fits)));
  EXPECT_EQ(held(), 1u);
  EXPECT_EQ(drops(DropCause::kFragmentOversized), 2u);
}

// The first fragment's header is the datagram's: with it, it may be too long.
TEST_P(ReassemblyRefusalTest, ALongHeaderMakesADatagramOversized) {
  IpSpec first = Ip();
  if (v4()) {
    first.options = Bytes(4, 1);
  } else {
    first.extensions = {{60, {0}}};
  }
  const size_t rest = payload_bytes_max() - 65'512;
  for (const bool first_first : {true, false}) {
    const uint64_t before = drops(DropCause::kFragmentOversized);
    const Bytes head = FragmentPacket(first, {.more = true, .data = Bytes(64)});
    const Bytes tail = FragmentPacket(Ip(), {.offset = 65'512, .data = Bytes(rest)});
    EXPECT_FALSE(Feed(first_first ? head : tail));
    EXPECT_FALSE(Feed(first_first ? tail : head));
    ExpectRefused(DropCause::kFragmentOversized, before + 2);
    now_ += Reassembly::kLifetime;
  }
}

class Ipv6ReassemblyRefusalTest : public ReassemblyFixture {};

INSTANTIATE_TEST_SUITE_P(Families, Ipv6ReassemblyRefusalTest, testing::Values(Family::kIpv6),
                         FamilyOf);

// RFC 7112.
TEST_P(Ipv6ReassemblyRefusalTest, TheFirstFragmentHasAllHeaders) {
  struct Case {
    Bytes data;
    uint8_t protocol;
    DropCause cause;
  };
  const Case cases[] = {
      {Bytes(16), 6, DropCause::kFragmentMalformed},
      {Concat({17, 1}, Bytes(6)), 60, DropCause::kIpv6ExtensionHeader},
      {Concat({6, 0, 1, 4}, Bytes(20)), 60, DropCause::kFragmentMalformed},
      {Concat({17, 0, 0}, Bytes(13)), 43, DropCause::kIpv6RoutingTypeZero},
  };
  for (const Case& c : cases) {
    const uint64_t before = drops(c.cause);
    EXPECT_FALSE(Feed({.offset = 128, .data = Bytes(8), .protocol = c.protocol}));
    EXPECT_FALSE(Feed({.more = true, .data = c.data, .protocol = c.protocol}));
    ExpectRefused(c.cause, before + 2);
    now_ += Reassembly::kLifetime;
  }
}

// ---------------------------------------------------------------- limits

TEST_P(ReassemblyRefusalTest, ASetExpiresTenSecondsAfterItsFirstFragment) {
  EXPECT_EQ(reassembly_->NextDeadline(), kNever);
  EXPECT_FALSE(Feed({.more = true, .data = Bytes(64)}));
  EXPECT_EQ(reassembly_->NextDeadline(), kStart + 10s);
  now_ += 9s;
  EXPECT_FALSE(Feed({.offset = 128, .data = Bytes(64)}));
  EXPECT_FALSE(Feed({.more = true, .data = Bytes(64), .identification = 2}));
  EXPECT_EQ(reassembly_->NextDeadline(), kStart + 10s);
  reassembly_->Expire(kStart + 10s - kMoment);
  EXPECT_EQ(drops(DropCause::kFragmentTimeout), 0u);
  reassembly_->Expire(kStart + 10s);
  EXPECT_EQ(drops(DropCause::kFragmentTimeout), 2u);
  EXPECT_EQ(held(), 1u);
  EXPECT_EQ(reassembly_->NextDeadline(), kStart + 19s);
  reassembly_->Expire(kStart + 19s);
  EXPECT_EQ(drops(DropCause::kFragmentTimeout), 3u);
  EXPECT_EQ(reassembly_->NextDeadline(), kNever);
  EXPECT_EQ(pool_.bytes_out(), 0u);
}

TEST_P(ReassemblyRefusalTest, AFragmentThatComesTooLateBeginsAnew) {
  EXPECT_FALSE(Feed({.more = true, .data = Bytes(64)}));
  now_ += 10s;  // and nobody called Expire
  EXPECT_FALSE(Feed({.offset = 64, .data = Bytes(64)}));
  EXPECT_EQ(drops(DropCause::kFragmentTimeout), 1u);
  EXPECT_EQ(held(), 1u);
  EXPECT_TRUE(Feed({.more = true, .data = Bytes(64)}));
}

TEST_P(ReassemblyRefusalTest, TheOldestSetGoesWhenThereAreTooMany) {
  const auto part = [](uint32_t identification, bool first) {
    return FragmentSpec{.offset = first ? 0u : 64u,
                        .more = first,
                        .data = Bytes(64),
                        .protocol = 200,
                        .identification = identification};
  };
  for (uint32_t i = 0; i < Reassembly::kSetsMax; ++i) EXPECT_FALSE(Feed(part(i, true)));
  EXPECT_EQ(pool_.bytes_out(), Reassembly::kBytesMax);
  EXPECT_EQ(drops(DropCause::kFragmentLimit), 0u);
  EXPECT_FALSE(Feed(part(1'000, true)));
  EXPECT_EQ(drops(DropCause::kFragmentLimit), 1u);
  EXPECT_EQ(reassembly_->set_count(), Reassembly::kSetsMax);
  EXPECT_EQ(pool_.bytes_out(), Reassembly::kBytesMax);
  // It was the first: all the others can still complete.
  for (uint32_t i = 1; i < Reassembly::kSetsMax; ++i) EXPECT_TRUE(Feed(part(i, false)));
  EXPECT_TRUE(Feed(part(1'000, false)));
  EXPECT_FALSE(Feed(part(0, false)));
}

TEST_P(ReassemblyRefusalTest, ADatagramHasAtMostSoManyFragments) {
  const auto piece = [](size_t i, size_t count) {
    return FragmentSpec{.offset = static_cast<uint32_t>(i * 8),
                        .more = i + 1 < count,
                        .data = Bytes(8),
                        .protocol = 200};
  };
  constexpr size_t kMax = Reassembly::kFragmentsPerSetMax;
  for (size_t i = 0; i + 1 < kMax; ++i) EXPECT_FALSE(Feed(piece(i, kMax)));
  EXPECT_TRUE(Feed(piece(kMax - 1, kMax)));
  for (size_t i = 0; i < kMax; ++i) EXPECT_FALSE(Feed(piece(i, kMax + 1)));
  EXPECT_EQ(held(), kMax);
  EXPECT_FALSE(Feed(piece(kMax, kMax + 1)));
  ExpectRefused(DropCause::kFragmentLimit, kMax + 1);
}

TEST_P(ReassemblyRefusalTest, WithoutABufferAFragmentIsDropped) {
  std::vector<GuestBuffer*> all;
  while (GuestBuffer* buffer = pool_.Take(kFrameBytesMax)) all.push_back(buffer);
  EXPECT_FALSE(Feed({.more = true, .data = Bytes(64)}));
  EXPECT_EQ(drops(DropCause::kNoBuffer), 1u);
  EXPECT_EQ(reassembly_->set_count(), 0u);
  for (GuestBuffer* buffer : all) pool_.Give(buffer);
}

TEST_P(ReassemblyRefusalTest, WhatWaitsWhenTheStackGoesIsCounted) {
  EXPECT_FALSE(Feed({.more = true, .data = Bytes(64)}));
  EXPECT_FALSE(Feed({.offset = 128, .data = Bytes(64)}));
  reassembly_.reset();
  EXPECT_EQ(drops(DropCause::kShutdown), 2u);
}

// ---------------------------------------------------------------- anything

// Fragments of a few datagrams, cut, shuffled, spoiled, repeated and late: the counts add
// up after each, and what completes says what its length is.
TEST_P(ReassemblyRefusalTest, AnyFragmentsKeepTheBalance) {
  std::mt19937 random(20'240'607);
  int completed = 0;
  for (int i = 0; i < 50'000; ++i) {
    const uint32_t unit = random() % 40 == 0 ? 8 : 64;
    const auto place = static_cast<uint32_t>(random() % 4);
    FragmentSpec fragment{.offset = unit * place,
                          .more = (place < 3) != (random() % 100 == 0),
                          .data = Bytes(unit * (random() % 8 == 0 ? 2 : 1)),
                          .protocol = 200,
                          .identification = static_cast<uint32_t>(random() % 80)};
    if (random() % 100 == 0) fragment.data[0] = 1;
    if (random() % 100 == 0) fragment.offset = 65'528 - static_cast<uint32_t>(random() % 20) * 8;
    if (random() % 100 == 0) fragment.data.resize(random() % 20);
    if (!fragment.more && fragment.offset == 0) continue;  // is none
    now_ += std::chrono::milliseconds(random() % 100);
    const auto joined = Feed(fragment);
    if (!joined) continue;
    ++completed;
    const size_t length = joined->bytes.size();
    ASSERT_EQ(Get16(joined->bytes, v4() ? 2 : 4), v4() ? length : length - 40);
    ASSERT_LE(joined->fragments, Reassembly::kFragmentsPerSetMax);
  }
  EXPECT_GT(completed, 500);
  for (const DropCause cause :
       {DropCause::kFragmentMalformed, DropCause::kFragmentOverlap, DropCause::kFragmentOversized,
        DropCause::kFragmentDuplicate, DropCause::kFragmentLimit, DropCause::kFragmentTimeout}) {
    EXPECT_GT(drops(cause), 0u) << Name(cause);
  }
}

}  // namespace
}  // namespace penstock
