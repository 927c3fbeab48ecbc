#include "stack/link/pcapng.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

// Block types and the byte order magic (draft-ietf-opsawg-pcapng, section 4).
constexpr uint32_t kSectionHeaderBlock = 0x0a0d0d0a;
constexpr uint32_t kInterfaceDescriptionBlock = 1;
constexpr uint32_t kInterfaceStatisticsBlock = 5;
constexpr uint32_t kEnhancedPacketBlock = 6;
constexpr uint32_t kByteOrderMagic = 0x1a2b3c4d;
constexpr uint32_t kMajorVersion = 1, kMinorVersion = 0;
constexpr uint32_t kSectionLengthUnknown = 0xffff'ffff;  // twice: 64 bits
constexpr uint32_t kNoSnapLength = 0;

// Options: sections 3.5, 4.2, 4.3 and 4.6.
constexpr uint16_t kEndOfOptions = 0, kComment = 1;
constexpr uint16_t kTimestampResolution = 9;  // of the interface
constexpr uint8_t kNanoseconds = 9;           // 10 to the -9 seconds
constexpr uint16_t kPacketFlags = 2;          // of the packet
constexpr uint8_t kInbound = 1, kOutbound = 2;
constexpr uint16_t kFramesReceived = 4, kFramesDropped = 5;  // of the statistics

// LINKTYPE_ETHERNET and LINKTYPE_RAW of the tcpdump group's registry.
constexpr uint32_t kLinkTypeEthernet = 1, kLinkTypeRaw = 101;

constexpr size_t kAlignment = 4;

std::span<const uint8_t> Bytes(const iovec& part) {
  return {static_cast<const uint8_t*>(part.iov_base), part.iov_len};
}

}  // namespace

absl::StatusOr<std::unique_ptr<PcapngWriter>> PcapngWriter::Create(const std::string& path,
                                                                   LinkType link_type) {
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (descriptor < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot write a capture to ", path, ": ", strerror(errno)));
  }
  std::unique_ptr<PcapngWriter> writer(new PcapngWriter(descriptor, path));
  writer->PutFileHeader(link_type);
  if (absl::Status status = writer->Flush(); !status.ok()) return status;
  return writer;
}

PcapngWriter::PcapngWriter(int descriptor, std::string path)
    : descriptor_(descriptor), path_(std::move(path)) {}

PcapngWriter::~PcapngWriter() {
  Flush().IgnoreError();
  close(descriptor_);
}

void PcapngWriter::PutFileHeader(LinkType link_type) {
  const size_t section = BeginBlock(kSectionHeaderBlock);
  Put32(kByteOrderMagic);
  Put16(kMajorVersion);
  Put16(kMinorVersion);
  Put32(kSectionLengthUnknown);
  Put32(kSectionLengthUnknown);
  EndBlock(section);

  const size_t interface = BeginBlock(kInterfaceDescriptionBlock);
  Put16(link_type == LinkType::kEthernet ? kLinkTypeEthernet : kLinkTypeRaw);
  Put16(0);  // reserved
  Put32(kNoSnapLength);
  PutOption(kTimestampResolution, {&kNanoseconds, 1});
  PutEndOfOptions();
  EndBlock(interface);
}

void PcapngWriter::Write(std::chrono::nanoseconds since_epoch, Direction direction,
                         std::span<const iovec> parts, std::string_view comment) {
  if (!status_.ok()) return;
  uint32_t length = 0;
  for (const iovec& part : parts) length += static_cast<uint32_t>(part.iov_len);

  const size_t packet = BeginBlock(kEnhancedPacketBlock);
  Put32(0);  // the only interface
  PutTime(since_epoch);
  Put32(length);  // captured
  Put32(length);  // on the link
  for (const iovec& part : parts) PutBytes(Bytes(part));
  Pad();
  const std::array<uint8_t, 4> flags{direction == Direction::kToHost ? kInbound : kOutbound};
  PutOption(kPacketFlags, flags);
  if (!comment.empty()) {
    comment = comment.substr(0, kCommentBytesMax);
    PutOption(kComment, {reinterpret_cast<const uint8_t*>(comment.data()), comment.size()});
  }
  PutEndOfOptions();
  EndBlock(packet);
  if (buffer_.size() >= kBufferBytes) Flush().IgnoreError();
}

