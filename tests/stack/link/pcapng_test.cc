// Reads captures back block by block, by the specification and apart from the writer:
// draft-ietf-opsawg-pcapng sections 3.1 (blocks), 3.5 (options), 4.1 to 4.3.
#include "stack/link/pcapng.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

namespace penstock {
namespace {

using std::chrono::nanoseconds;
using Direction = PcapngWriter::Direction;
using LinkType = PcapngWriter::LinkType;

uint32_t Get16(const std::string& bytes, size_t at) {
  return static_cast<uint8_t>(bytes.at(at)) | uint32_t{static_cast<uint8_t>(bytes.at(at + 1))} << 8;
}
uint32_t Get32(const std::string& bytes, size_t at) {
  return Get16(bytes, at) | Get16(bytes, at + 2) << 16;
}

struct Block {
  uint32_t type = 0;
  std::string body;  // between the two lengths
};

// Both lengths of each block agree, are multiples of four, and fill the file.
std::vector<Block> Blocks(const std::string& file) {
  std::vector<Block> blocks;
  for (size_t at = 0; at < file.size();) {
    const uint32_t length = Get32(file, at + 4);
    EXPECT_EQ(length % 4, 0u);
    EXPECT_GE(length, 12u);
    if (length < 12 || at + length > file.size()) {
      ADD_FAILURE() << "a block leaves the file at " << at;
      break;
    }
    EXPECT_EQ(Get32(file, at + length - 4), length);
    blocks.push_back({Get32(file, at), file.substr(at + 8, length - 12)});
    at += length;
  }
  return blocks;
}

// The options from `at` to the end of the body: each padded with zeros to four bytes,
// and an end of options that is the end.
std::map<uint32_t, std::string> Options(const std::string& body, size_t at) {
  std::map<uint32_t, std::string> options;
  while (at < body.size()) {
    const uint32_t code = Get16(body, at), length = Get16(body, at + 2);
    at += 4;
    if (code == 0) {
      EXPECT_EQ(length, 0u);
      EXPECT_EQ(at, body.size()) << "something stands behind the end of options";
      return options;
    }
    options[code] = body.substr(at, length);
    for (at += length; at % 4 != 0; ++at) EXPECT_EQ(body.at(at), '\0');
  }
  ADD_FAILURE() << "no end of options";
  return options;
}

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
  writer->Write(nanoseconds(0x0000'0123'89ab'cdef), Direction::kToGuest, parts, "gso 1460x3");
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
    writer->Write(nanoseconds(length), Direction::kToHost, frame, std::string(length, 'c'));
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
  writer->Write(nanoseconds(0), Direction::kToHost, std::span<const uint8_t>(),
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
    writer->Write(nanoseconds(i), Direction::kToGuest, std::vector<uint8_t>(60'000, i));
  }
  EXPECT_GT(File().size(), 2'000'000u);
  writer.reset();
  const std::vector<Block> blocks = Blocks(File());
  ASSERT_EQ(blocks.size(), 42u);
  for (size_t i = 0; i < 40; ++i) {
    EXPECT_EQ(blocks[2 + i].body.substr(20, 60'000), std::string(60'000, static_cast<char>(i)));
  }
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
