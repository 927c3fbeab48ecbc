// A captured link carries what the inner one does, and its file tells it.
#include "stack/link/capture.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include "stack/link/impair.h"
#include "tests/stack/link/capture_blocks.h"
#include "tests/support/memory_link.h"

namespace penstock {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using Bytes = std::vector<uint8_t>;

constexpr uint32_t kPacket = 6, kStatistics = 5;

class CaptureTest : public testing::Test {
 protected:
  CaptureTest() {
    std::string folder = (std::filesystem::temp_directory_path() / "capture.XXXXXX").string();
    EXPECT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    for (size_t i = 0; i < frames_.size(); ++i) frames_[i].room = rooms_[i];
  }
  ~CaptureTest() override { std::filesystem::remove_all(folder_); }

  // Around a MemoryLink, which becomes memory_.
  std::unique_ptr<CapturedLink> Make(LinkCapabilities capabilities = {}) {
    auto memory = std::make_unique<MemoryLink>(capabilities);
    memory_ = memory.get();
    auto link =
        Capture(std::move(memory), path(),
                {.on_error = [this](const absl::Status& error) { errors_.push_back(error); },
                 .utc_clock = [this] { return utc_; }});
    EXPECT_TRUE(link.ok()) << link.status();
    return link.ok() ? *std::move(link) : nullptr;
  }
  static size_t Send(Link& link, Time now, const std::vector<Bytes>& frames) {
    std::vector<iovec> parts;
    for (const Bytes& bytes : frames) {
      parts.push_back({const_cast<uint8_t*>(bytes.data()), bytes.size()});
    }
    std::vector<FrameToGuest> offered;
    for (const iovec& part : parts) {
      offered.push_back({.parts = {&part, 1}, .length = static_cast<uint32_t>(part.iov_len)});
    }
    return link.Send(now, offered);
  }
  [[nodiscard]] std::string path() const { return folder_ / "capture.pcapng"; }
  [[nodiscard]] std::vector<Block> FileBlocks() const {
    std::ifstream file(path(), std::ios::binary);
    return Blocks({std::istreambuf_iterator<char>(file), {}});
  }
  static std::string FrameOf(const Block& block) {
    return block.body.substr(20, Get32(block.body, 12));
  }
  static bool IsToHost(const Block& block) {
    const size_t options = 20 + (Get32(block.body, 12) + 3) / 4 * 4;
    return Options(block.body, options).at(2)[0] == 1;
  }
  static uint64_t TimeOf(const Block& block) {
    return uint64_t{Get32(block.body, 4)} << 32 | Get32(block.body, 8);
  }

