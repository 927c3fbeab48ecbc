#include "tests/faults/ask_talk.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
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

AskTalk::AskTalk(FaultWorld& world, int host, Endpoint asked, Asking asking)
    : world_(world), host_(host), asked_(asked), asking_(asking) {
  question_ = asking == Asking::kDns ? DnsAsk({.name = "a.test"}) : Bytes(1'000, 0x5a);
  if (asking != Asking::kPublished) return;
  const bool v4 = world.family() == Family::kIpv4;
  const auto ports = world.stack().Publish(
      {.place = {.address = v4 ? IpAddress::V4(127, 0, 0, 1) : *IpAddress::Parse("::1")},
       .guest = {asked.port, asked.port},
       .protocol = PortProtocol::kUdp});
  Require(ports.ok(), ports.status().ToString());
  published_ = ports->front().bound;
}

void AskTalk::Ask() {
  next_ask_ = world_.now() + kAskInterval;
  if (asking_ == Asking::kPublished) {
    SocketAddress to(published_);
    (void)sendto(host_, question_.data(), question_.size(), 0, to.get(), to.length());
  } else if (asking_ == Asking::kEcho) {
    world_.Send(
        EthernetFrame(IpPacket({.source = Guest(world_.family()), .destination = asked_.address},
                               EchoRequest(world_.family(), question_))));
  } else {
    const GuestDatagram datagram{.source = {Guest(world_.family()), kGuestPort},
                                 .destination = asked_,
                                 .payload = question_};
    for (const Bytes& frame : world_.guest_udp().Frames(datagram)) world_.Send(frame);
  }
}

bool AskTalk::StepHost() {
  std::array<uint8_t, 2048> room;
  SocketAddress from;
  const ssize_t got =
      recvfrom(host_, room.data(), room.size(), 0, from.data(), from.length_pointer());
  if (got < 0) return false;
  const std::span<const uint8_t> heard(room.data(), static_cast<size_t>(got));
  Answer(Bytes(heard.begin(), heard.end()), from.ToEndpoint());
  return true;
}

void AskTalk::Answer(const Bytes& heard, const Endpoint& from) {
  if (asking_ == Asking::kPublished) {
    Require(heard == question_ && from == published_, "the client heard what no guest said");
    answered_ = true;
    return;
  }
  Bytes answer = heard;
  if (asking_ == Asking::kDns) {
    answer = DnsAnswerTo(heard, {DnsRecordOf("a.test", "192.0.2.1")});
  } else {
    Require(answer == question_, "the host heard what no guest said");
  }
  const SocketAddress to(from);
  (void)sendto(host_, answer.data(), answer.size(), 0, to.get(), to.length());
}

void AskTalk::Hear(const GuestDatagram& datagram) {
  if (asking_ == Asking::kPublished) {
    Require(datagram.payload == question_ && datagram.destination == asked_,
            "the guest heard what no client said");
    const GuestDatagram answer{.source = datagram.destination,
                               .destination = datagram.source,
                               .payload = datagram.payload};
    for (const Bytes& frame : world_.guest_udp().Frames(answer)) world_.Send(frame);
    return;
  }
  Require(datagram.source == asked_, "an answer came from somebody else");
  if (asking_ == Asking::kDns) {
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
}

// What stands in front of the data, and says of what type the message is.
bool AskTalk::IsReply(const Bytes& frame) const {
  const bool v4 = world_.family() == Family::kIpv4;
  const size_t message = 14 + (v4 ? 20u : 40u), data = message + 8;
  if (frame.size() != data + question_.size()) return false;
  return frame[message] == (v4 ? 0 : 129) &&
         std::equal(question_.begin(), question_.end(), frame.begin() + static_cast<long>(data));
}

bool AskTalk::StepGuest() {
  const bool moved = !world_.datagrams().empty();
  for (const GuestDatagram& datagram : world_.datagrams()) Hear(datagram);
  world_.datagrams().clear();
  if (asking_ == Asking::kEcho) {
    for (const Bytes& frame : world_.frames()) answered_ |= IsReply(frame);
    world_.frames().clear();
  }
  return moved;
}

bool AskTalk::Step() {
  bool moved = StepHost();
  if (!answered_ && world_.now() >= next_ask_) {
    Ask();
    moved = true;
  }
  return StepGuest() || moved;
}

}  // namespace penstock::faults
