#include "tests/faults/ask_talk.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <span>

#include "relay/socket_address.h"
#include "tests/support/dns_builder.h"

namespace penstock::faults {
namespace {

constexpr uint16_t kGuestPort = 5'000;
// As a resolver does.
constexpr Duration kAskInterval = std::chrono::seconds(3);

}  // namespace

AskTalk::AskTalk(FaultWorld& world, int server, Endpoint asked, bool dns)
    : world_(world), server_(server), asked_(asked), dns_(dns) {
  question_ = dns ? DnsAsk({.name = "a.test"}) : Bytes(1'000, 0x5a);
}

void AskTalk::Ask() {
  next_ask_ = world_.now() + kAskInterval;
  const GuestDatagram datagram{
      .source = {Guest(world_.family()), kGuestPort}, .destination = asked_, .payload = question_};
  for (const Bytes& frame : world_.guest_udp().Frames(datagram)) world_.Send(frame);
}

bool AskTalk::Serve() {
  std::array<uint8_t, 2048> room;
  SocketAddress from;
  const ssize_t got =
      recvfrom(server_, room.data(), room.size(), 0, from.data(), from.length_pointer());
  if (got < 0) return false;
  const std::span<const uint8_t> heard(room.data(), static_cast<size_t>(got));
  Bytes answer(heard.begin(), heard.end());
  if (dns_) {
    answer = DnsAnswerTo(heard, {DnsRecordOf("a.test", "192.0.2.1")});
  } else {
    Require(answer == question_, "the host heard what no guest said");
  }
  (void)sendto(server_, answer.data(), answer.size(), 0, from.get(), from.length());
  return true;
}

bool AskTalk::Step() {
  bool moved = Serve();
  if (!answered_ && world_.now() >= next_ask_) {
    Ask();
    moved = true;
  }
  for (const GuestDatagram& datagram : world_.datagrams()) {
    Require(datagram.source == asked_, "an answer came from somebody else");
    if (dns_) {
      // Where its upstream cannot be asked the service says so, and the guest asks again.
      const DnsSeen seen = SeeDns(datagram.payload);
      constexpr int kServerFailure = 2;
      Require(!seen.addresses.empty() || seen.rcode() == kServerFailure,
              "DNS says what its upstream did not");
      answered_ |= !seen.addresses.empty();
    } else {
      Require(datagram.payload == question_, "the guest heard what no host said");
      answered_ = true;
    }
    moved = true;
  }
  world_.datagrams().clear();
  return moved;
}

}  // namespace penstock::faults
