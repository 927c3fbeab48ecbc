#include "tests/faults/dns_stream_talk.h"

#include <array>
#include <chrono>
#include <span>

#include "tests/support/dns_builder.h"

namespace penstock::faults {
namespace {

constexpr size_t kLengthBytes = 2;
// Longer than the service takes to say that it had no answer.
constexpr Duration kPatience = std::chrono::seconds(6);

std::string Framed(const Bytes& message) {
  std::string framed{static_cast<char>(message.size() >> 8), static_cast<char>(message.size())};
  framed.append(message.begin(), message.end());
  return framed;
}

// The first message of `stream`; empty until all of it is there.
Bytes MessageOf(std::string_view stream) {
  if (stream.size() < kLengthBytes) return {};
  const size_t bytes =
      size_t{static_cast<uint8_t>(stream[0])} << 8 | size_t{static_cast<uint8_t>(stream[1])};
  if (stream.size() < kLengthBytes + bytes) return {};
  const std::string_view message = stream.substr(kLengthBytes, bytes);
  return {message.begin(), message.end()};
}

}  // namespace

DnsStreamTalk::DnsStreamTalk(FaultWorld& world, HostListener& upstream, Endpoint service)
    : world_(world),
      upstream_(upstream),
      service_(service),
      question_(Framed(DnsAsk({.name = "a.test"}))) {}

void DnsStreamTalk::Ask() {
  if (guest_ != nullptr) guest_->Abort();
  guest_ = world_.guest().Connect(world_.now(), service_, 0);
  Require(guest_ != nullptr, "the guest could not connect");
  ask_again_ = world_.now() + kPatience;
  wrote_ = 0;
  heard_.clear();
}

bool DnsStreamTalk::Step() {
  const bool guest_moved = StepGuest();
  return StepHost() || guest_moved;
}

bool DnsStreamTalk::StepGuest() {
  if (answered_) return false;
  const bool over = guest_ == nullptr || guest_->error() != 0 || guest_->finished_reading() ||
                    world_.now() >= ask_again_;
  if (over) {
    Ask();
    return true;
  }
  bool moved = false;
  if (guest_->connected() && wrote_ < question_.size()) {
    const std::string_view rest = std::string_view(question_).substr(wrote_);
    const size_t wrote =
        guest_->Write({reinterpret_cast<const uint8_t*>(rest.data()), rest.size()});
    wrote_ += wrote;
    moved = wrote > 0;
  }
  std::array<uint8_t, 2048> room;
  while (const size_t got = guest_->Read(room)) {
    heard_.append(reinterpret_cast<const char*>(room.data()), got);
    moved = true;
  }
  Hear();
  return moved;
}

void DnsStreamTalk::Hear() {
  const Bytes answer = MessageOf(heard_);
  if (answer.empty()) return;
  const DnsSeen seen = SeeDns(answer);
  constexpr int kServerFailure = 2;
  Require(!seen.addresses.empty() || seen.rcode() == kServerFailure,
          "DNS says what its upstream did not");
  answered_ = !seen.addresses.empty();
  guest_->Close();
  // No answer: at once by another connection.
  if (!answered_) ask_again_ = world_.now();
}

bool DnsStreamTalk::StepHost() {
  bool moved = false;
  while (auto accepted = upstream_.TryAccept()) {
    askers_.push_back({.socket = *std::move(accepted)});
    moved = true;
  }
  for (Asker& asker : askers_) {
    if (asker.served || asker.socket.error() != 0) continue;
    moved |= asker.socket.Read() > 0;
    const Bytes question = MessageOf(asker.socket.received());
    if (question.empty()) continue;
    asker.served = true;
    (void)asker.socket.Write(Framed(DnsAnswerTo(question, {DnsRecordOf("a.test", "192.0.2.1")})));
  }
  return moved;
}

}  // namespace penstock::faults
