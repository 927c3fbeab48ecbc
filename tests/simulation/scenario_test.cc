// Scenarios as text, the shrinker, and the parts of the world that judge: a stream that
// shows what is missing, a link that cuts and joins frames, traces that are the same.
#include "tests/world/scenario.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/support/guest_segment.h"
#include "tests/world/random.h"
#include "tests/world/runs.h"
#include "tests/world/world_link.h"

namespace penstock::world {
namespace {

using testing::HasSubstr;

TEST(Scenario, TextComesBackAsItWas) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    const Scenario scenario = DrawScenario(seed);
    const auto read = ParseScenario(ToText(scenario));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, scenario);
  }
}

TEST(Scenario, ErrorsNameLineAndWord) {
  const auto error = [](const char* text) {
    return std::string(ParseScenario(text).status().message());
  };
  EXPECT_EQ(error("seed 1\nworld mtu=x\n"), "line 2: mtu takes 0 to 65520, not 'x'");
  EXPECT_EQ(error("flow speed=1"), "line 1: there is no field 'speed'");
  EXPECT_EQ(error("\n\nhost a=1"), "line 3: a line begins with seed, world or flow, not 'host'");
  EXPECT_EQ(error("seed many"), "line 1: 'seed' takes one whole number");
  EXPECT_EQ(error("world drop=1001"), "line 1: drop takes 0 to 1000, not '1001'");
}

TEST(Scenario, ShrinksToWhatMatters) {
  Scenario scenario = DrawScenario(5);
  scenario.flows.resize(3);
  scenario.flows[1].host_bytes = 5000;
  scenario.drop = 77;
  const auto fails = [](const Scenario& s) {
    bool large = false;
    for (const FlowScript& flow : s.flows) large |= flow.host_bytes > 1000;
    return large && s.drop >= 10;
  };
  const Scenario small = Shrink(scenario, 10'000, fails, {});
  ASSERT_EQ(small.flows.size(), 1U);
  EXPECT_EQ(small.flows[0].host_bytes, 1001);
  EXPECT_EQ(small.drop, 10);
  Scenario expected;
  expected.seed = 5;
  expected.drop = 10;
  expected.flows.emplace_back().host_bytes = 1001;
  EXPECT_EQ(small, expected);
}

TEST(StreamTest, EveryByteHasItsPlace) {
  const Stream stream(7);
  std::vector<uint8_t> bytes(1000);
  stream.Fill(3, bytes);
  for (size_t i = 0; i < bytes.size(); ++i) ASSERT_EQ(bytes[i], stream.At(3 + i));
  EXPECT_EQ(stream.FirstWrong(3, bytes), bytes.size());
  EXPECT_LT(stream.FirstWrong(4, bytes), 16U);
  bytes[500] ^= 1;
  EXPECT_EQ(stream.FirstWrong(3, bytes), 500U);
}

const MacPair kMacs{.source = {2, 0, 0, 0, 0, 1}, .destination = {2, 0, 0, 0, 0, 2}};

GuestSegment DataSegment(Family family, uint32_t sequence, size_t bytes) {
  const bool v4 = family == Family::kIpv4;
  GuestSegment segment;
  segment.source = {v4 ? IpAddress::V4(10, 0, 2, 15) : *IpAddress::Parse("fd00::15"), 40'000};
  segment.destination = {v4 ? IpAddress::V4(192, 0, 2, 1) : *IpAddress::Parse("2001:db8::1"), 80};
  segment.flags = kTcpAck;
  segment.sequence = sequence;
  for (size_t i = 0; i < bytes; ++i) segment.payload += static_cast<char>(sequence + i);
  return segment;
}

TEST(WorldLinkTest, JoinsAndCutsTheSameSegments) {
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    const auto wire = [&](uint32_t sequence, size_t bytes) {
      return EncodeFrame(kMacs, DataSegment(family, sequence, bytes)).bytes;
    };
    WireFrame frame{.bytes = wire(1000, 500), .offload = {}};
    EXPECT_TRUE(Join(frame, wire(1500, 500)));
    EXPECT_TRUE(Join(frame, wire(2000, 20)));
    EXPECT_FALSE(Join(frame, wire(2020, 500))) << "behind a short one";
    EXPECT_FALSE(Join(frame, wire(9000, 500))) << "behind a hole";
    const auto pieces = ToWire(frame);
    ASSERT_EQ(pieces.size(), 3U);
    EXPECT_EQ(pieces[0], wire(1000, 500));
    EXPECT_EQ(pieces[1], wire(1500, 500));
    EXPECT_EQ(pieces[2], wire(2000, 20));
  }
}

std::string FileText(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(Runs, TraceIsTheSameEachTimeAndTellsTheStory) {
  const auto scenario = ParseScenario("seed 3\nworld drop=20\nflow guest_bytes=20000 host_bytes=9");
  ASSERT_TRUE(scenario.ok());
  const std::string base = testing::TempDir() + "penstock_trace";
  ASSERT_EQ(RunScenario(*scenario, {.trace = base + "1", .capture = base + ".pcapng"}).violation,
            "");
  ASSERT_EQ(RunScenario(*scenario, {.trace = base + "2", .capture = {}}).violation, "");
  const std::string trace = FileText(base + "1");
  EXPECT_EQ(trace, FileText(base + "2"));
  EXPECT_THAT(trace, HasSubstr("to host  10.0.2.15:"));
  EXPECT_THAT(trace, HasSubstr("flow 0's host: end after 20000 bytes"));
  EXPECT_GT(std::filesystem::file_size(base + ".pcapng"), 20'000U);
  for (const char* end : {"1", "2", ".pcapng"}) std::filesystem::remove(base + end);
}

}  // namespace
}  // namespace penstock::world
