// A decorator that writes what any link carries into a capture file that Wireshark
// opens: each frame as the link gave or took it, with its direction and the time (UTC).
//
//   auto captured = Capture(std::move(tap), "guest.pcapng");
//
// The frames are those of the inner link: put it inside an impairment to see what the
// guest saw, outside of one to see what the stack did. A super-segment is one frame of
// the file, and a checksum that was left to the link is there as it was left. All frames
// of one pass have the pass's time.
//
// Poll thread, where the file costs no system call for each frame: frames are collected
// in memory and written when there are 256 KiB of them or the first has waited for
// kFlushInterval; deadline() sees to it that the last ones do not wait for others. So a
// process that is killed leaves a readable file that lacks the last moments. At the end
// an Interface Statistics Block tells how many frames the link itself lost.
//
// A file that cannot be written any more (the disk is full) ends the capture and nothing
// else: `on_error` is told once, and frames go on.
#ifndef PENSTOCK_STACK_LINK_CAPTURE_H_
#define PENSTOCK_STACK_LINK_CAPTURE_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "relay/time.h"
#include "stack/link/link.h"
#include "stack/link/pcapng.h"

namespace penstock {

struct CaptureOptions {
  // Called at most once, on the poll thread, with what ended the capture: a sentence
  // that names the file and the reason.
  std::function<void(const absl::Status&)> on_error;
  // Nanoseconds since 1970; unset: the system's clock. Asked at each flush, so that the
  // file follows when that clock is set.
  std::function<std::chrono::nanoseconds()> utc_clock;
};

class CapturedLink final : public Link {
 public:
  static constexpr Duration kFlushInterval = std::chrono::milliseconds(100);

  // `file` was made for a link of this kind (LinkTypeOf).
  CapturedLink(std::unique_ptr<Link> inner, std::unique_ptr<PcapngWriter> file,
               CaptureOptions options = {});
  ~CapturedLink() override;

  [[nodiscard]] const LinkCapabilities& capabilities() const override {
    return inner_->capabilities();
  }
  [[nodiscard]] int descriptor() const override { return inner_->descriptor(); }
  [[nodiscard]] size_t Receive(Time now, std::span<FrameToHost> frames) override;
  [[nodiscard]] size_t Send(Time now, std::span<const FrameToGuest> frames) override;
  [[nodiscard]] Time deadline() const override;
  [[nodiscard]] bool ended() const override { return inner_->ended(); }
  [[nodiscard]] uint64_t resets() const override { return inner_->resets(); }
  [[nodiscard]] uint64_t frames_lost() const override { return inner_->frames_lost(); }
  [[nodiscard]] uint64_t framing_errors() const override { return inner_->framing_errors(); }

 private:
  [[nodiscard]] std::chrono::nanoseconds Utc(Time now);
  void Written(Time now, size_t count);
  void FlushIfDue(Time now);
  void Flush();

  const std::unique_ptr<Link> inner_;
  std::unique_ptr<PcapngWriter> file_;  // null: the capture has ended
  const CaptureOptions options_;
  // UTC less the stack's time; asked anew after each flush.
  std::chrono::nanoseconds utc_offset_{};
  bool utc_known_ = false;
  Time flush_at_ = kNever;  // while frames wait for it
  uint64_t frames_ = 0;
};

// What a file for this link has to say about its frames.
[[nodiscard]] PcapngWriter::LinkType LinkTypeOf(const LinkCapabilities& capabilities);

// Makes `path` anew, readable for its owner only. Errors name the path and the reason.
[[nodiscard]] absl::StatusOr<std::unique_ptr<CapturedLink>> Capture(std::unique_ptr<Link> inner,
                                                                    const std::string& path,
                                                                    CaptureOptions options = {});

}  // namespace penstock

#endif  // PENSTOCK_STACK_LINK_CAPTURE_H_
