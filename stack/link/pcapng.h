// Writes what a link carried into a capture file that Wireshark opens: pcapng
// (draft-ietf-opsawg-pcapng; magic bytes and option numbers are named in pcapng.cc).
//
//   auto capture = PcapngWriter::Create("guest.pcapng", PcapngWriter::LinkType::kEthernet);
//   (*capture)->Write(now.time_since_epoch(), PcapngWriter::Direction::kToGuest, frame.parts);
//
// A file is one Section Header Block, one Interface Description Block (times in
// nanoseconds), one Enhanced Packet Block for each frame, with its direction and, if
// there is something to say, a comment, and perhaps one Interface Statistics Block. All
// numbers are little-endian, whatever the machine is, so that the same frames make the
// same file.
//
// Why not a library: Debian's libpcap writes only the classic format, which has neither
// directions nor comments; what else writes pcapng there is Wireshark's libwiretap
// (GLib, no stable interface) and DPDK's. The four blocks that are needed are easier
// to write than to wrap.
//
// Frames are collected in memory (kBufferBytes) and leave in one write(2). An error of
// the file ends the capture and nothing else: it is kept for Flush() to tell, and the
// file is cut behind the last whole block that it has. One thread.
#ifndef PENSTOCK_STACK_LINK_PCAPNG_H_
#define PENSTOCK_STACK_LINK_PCAPNG_H_

#include <sys/uio.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace penstock {

class PcapngWriter final {
 public:
  // What the frames start with: an Ethernet header, or an IP header (tun).
  enum class LinkType : uint8_t { kEthernet, kRaw };
  // As the stack sees it: kToHost is "inbound" in the file, kToGuest "outbound".
  enum class Direction : uint8_t { kToHost, kToGuest };

  // Longer comments are cut; an option's length has 16 bits.
  static constexpr size_t kCommentBytesMax = 65'532;

  // Makes `path` anew, for its owner's eyes only (frames hold what the guest says).
  // Errors name the path and the reason.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<PcapngWriter>> Create(const std::string& path,
                                                                            LinkType link_type);
  // Flushes.
  ~PcapngWriter();
  PcapngWriter(const PcapngWriter&) = delete;
  PcapngWriter& operator=(const PcapngWriter&) = delete;

  // One frame: its parts, one after the other. `since_epoch` may count from any start
  // that does not move (from 1970, if a reader should see dates); not negative.
  // A frame whose checksum is partial is written as it is: the comment is the place to
  // say so.
  void Write(std::chrono::nanoseconds since_epoch, Direction direction,
             std::span<const iovec> parts, std::string_view comment = {});
  void Write(std::chrono::nanoseconds since_epoch, Direction direction,
             std::span<const uint8_t> frame, std::string_view comment = {});

  // Totals of the link so far: frames in this file, frames that the link lost.
  struct Statistics {
    uint64_t received = 0;
    uint64_t dropped = 0;
  };
  void WriteStatistics(std::chrono::nanoseconds since_epoch, const Statistics& statistics);

  // Everything written so far is in the file, or the first error that kept it out.
  absl::Status Flush();

 private:
  static constexpr size_t kBufferBytes = size_t{1} << 18;

  PcapngWriter(int descriptor, std::string path);
  void PutFileHeader(LinkType link_type);

  void Put16(uint32_t value);
  void Put32(uint32_t value);
  void PutBytes(std::span<const uint8_t> bytes);
  // Zeros to a multiple of four; every block starts at one.
  void Pad();
  void PutOption(uint16_t code, std::span<const uint8_t> value);
  void PutOption64(uint16_t code, uint64_t value);
  void PutEndOfOptions();
  void PutTime(std::chrono::nanoseconds since_epoch);
  // A block: its length stands before and behind what lies between the two calls.
  [[nodiscard]] size_t BeginBlock(uint32_t type);
  void EndBlock(size_t begin);

  const int descriptor_;
  const std::string path_;
  absl::Status status_;
  uint64_t file_bytes_ = 0;  // whole blocks that the file has
  std::vector<uint8_t> buffer_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_LINK_PCAPNG_H_
