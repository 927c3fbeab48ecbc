#include "tests/faults/tcp_talk.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <utility>

namespace penstock::faults {
namespace {

constexpr uint16_t kTcpGuestPort = 7'000;
constexpr size_t kAliveBytes = 3'000;

// Bytes that repeat nowhere near.
std::string Pattern(size_t count, uint32_t seed) {
  std::string bytes(count, '\0');
  uint32_t state = seed;
  for (char& byte : bytes) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<char>(state >> 24);
  }
  return bytes;
}

std::span<const uint8_t> AsBytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

bool IsPrefix(std::string_view part, std::string_view whole) { return whole.starts_with(part); }

}  // namespace

TcpTalk::TcpTalk(FaultWorld& world, const TcpPlan& plan)
    : world_(world),
      plan_(plan),
      to_host_(Pattern(plan.to_host_bytes, 1)),
      to_guest_(Pattern(plan.to_guest_bytes, 2)) {
  if (!plan.host_opens) {
    listener_.emplace(world.family());
    return;
  }
  const bool v4 = world.family() == Family::kIpv4;
  const auto ports = world.stack().Publish(
      {.place = {.address = v4 ? IpAddress::V4(127, 0, 0, 1) : *IpAddress::Parse("::1")},
       .guest = {kTcpGuestPort, kTcpGuestPort}});
  Require(ports.ok(), ports.status().ToString());
  published_ = ports->front().bound;
  world.guest().Listen(kTcpGuestPort, [this](world::GuestConnection& accepted) {
    if (guest_ == nullptr) guest_ = &accepted;
  });
}

void TcpTalk::Open() {
  opened_ = true;
  if (plan_.host_opens) {
    host_ = HostSocket::ConnectTo(published_);
  } else {
    guest_ = world_.guest().Connect(world_.now(), world_.Gateway(listener_->port()), 0);
    Require(guest_ != nullptr, "the guest could not connect");
  }
}

bool TcpTalk::Step() {
  if (!opened_) Open();
  const bool guest_moved = guest_ != nullptr && StepGuest();
  return StepHost() || guest_moved;
}

bool TcpTalk::StepGuest() {
  bool moved = false;
  std::array<uint8_t, 4096> room;
  while (const size_t got = guest_->Read(room)) {
    guest_read_.append(reinterpret_cast<const char*>(room.data()), got);
    moved = true;
  }
  if (guest_->connected() && guest_->error() == 0) {
    const size_t wrote = guest_->Write(AsBytes(std::string_view(to_host_).substr(guest_wrote_)));
    guest_wrote_ += wrote;
    moved |= wrote > 0;
    if (plan_.finishes && guest_wrote_ == to_host_.size() && !guest_finished_) {
      guest_finished_ = moved = true;
      guest_->ShutdownWrite();
    }
  }
  return moved;
}

bool TcpTalk::StepHost() {
  bool moved = false;
  // A host that was reset before anything passed is dialled again for the guest's next SYN.
  const bool unheard =
      !host_ || (host_->error() != 0 && host_->received().empty() && guest_read_.empty());
  if (listener_ && unheard) {
    if (auto accepted = listener_->TryAccept()) {
      host_ = std::move(accepted);
      host_wrote_ = 0;
      host_finished_ = false;
      moved = true;
    }
  }
  if (!host_ || host_->error() != 0) return moved;
  moved |= host_->Read() > 0;
  if (host_->error() != 0) return true;
  if (host_wrote_ < to_guest_.size()) {
    const size_t wrote = host_->Write(std::string_view(to_guest_).substr(host_wrote_));
    host_wrote_ += wrote;
    moved |= wrote > 0;
  }
  if (plan_.finishes && host_wrote_ == to_guest_.size() && !host_finished_ && host_->error() == 0) {
    host_finished_ = moved = true;
    host_->ShutdownWrite();
  }
  return moved;
}

bool TcpTalk::GuestEnded() const {
  return guest_ != nullptr && (guest_->error() != 0 || guest_->finished_reading());
}

bool TcpTalk::HostEnded() const { return host_ && (host_->error() != 0 || host_->ended()); }

bool TcpTalk::Complete() {
  const bool all = guest_read_ == to_guest_ && host_ && host_->received() == to_host_;
  if (!plan_.finishes) return all && guest_->error() == 0;
  return all && guest_->finished_reading() && guest_->error() == 0 && host_->ended() &&
         host_->error() == 0;
}

bool TcpTalk::Over() {
  if (!opened_) return false;
  if (!plan_.finishes && Complete()) return true;
  // One that fails before its other end was reached has only one.
  const bool guest_failed = guest_ != nullptr && guest_->error() != 0;
  const bool host_failed = host_ && host_->error() != 0;
  const bool guest_over = GuestEnded() || (guest_ == nullptr && host_failed);
  return guest_over && (HostEnded() || (!host_ && guest_failed));
}

void TcpTalk::Judge() {
  Require(IsPrefix(guest_read_, to_guest_), "the guest read what the host never wrote");
  Require(!host_ || IsPrefix(host_->received(), to_host_), "the host read what no guest wrote");
  if (Complete()) return;
  const bool guest_told_end =
      guest_ != nullptr && guest_->error() == 0 && guest_->finished_reading();
  Require(!guest_told_end || guest_read_ == to_guest_, "a part looked like the whole to the guest");
  const bool host_told_end = host_ && host_->error() == 0 && host_->ended();
  Require(!host_told_end || host_->received() == to_host_,
          "a part looked like the whole to the host");
}

void TcpTalk::ExpectAlive() {
  to_host_ += Pattern(kAliveBytes, 3);
  to_guest_ += Pattern(kAliveBytes, 4);
  world_.Run(
      "bytes of a connection that is open", [this] { return Step(); },
      [this] { return Complete() || Over(); });
  Require(Complete(), "a connection that had nothing to do with it was hurt");
}

}  // namespace penstock::faults
