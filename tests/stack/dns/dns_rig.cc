#include "tests/stack/dns/dns_rig.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

// Towards the stack: questions of any size come in one frame.
constexpr size_t kMtu = 9'000;

Config WithUpstreams(Config config) {
  if (config.dns.upstreams.empty() && config.dns.resolv_conf == DnsConfig().resolv_conf) {
    config.dns.upstreams = {DnsRig::kFirst, DnsRig::kSecond};
  }
  config.isn_key = {7, 11};  // the same sockets and ids each time
  return config;
}

}  // namespace

DnsRig::DnsRig(Config given) : config(WithUpstreams(std::move(given))) {
  // Of another rig, which may still be there.
  for (const auto& socket : PlayedSockets()) socket->self = nullptr;
  PlayedSockets().clear();
}

DnsRig::~DnsRig() {
  relay_->Shutdown();
  ends_.ShutdownBatch();
  service.Shutdown();
  EXPECT_EQ(relay_->datagrams().bytes_out(), 0u);
  for (const auto& socket : PlayedSockets()) socket->self = nullptr;
}

void DnsRig::Pass(const std::vector<Bytes>& frames) {
  batch_.SetTime(now);
  service.BeginPass(now);
  ends_.TakeFromRelays();
  for (const Bytes& frame : frames) {
    ParseOptions options = TestParseOptions();
    options.mtu = kMtu;
    const Parsed parsed = ParseFrame(frame, options);
    ASSERT_TRUE(parsed.ok()) << parsed.outcome();
    datagrams.FromGuest(parsed.packet(), now);
  }
  EXPECT_TRUE(ends_.ServeReady(4'096));
  (void)batch_.Flush();
  ends_.AfterFlush();
  ends_.RingRelays();
  relay_->ServePipes();
  while (const auto frame = link_.PopToGuest()) {
    if (auto datagram = guest_.Take(frame->bytes, frame->offload)) {
      received_.push_back(*std::move(datagram));
    }
  }
}

void DnsRig::Ask(const Bytes& message, uint16_t port, std::optional<Endpoint> asked) {
  const Endpoint to = asked.value_or(kDns4);
  const GuestDatagram datagram{
      .source = {Guest(to.address.family), port}, .destination = to, .payload = message};
  Pass(guest_.Frames(datagram, kMtu));
}

void DnsRig::AskByStream(const Bytes& message, DnsAsker& asker, uint64_t token) {
  service.Ask({.message = message,
               .transport = DnsTransport::kTcp,
               .guest = {kGuest4, 5'000},
               .asked = kDns4,
               .asker = &asker,
               .token = token},
              now);
  Pass();
}

std::vector<GuestDatagram> DnsRig::Received() { return std::exchange(received_, {}); }

Bytes DnsRig::Answer() {
  const std::vector<GuestDatagram> received = Received();
  EXPECT_EQ(received.size(), 1u);
  return received.size() == 1 ? received.front().payload : Bytes(12);
}

std::vector<DnsRig::Sent> DnsRig::Questions() {
  std::vector<Sent> sent;
  for (const auto& socket : PlayedSockets()) {
    const size_t before = socket->contents.size();
    const auto datagrams = socket->Sent();
    for (size_t i = 0; i < datagrams.size(); ++i) {
      sent.push_back({.socket = socket.get(),
                      .upstream = datagrams[i].path.peer,
                      .interface = datagrams[i].path.interface,
                      .message = socket->contents[before + i]});
    }
  }
  return sent;
}

DnsRig::Sent DnsRig::Question() {
  std::vector<Sent> sent = Questions();
  if (sent.size() != 1) throw std::runtime_error(std::to_string(sent.size()) + " questions left");
  return sent.front();
}

void DnsRig::AnswerTo(const Sent& sent, const Bytes& message) {
  sent.socket->Arrive(sent.upstream, message);
  Pass();
}

void DnsRig::Fail(const Sent& sent, FaultKind kind) {
  // A stream does not say what was lost.
  const bool stream = sent.socket->pipe->request->kind == DatagramKind::kFramedStream;
  sent.socket->Arrive(sent.upstream, stream ? Bytes() : sent.message, {.kind = kind});
  Pass();
}

Bytes DnsRig::Resolve(const Bytes& question, const std::vector<DnsRecordSpec>& records) {
  Ask(question);
  const Sent sent = Question();
  AnswerTo(sent, DnsAnswerTo(sent.message, records));
  return Answer();
}

}  // namespace penstock
