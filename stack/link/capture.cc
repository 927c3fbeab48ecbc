#include "stack/link/capture.h"

#include <algorithm>
#include <utility>

namespace penstock {
namespace {

std::chrono::nanoseconds SystemUtc() { return std::chrono::system_clock::now().time_since_epoch(); }

}  // namespace

PcapngWriter::LinkType LinkTypeOf(const LinkCapabilities& capabilities) {
  return capabilities.ethernet ? PcapngWriter::LinkType::kEthernet : PcapngWriter::LinkType::kRaw;
}

absl::StatusOr<std::unique_ptr<CapturedLink>> Capture(std::unique_ptr<Link> inner,
                                                      const std::string& path,
                                                      CaptureOptions options) {
  auto file = PcapngWriter::Create(path, LinkTypeOf(inner->capabilities()));
  if (!file.ok()) return file.status();
  return std::make_unique<CapturedLink>(std::move(inner), *std::move(file), std::move(options));
}

CapturedLink::CapturedLink(std::unique_ptr<Link> inner, std::unique_ptr<PcapngWriter> file,
                           CaptureOptions options)
    : inner_(std::move(inner)), file_(std::move(file)), options_(std::move(options)) {}

CapturedLink::~CapturedLink() {
  if (file_ == nullptr) return;
  const auto utc = options_.utc_clock ? options_.utc_clock() : SystemUtc();
  file_->WriteStatistics(utc, {.received = frames_, .dropped = inner_->frames_lost()});
  Flush();
}

size_t CapturedLink::Receive(Time now, std::span<FrameToHost> frames) {
  FlushIfDue(now);
  const size_t count = inner_->Receive(now, frames);
  if (count == 0 || file_ == nullptr) return count;
  const auto utc = Utc(now);
  for (const FrameToHost& frame : frames.first(count)) {
    file_->Write(utc, PcapngWriter::Direction::kToHost, std::span<const uint8_t>(frame.bytes()));
  }
  Written(now, count);
  return count;
}

size_t CapturedLink::Send(Time now, std::span<const FrameToGuest> frames) {
  FlushIfDue(now);
  const size_t count = inner_->Send(now, frames);
  if (count == 0 || file_ == nullptr) return count;
  const auto utc = Utc(now);
  for (const FrameToGuest& frame : frames.first(count)) {
    file_->Write(utc, PcapngWriter::Direction::kToGuest, frame.parts);
  }
  Written(now, count);
  return count;
}

Time CapturedLink::deadline() const { return std::min(flush_at_, inner_->deadline()); }

std::chrono::nanoseconds CapturedLink::Utc(Time now) {
  const std::chrono::nanoseconds since_start = now.time_since_epoch();
  if (!utc_known_) {
    // `now` is when the pass began, a moment ago.
    utc_offset_ = (options_.utc_clock ? options_.utc_clock() : SystemUtc()) - since_start;
    utc_known_ = true;
  }
  return since_start + utc_offset_;
}

void CapturedLink::Written(Time now, size_t count) {
  frames_ += count;
  if (flush_at_ == kNever) flush_at_ = After(now, kFlushInterval);
}

void CapturedLink::FlushIfDue(Time now) {
  if (flush_at_ <= now) Flush();
}

void CapturedLink::Flush() {
  flush_at_ = kNever;
  utc_known_ = false;
  if (file_ == nullptr) return;
  const absl::Status status = file_->Flush();
  if (status.ok()) return;
  file_.reset();
  if (options_.on_error) options_.on_error(status);
}

}  // namespace penstock
