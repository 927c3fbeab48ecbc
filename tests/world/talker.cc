#include "tests/world/talker.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "tests/world/violation.h"

namespace penstock::world {
namespace {

constexpr size_t kRoomBytes = 65'536;

}  // namespace

void Talker::Turn(Time now, Port& port, uint64_t other_sent) {
  if (!port.open() && !port.Broken()) return;
  if (!opened_ && port.open()) {
    opened_ = true;
    note_(absl::StrCat(name_, ": open"));
  }
  for (bool moved = true; moved && !over();) {
    moved = Read(now, port, other_sent);
    if (over()) return;
    // What came before the end is still read; then the end counts.
    if (!moved && port.Broken()) {
      broken_ = true;
      note_(absl::StrCat(name_, ": broken after ", received_, " bytes"));
      return;
    }
    moved |= Write(now, port);
    moved |= End(port);
  }
}

bool Talker::Read(Time now, Port& port, uint64_t other_sent) {
  if (at_end_ || now < read_from_) return false;
  if (!stalled_ && script_.stall > Duration::zero() && received_ >= script_.stall_at) {
    stalled_ = true;
    read_from_ = now + script_.stall;
    note_(absl::StrCat(name_, ": stops reading at byte ", received_));
    wake_at_(read_from_);
    return false;
  }
  static thread_local std::array<uint8_t, kRoomBytes> room;
  const auto bytes = std::span(room).first(
      port.Read(std::span(room).first(std::min<uint64_t>(script_.read, kRoomBytes))));
  if (bytes.empty()) {
    if (!port.AtEnd()) return false;
    at_end_ = true;
    note_(absl::StrCat(name_, ": end after ", received_, " bytes"));
    return true;
  }
  for (size_t from = 0;; ++from) {
    from += reads_.FirstWrong(received_ + from, bytes.subspan(from));
    if (from == bytes.size()) break;
    if (++spoilt_ <= script_.spoilt_max) continue;
    throw Violation(
        absl::StrCat(name_, ": byte ", received_ + from, " is not what the other end wrote there"));
  }
  received_ += bytes.size();
  if (received_ > other_sent) {
    throw Violation(
        absl::StrCat(name_, ": read ", received_, " bytes, the other end wrote ", other_sent));
  }
  if (script_.read_pause > Duration::zero()) {
    read_from_ = now + script_.read_pause;
    wake_at_(read_from_);
  }
  return true;
}

bool Talker::Write(Time now, Port& port) {
  if (!port.open() || finished_ || now < write_from_) return false;
  uint64_t until = script_.bytes;
  if (script_.end == TalkerScript::End::kReset || script_.end == TalkerScript::End::kLeave) {
    until = std::min(until, script_.end_at);
  }
  if (sent_ >= until) return false;
  // Only what has room is made: most turns find none.
  const size_t room = port.WriteRoom();
  if (room == 0) return false;
  static thread_local std::array<uint8_t, kRoomBytes> buffer;
  const auto bytes =
      std::span(buffer).first(std::min<uint64_t>({script_.write, until - sent_, room, kRoomBytes}));
  writes_.Fill(sent_, bytes);
  const size_t taken = port.Write(bytes);
  if (taken == 0) return false;
  sent_ += taken;
  if (script_.write_pause > Duration::zero()) {
    write_from_ = now + script_.write_pause;
    wake_at_(write_from_);
  }
  return true;
}

bool Talker::End(Port& port) {
  if (!port.open()) return false;
  switch (script_.end) {
    case TalkerScript::End::kFinishSecond:
      if (!at_end_) return false;
      [[fallthrough]];
    case TalkerScript::End::kFinish:
      if (finished_ || sent_ < script_.bytes) return false;
      port.Finish();
      finished_ = true;
      note_(absl::StrCat(name_, ": finishes after ", sent_, " bytes"));
      return true;
    case TalkerScript::End::kReset:
    case TalkerScript::End::kLeave: {
      // Never so many bytes will come: then at the other end's end.
      if (std::max(sent_, received_) < script_.end_at && !at_end_) return false;
      const bool reset = script_.end == TalkerScript::End::kReset;
      reset ? port.Reset() : port.Leave();
      (reset ? reset_ : left_) = true;
      note_(absl::StrCat(name_, reset ? ": resets after " : ": leaves after ", sent_, " bytes"));
      return true;
    }
  }
  return false;
}

std::string Talker::Describe() const {
  std::string text =
      absl::StrCat(name_, ": sent ", sent_, " of ", script_.bytes, ", received ", received_);
  for (const auto& [set, word] : {std::pair(finished_, " finished"),
                                  {at_end_, " at-end"},
                                  {broken_, " broken"},
                                  {reset_, " reset"},
                                  {left_, " left"}}) {
    if (set) text += word;
  }
  return text;
}

}  // namespace penstock::world