void PcapngWriter::Write(std::chrono::nanoseconds since_epoch, Direction direction,
                         std::span<const uint8_t> frame, std::string_view comment) {
  const iovec part{const_cast<uint8_t*>(frame.data()), frame.size()};
  Write(since_epoch, direction, std::span(&part, 1), comment);
}

void PcapngWriter::WriteStatistics(std::chrono::nanoseconds since_epoch,
                                   const Statistics& statistics) {
  if (!status_.ok()) return;
  const size_t block = BeginBlock(kInterfaceStatisticsBlock);
  Put32(0);  // the only interface
  PutTime(since_epoch);
  PutOption64(kFramesReceived, statistics.received);
  PutOption64(kFramesDropped, statistics.dropped);
  PutEndOfOptions();
  EndBlock(block);
}

absl::Status PcapngWriter::Flush() {
  std::span<const uint8_t> rest = buffer_;
  while (status_.ok() && !rest.empty()) {
    const ssize_t written = write(descriptor_, rest.data(), rest.size());
    if (written >= 0) {
      rest = rest.subspan(static_cast<size_t>(written));
    } else if (errno != EINTR) {
      status_ = absl::ResourceExhaustedError(
          absl::StrCat("the capture in ", path_, " ended: ", strerror(errno)));
      // Readers stumble over half a block; what is no file stays as it is.
      if (ftruncate(descriptor_, static_cast<off_t>(file_bytes_)) != 0) break;
    }
  }
  if (status_.ok()) file_bytes_ += buffer_.size();
  buffer_.clear();
  return status_;
}

// ---------------------------------------------------------------- bytes

void PcapngWriter::Put16(uint32_t value) {
  buffer_.push_back(static_cast<uint8_t>(value));
  buffer_.push_back(static_cast<uint8_t>(value >> 8));
}

void PcapngWriter::Put32(uint32_t value) {
  Put16(value);
  Put16(value >> 16);
}

void PcapngWriter::PutBytes(std::span<const uint8_t> bytes) {
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

void PcapngWriter::Pad() {
  // Blocks leave the buffer whole, so its start is always a multiple of four.
  while (buffer_.size() % kAlignment != 0) buffer_.push_back(0);
}

void PcapngWriter::PutOption(uint16_t code, std::span<const uint8_t> value) {
  Put16(code);
  Put16(static_cast<uint32_t>(value.size()));  // without the padding
  PutBytes(value);
  Pad();
}

void PcapngWriter::PutOption64(uint16_t code, uint64_t value) {
  Put16(code);
  Put16(sizeof(value));
  Put32(static_cast<uint32_t>(value));
  Put32(static_cast<uint32_t>(value >> 32));
}

void PcapngWriter::PutTime(std::chrono::nanoseconds since_epoch) {
  const auto time = static_cast<uint64_t>(since_epoch.count());
  Put32(static_cast<uint32_t>(time >> 32));
  Put32(static_cast<uint32_t>(time));
}

void PcapngWriter::PutEndOfOptions() {
  Put16(kEndOfOptions);
  Put16(0);
}

size_t PcapngWriter::BeginBlock(uint32_t type) {
  const size_t begin = buffer_.size();
  Put32(type);
  Put32(0);  // EndBlock knows
  return begin;
}

void PcapngWriter::EndBlock(size_t begin) {
  const auto length = static_cast<uint32_t>(buffer_.size() + sizeof(uint32_t) - begin);
  for (size_t i = 0; i < sizeof(length); ++i) {
    buffer_[begin + sizeof(uint32_t) + i] = static_cast<uint8_t>(length >> (8 * i));
  }
  Put32(length);
}

}  // namespace penstock