  std::filesystem::path folder_;
  MemoryLink* memory_ = nullptr;
  std::vector<absl::Status> errors_;
  nanoseconds utc_{1'700'000'000'000'000'000};
  const Time start_ = Time{} + std::chrono::hours(5);
  std::array<Bytes, 4> rooms_{Bytes(kFrameBytesMax), Bytes(kFrameBytesMax), Bytes(kFrameBytesMax),
                              Bytes(kFrameBytesMax)};
  std::array<FrameToHost, 4> frames_;
};

TEST_F(CaptureTest, BothDirectionsAreForwardedAndWritten) {
  auto link = Make();
  memory_->PushToHost(Bytes{1, 2, 3});
  ASSERT_EQ(link->Receive(start_, frames_), 1u);
  EXPECT_EQ(frames_[0].length, 3u);
  EXPECT_EQ(Send(*link, start_ + milliseconds(2), {{4, 5}, {6}}), 2u);
  EXPECT_EQ(memory_->waiting_to_guest(), 2u);
  link.reset();

  const std::vector<Block> blocks = FileBlocks();
  ASSERT_EQ(blocks.size(), 6u);
  EXPECT_EQ(Get16(blocks[1].body, 0), 1u);  // Ethernet
  const std::string expected[] = {"\1\2\3", "\4\5", "\6"};
  for (size_t i = 0; i < 3; ++i) {
    const Block& block = blocks[2 + i];
    EXPECT_EQ(block.type, kPacket);
    EXPECT_EQ(FrameOf(block), expected[i]);
    EXPECT_EQ(IsToHost(block), i == 0);
    EXPECT_EQ(TimeOf(block), 1'700'000'000'000'000'000u + (i == 0 ? 0 : 2'000'000));
  }
  EXPECT_EQ(blocks[5].type, kStatistics);
  EXPECT_EQ(Options(blocks[5].body, 12).at(4)[0], 3);
}

TEST_F(CaptureTest, ALinkWithoutEthernetIsRaw) {
  Make({.ethernet = false}).reset();
  EXPECT_EQ(Get16(FileBlocks()[1].body, 0), 101u);
}

TEST_F(CaptureTest, OnlyWhatTheLinkTookIsWritten) {
  auto link = Make();
  memory_->SetRoom(1);
  EXPECT_EQ(Send(*link, start_, {{1}, {2}, {3}}), 1u);
  EXPECT_EQ(Send(*link, start_, {{2}, {3}}), 0u);
  link.reset();
  const std::vector<Block> blocks = FileBlocks();
  ASSERT_EQ(blocks.size(), 4u);
  EXPECT_EQ(FrameOf(blocks[2]), "\1");
}

// No frame waits longer than the interval, even if it was the last one; a quiet link
// asks for nothing.
TEST_F(CaptureTest, FramesReachTheFileSoonAndAQuietLinkSleeps) {
  auto link = Make();
  EXPECT_EQ(link->deadline(), kNever);
  EXPECT_EQ(Send(*link, start_, {{1}}), 1u);
  EXPECT_EQ(Send(*link, start_ + milliseconds(60), {{2}}), 1u);
  EXPECT_EQ(FileBlocks().size(), 2u);
  EXPECT_EQ(link->deadline(), start_ + CapturedLink::kFlushInterval);
  EXPECT_EQ(link->Receive(link->deadline(), frames_), 0u);
  EXPECT_EQ(FileBlocks().size(), 4u);
  EXPECT_EQ(link->deadline(), kNever);
}

TEST_F(CaptureTest, FollowsTheSystemsClockWhenItIsSet) {
  auto link = Make();
  EXPECT_EQ(Send(*link, start_, {{1}}), 1u);
  utc_ += std::chrono::hours(1);
  EXPECT_EQ(Send(*link, start_ + std::chrono::seconds(1), {{2}}), 1u);
  link.reset();
  const std::vector<Block> blocks = FileBlocks();
  ASSERT_EQ(blocks.size(), 5u);
  EXPECT_EQ(TimeOf(blocks[3]) - TimeOf(blocks[2]), 3'600'000'000'000u);
}

TEST_F(CaptureTest, AFullDiskEndsTheCaptureOnceAndNotTheLink) {
  auto memory = std::make_unique<MemoryLink>();
  memory_ = memory.get();
  auto file = PcapngWriter::Create(path(), PcapngWriter::LinkType::kEthernet);
  ASSERT_TRUE(file.ok());
  CapturedLink link(std::move(memory), *std::move(file),
                    {.on_error = [this](const absl::Status& error) { errors_.push_back(error); }});
  const auto ignored = signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit limit = before;
  limit.rlim_cur = 1'000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(Send(link, start_ + i * std::chrono::seconds(1), {Bytes(2'000)}), 1u);
    memory_->PushToHost(Bytes{1});
    EXPECT_EQ(link.Receive(start_ + i * std::chrono::seconds(1), frames_), 1u);
  }
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, ignored);
  EXPECT_EQ(memory_->waiting_to_guest(), 5u);
  ASSERT_EQ(errors_.size(), 1u);
  EXPECT_NE(errors_[0].message().find(path()), std::string::npos) << errors_[0];
  EXPECT_EQ(link.deadline(), kNever);
  EXPECT_EQ(FileBlocks().size(), 2u);
}

TEST_F(CaptureTest, FileThatCannotBeMadeIsNamed) {
  const auto link = Capture(std::make_unique<MemoryLink>(), folder_ / "no" / "folder");
  ASSERT_FALSE(link.ok());
  EXPECT_NE(link.status().message().find("no/folder"), std::string::npos) << link.status();
}

// Inside an impairment it has what the guest got.
TEST_F(CaptureTest, InsideAnImpairmentItSeesWhatTheGuestSees) {
  auto impaired = Impair(Make(), {.to_guest = {.drop = 1.0}});
  ASSERT_TRUE(impaired.ok());
  EXPECT_EQ(Send(**impaired, start_, {{1}, {2}}), 2u);
  memory_->PushToHost(Bytes{3});
  EXPECT_EQ((*impaired)->Receive(start_, frames_), 1u);
  impaired->reset();
  const std::vector<Block> blocks = FileBlocks();
  ASSERT_EQ(blocks.size(), 4u);
  EXPECT_EQ(FrameOf(blocks[2]), "\3");
}

}  // namespace
}  // namespace penstock
