// What the writer puts into a file, read back block by block.
#include "stack/link/pcapng.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/stack/link/capture_blocks.h"

namespace penstock {
namespace {

using std::chrono::nanoseconds;
using CaptureDirection = PcapngWriter::Direction;
using LinkType = PcapngWriter::LinkType;

class PcapngTest : public testing::Test {
 protected:
  PcapngTest() {
    std::string folder = (std::filesystem::temp_directory_path() / "pcapng.XXXXXX").string();
    EXPECT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
  }
  ~PcapngTest() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<PcapngWriter> Create(LinkType link_type = LinkType::kEthernet) {
    auto writer = PcapngWriter::Create(path(), link_type);
    EXPECT_TRUE(writer.ok()) << writer.status();
    return writer.ok() ? *std::move(writer) : nullptr;
  }
  [[nodiscard]] std::string path() const { return folder_ / "capture.pcapng"; }
  [[nodiscard]] std::string File() const {
    std::ifstream file(path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::filesystem::path folder_;
};

// "Section Header Block", "Interface Description Block": what stands at the start of a
// capture without frames, byte for byte.
TEST_F(PcapngTest, FileStartsWithSectionAndInterface) {
  Create();
  const std::string expected(
      "\x0a\x0d\x0d\x0a\x1c\0\0\0"        // type, 28 bytes
      "\x4d\x3c\x2b\x1a\x01\0\0\0"        // byte order magic, version 1.0
      "\xff\xff\xff\xff\xff\xff\xff\xff"  // section length: unknown
      "\x1c\0\0\0"                        // 28
      "\x01\0\0\0\x20\0\0\0"              // type, 32 bytes
      "\x01\0\0\0\0\0\0\0"                // Ethernet, reserved, no snap length
      "\x09\0\x01\0\x09\0\0\0\0\0\0\0"    // if_tsresol 9, padded; end of options
      "\x20\0\0\0",                       // 32
      60);
  EXPECT_EQ(File(), expected);
}

TEST_F(PcapngTest, RawLinkSaysSo) {
  Create(LinkType::kRaw);
  const std::vector<Block> blocks = Blocks(File());
  ASSERT_EQ(blocks.size(), 2u);
  EXPECT_EQ(Get16(blocks[1].body, 0), 101u);
}

// Enhanced Packet Block: interface, time in two halves, both lengths, the frame of
// several parts, padding, options.
TEST_F(PcapngTest, PacketsCarryTimeDirectionAndComment) {
  std::string head = "head", tail = "and a tail";
  const iovec parts[] = {{head.data(), head.size()}, {tail.data(), tail.size()}};
  auto writer = Create();
  writer->Write(nanoseconds(0x0000'0123'89ab'cdef), CaptureDirection::kToGuest, parts,
                "gso 1460x3");
  EXPECT_TRUE(writer->Flush().ok());

  const std::vector<Block> blocks = Blocks(File());
  ASSERT_EQ(blocks.size(), 3u);
  EXPECT_EQ(blocks[2].type, 6u);
  const std::string& body = blocks[2].body;
  EXPECT_EQ(Get32(body, 0), 0u);
  EXPECT_EQ(Get32(body, 4), 0x123u);
  EXPECT_EQ(Get32(body, 8), 0x89abcdefu);
  EXPECT_EQ(Get32(body, 12), 14u);
  EXPECT_EQ(Get32(body, 16), 14u);
  EXPECT_EQ(body.substr(20, 16), std::string("headand a tail\0\0", 16));
  const auto options = Options(body, 36);
  EXPECT_EQ(options.size(), 2u);
  EXPECT_EQ(options.at(2), std::string("\x02\0\0\0", 4));  // outbound
  EXPECT_EQ(options.at(1), "gso 1460x3");
}

// Frames and comments of every length modulo four, in both directions.
TEST_F(PcapngTest, EveryLengthIsPadded) {
  auto writer = Create();
  for (size_t length = 0; length < 9; ++length) {
    const std::vector<uint8_t> frame(length, 0xab);
    writer->Write(nanoseconds(length), CaptureDirection::kToHost, frame, std::string(length, 'c'));
  }
  writer.reset();
  const std::vector<Block> blocks = Blocks(File());
  ASSERT_EQ(blocks.size(), 2 + 9u);
  for (size_t length = 0; length < 9; ++length) {
    const std::string& body = blocks[2 + length].body;
    EXPECT_EQ(Get32(body, 8), length);
    EXPECT_EQ(Get32(body, 12), length);
    EXPECT_EQ(body.substr(20, length), std::string(length, '\xab'));
    const auto options = Options(body, 20 + (length + 3) / 4 * 4);
    EXPECT_EQ(options.at(2), std::string("\x01\0\0\0", 4));  // inbound
    // No comment, no option.
    EXPECT_EQ(options.contains(1), length > 0);
    EXPECT_EQ(length > 0 ? options.at(1) : "", std::string(length, 'c'));
  }
}

TEST_F(PcapngTest, CommentsThatNoOptionHoldsAreCut) {
  auto writer = Create();
  writer->Write(nanoseconds(0), CaptureDirection::kToHost, std::span<const uint8_t>(),
                std::string(100'000, 'c'));
  writer.reset();
  const std::vector<Block> blocks = Blocks(File());
  ASSERT_EQ(blocks.size(), 3u);
  EXPECT_EQ(Options(blocks[2].body, 20).at(1).size(), PcapngWriter::kCommentBytesMax);
}

// More than the buffer holds is in the file without a Flush of the caller's, in order.
TEST_F(PcapngTest, ManyLargeFramesArriveInOrder) {
  auto writer = Create();
  for (uint8_t i = 0; i < 40; ++i) {
    writer->Write(nanoseconds(i), CaptureDirection::kToGuest, std::vector<uint8_t>(60'000, i));
  }
  EXPECT_GT(File().size(), 2'000'000u);
  writer.reset();
  const std::vector<Block> blocks = Blocks(File());
  ASSERT_EQ(blocks.size(), 42u);
  for (size_t i = 0; i < 40; ++i) {
    EXPECT_EQ(blocks[2 + i].body.substr(20, 60'000), std::string(60'000, static_cast<char>(i)));
  }
}

// Interface Statistics Block (section 4.6): interface, time, frames received and dropped.
TEST_F(PcapngTest, StatisticsHaveABlockOfTheirOwn) {
  auto writer = Create();
  writer->WriteStatistics(nanoseconds(0x1'0000'0002), {.received = 5, .dropped = 0x2'0000'0001});
  writer.reset();
  const std::vector<Block> blocks = Blocks(File());
  ASSERT_EQ(blocks.size(), 3u);
  EXPECT_EQ(blocks[2].type, 5u);
  EXPECT_EQ(Get32(blocks[2].body, 4), 1u);
  EXPECT_EQ(Get32(blocks[2].body, 8), 2u);
  const auto options = Options(blocks[2].body, 12);
  EXPECT_EQ(options.at(4), std::string("\x05\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(options.at(5), std::string("\x01\0\0\0\x02\0\0\0", 8));
}

// A full disk (here: a limit on the file's size) cuts between two blocks.
TEST_F(PcapngTest, FileThatCannotGrowEndsBehindAWholeBlock) {
  auto writer = Create();
  writer->Write(nanoseconds(1), CaptureDirection::kToHost, std::vector<uint8_t>(1'000, 1));
  ASSERT_TRUE(writer->Flush().ok());
  const auto ignored = signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit limit = before;
  limit.rlim_cur = File().size() + 500;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  writer->Write(nanoseconds(2), CaptureDirection::kToHost, std::vector<uint8_t>(1'000, 2));
  const absl::Status status = writer->Flush();
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, ignored);
  EXPECT_NE(status.message().find("capture.pcapng ended: File too large"), std::string::npos)
      << status;
  EXPECT_EQ(Blocks(File()).size(), 3u);
}

// What a guest says is nobody else's.
TEST_F(PcapngTest, FileIsItsOwnersOnly) {
  Create();
  struct stat status {};
  ASSERT_EQ(stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(PcapngTest, PathThatCannotBeMadeIsNamed) {
  const auto writer = PcapngWriter::Create(folder_ / "no" / "folder", LinkType::kEthernet);
  ASSERT_FALSE(writer.ok());
  EXPECT_NE(writer.status().message().find("no/folder"), std::string::npos) << writer.status();
}

TEST_F(PcapngTest, FullDiskIsNamed) {
  const auto full = PcapngWriter::Create("/dev/full", LinkType::kEthernet);
  ASSERT_FALSE(full.ok());
  EXPECT_NE(full.status().message().find("/dev/full"), std::string::npos) << full.status();
}

}  // namespace
}  // namespace penstock
