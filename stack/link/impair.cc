#include "stack/link/impair.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace penstock {
namespace {

// Frames offered to the inner link at once.
constexpr size_t kBatch = 32;
constexpr Duration kTimeMax = std::chrono::seconds(60);

std::string ToString(std::string_view text) { return {text.begin(), text.end()}; }

absl::Status WrongWord(std::string_view word, std::string_view why) {
  return absl::InvalidArgumentError("impairment '" + ToString(word) + "': " + ToString(why));
}

// The number at the start of `text`, which is left with what follows it.
template <class Number>
std::optional<Number> TakeNumber(std::string_view& text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return number;
}

std::optional<Duration> ParseTime(std::string_view text) {
  const std::optional<double> number = TakeNumber<double>(text);
  const double unit = text == "us" ? 1e-6 : text == "ms" ? 1e-3 : text == "s" ? 1.0 : 0.0;
  if (!number || unit == 0.0) return std::nullopt;
  const std::chrono::duration<double> time(*number * unit);
  if (!(time >= Duration::zero() && time <= kTimeMax)) return std::nullopt;
  return std::chrono::duration_cast<Duration>(time);
}

bool IsProbability(double number) { return number >= 0.0 && number <= 1.0; }

std::optional<double> ParseProbability(std::string_view text) {
  std::optional<double> number = TakeNumber<double>(text);
  if (!number || (!text.empty() && text != "%")) return std::nullopt;
  if (text == "%") *number /= 100.0;
  return IsProbability(*number) ? number : std::nullopt;
}

std::optional<uint64_t> ParseSeed(std::string_view text) {
  const std::optional<uint64_t> number = TakeNumber<uint64_t>(text);
  return text.empty() ? number : std::nullopt;
}

// The field that `name` stands for; null if it is no such name.
Duration ImpairDirection::*TimeField(std::string_view name) {
  if (name == "delay") return &ImpairDirection::delay;
  if (name == "jitter") return &ImpairDirection::jitter;
  return nullptr;
}

double ImpairDirection::*ProbabilityField(std::string_view name) {
  if (name == "drop") return &ImpairDirection::drop;
  if (name == "duplicate") return &ImpairDirection::duplicate;
  if (name == "reorder") return &ImpairDirection::reorder;
  if (name == "corrupt") return &ImpairDirection::corrupt;
  return nullptr;
}

bool TakePrefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

absl::Status ApplyWord(std::string_view word, ImpairOptions& options) {
  const size_t equals = word.find('=');
  if (equals == std::string_view::npos) return WrongWord(word, "write name=value");
  std::string_view name = word.substr(0, equals);
  const std::string_view value = word.substr(equals + 1);
  if (name == "seed") {
    const std::optional<uint64_t> seed = ParseSeed(value);
    if (!seed) return WrongWord(word, "the seed is a whole number");
    options.seed = *seed;
    return absl::OkStatus();
  }
  std::vector<ImpairDirection*> directions{&options.to_host, &options.to_guest};
  if (TakePrefix(name, "to_host.")) {
    directions = {&options.to_host};
  } else if (TakePrefix(name, "to_guest.")) {
    directions = {&options.to_guest};
  }
  if (const auto field = TimeField(name)) {
    const std::optional<Duration> time = ParseTime(value);
    if (!time) return WrongWord(word, "write a time such as 500us, 10ms or 1s, at most 60s");
    for (ImpairDirection* direction : directions) direction->*field = *time;
    return absl::OkStatus();
  }
  if (const auto field = ProbabilityField(name)) {
    const std::optional<double> probability = ParseProbability(value);
    if (!probability) return WrongWord(word, "write a percentage such as 0.1%, at most 100%");
    for (ImpairDirection* direction : directions) direction->*field = *probability;
    return absl::OkStatus();
  }
  return WrongWord(word,
                   "the names are delay, jitter, drop, duplicate, reorder and corrupt (each may "
                   "follow to_host. or to_guest.), and seed");
}

absl::Status Validate(std::string_view name, const ImpairDirection& direction) {
  for (const Duration time : {direction.delay, direction.jitter}) {
    if (time < Duration::zero() || time > kTimeMax) {
      return WrongWord(name, "delay and jitter must lie between 0 and 60 s");
    }
  }
  for (const double probability :
       {direction.drop, direction.duplicate, direction.reorder, direction.corrupt}) {
    if (!IsProbability(probability))
      return WrongWord(name, "probabilities must lie between 0 and 1");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ImpairOptions> ParseImpairOptions(std::string_view text) {
  ImpairOptions options;
  for (bool more = true; more;) {
    const size_t comma = text.find(',');
    more = comma != std::string_view::npos;
    if (absl::Status status = ApplyWord(text.substr(0, comma), options); !status.ok())
      return status;
    if (more) text.remove_prefix(comma + 1);
  }
  return options;
}

absl::StatusOr<std::unique_ptr<ImpairedLink>> Impair(std::unique_ptr<Link> inner,
                                                     const ImpairOptions& options) {
  if (absl::Status status = Validate("to_host", options.to_host); !status.ok()) return status;
  if (absl::Status status = Validate("to_guest", options.to_guest); !status.ok()) return status;
  return std::make_unique<ImpairedLink>(std::move(inner), options);
}

ImpairedLink::ImpairedLink(std::unique_ptr<Link> inner, const ImpairOptions& options)
    : inner_(std::move(inner)),
      to_host_(options.to_host, options.seed, 0),
      to_guest_(options.to_guest, options.seed, 1) {}

size_t ImpairedLink::Receive(Time now, std::span<FrameToHost> frames) {
  (void)Flush(now);
  // One batch; if the inner link has more, its descriptor stays readable.
  const size_t arrived = inner_->Receive(now, frames);
  for (const FrameToHost& frame : frames.first(arrived)) {
    const iovec part{frame.room.data(), frame.length};
    to_host_.Admit(now, {&part, 1}, frame.offload);
  }
  size_t count = 0;
  for (; count < frames.size(); ++count) {
    const ImpairQueue::Frame* due = to_host_.Due(now);
    if (due == nullptr) break;
    FrameToHost& frame = frames[count];
    // Not memcpy: an empty frame has no bytes to point to.
    std::copy(due->bytes.begin(), due->bytes.end(), frame.room.begin());
    frame.length = static_cast<uint32_t>(due->bytes.size());
    frame.offload = due->offload;
    to_host_.Pop();
  }
  return count;
}

size_t ImpairedLink::Send(Time now, std::span<const FrameToGuest> frames) {
  // Older frames go first: while the inner link is full, so are we.
  if (!Flush(now)) return 0;
  for (const FrameToGuest& frame : frames) to_guest_.Admit(now, frame.parts, frame.offload);
  (void)Flush(now);
  return frames.size();
}

bool ImpairedLink::Flush(Time now) {
  retry_at_ = kNever;
  for (;;) {
    std::array<iovec, kBatch> parts;
    std::array<FrameToGuest, kBatch> frames;
    size_t count = 0;
    for (; count < kBatch; ++count) {
      const ImpairQueue::Frame* due = to_guest_.Due(now, count);
      if (due == nullptr) break;
      parts[count] = {const_cast<uint8_t*>(due->bytes.data()), due->bytes.size()};
      frames[count] = {.parts = {&parts[count], 1},
                       .length = static_cast<uint32_t>(due->bytes.size()),
                       .offload = due->offload};
    }
    if (count == 0) return true;
    const size_t sent = inner_->Send(now, std::span(frames).first(count));
    to_guest_.Pop(sent);
    if (sent < count) {
      retry_at_ = After(now, kRetry);
      return false;
    }
  }
}

Time ImpairedLink::deadline() const {
  const Time to_guest = retry_at_ != kNever ? retry_at_ : to_guest_.deadline();
  return std::min({to_host_.deadline(), to_guest, inner_->deadline()});
}

uint64_t ImpairedLink::frames_lost() const {
  return inner_->frames_lost() + to_host_.counts().lost + to_guest_.counts().lost;
}

}  // namespace penstock
