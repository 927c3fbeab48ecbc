#include "tests/stack/flow/flow_fixture.h"

#include <iostream>
#include <optional>
#include <utility>

namespace penstock {

std::string Pattern(size_t count, uint32_t seed) {
  std::string bytes(count, '\0');
  uint32_t state = seed * 2654435761u + 1;
  for (char& byte : bytes) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<char>(state >> 24);
  }
  return bytes;
}

ScriptedGuest& FlowTest::Start(const Config& config, LinkCapabilities link) {
  guest_ = std::make_unique<ScriptedGuest>(
      ScriptOptions{.family = GetParam(), .config = config, .link = link});
  return *guest_;
}

HostListener& FlowTest::listener() {
  if (!listener_) ListenWith({});
  return *listener_;
}

void FlowTest::ListenWith(HostListenerOptions options) {
  listener_ = std::make_unique<HostListener>(GetParam(), options);
}

Connection FlowTest::Establish(const HandshakeOptions& options) {
  if (!guest_) Start();
  GuestFlow& flow = guest_->Flow(listener().port());
  flow.Handshake(options);
  return {.flow = flow, .host = Accept()};
}

HostSocket FlowTest::Accept(HostListener& from) {
  std::optional<HostSocket> accepted;
  guest_->Until("a connection at the host", [&] {
    accepted = from.TryAccept();
    return accepted.has_value();
  });
  return *std::move(accepted);
}

GuestFlow& FlowTest::DialBlackHole() {
  ListenWith({.backlog = 0});
  listener().FillBacklog();
  if (!guest_) Start();
  GuestFlow& flow = guest_->Flow(listener().port());
  flow.SendSyn();
  guest_->Until("the relay's SYN", [&] { return listener().IsBeingDialled(); });
  return flow;
}

void FlowTest::WriteAll(HostSocket& host, std::string_view bytes) {
  guest_->Until("the host's write", [&] {
    bytes.remove_prefix(host.Write(bytes));
    return bytes.empty() || host.error() != 0;
  });
  ASSERT_EQ(host.error(), 0);
}

void FlowTest::ReadTo(HostSocket& host, size_t count) {
  guest_->Until(std::to_string(count) + " bytes at the host", [&] {
    host.Read(count - host.received().size());
    return host.received().size() >= count || host.ended() || host.error() != 0;
  });
}

void FlowTest::ReadToEnd(HostSocket& host) {
  guest_->Until("the end at the host", [&] {
    host.Read();
    return host.ended() || host.error() != 0;
  });
  EXPECT_EQ(host.error(), 0);
}

void FlowTest::ExpectReset(HostSocket& host) {
  guest_->Until("a reset at the host", [&] { return host.WasReset(); });
}

void FlowTest::ExpectAlive(Connection& connection) {
  auto& [flow, host] = connection;
  const std::string to_host = host.received() + "to host", to_guest = flow.received() + "to guest";
  flow.Send({.payload = "to host"});
  ReadTo(host, to_host.size());
  EXPECT_EQ(host.received(), to_host);
  WriteAll(host, "to guest");
  flow.ReceiveTo(to_guest.size());
  EXPECT_EQ(flow.received(), to_guest);
}

void FlowTest::ExpectNoFlowLeft() {
  guest_->Until("no flow left", [&] {
    const CounterSnapshot now = counters();
    return now.flows_dialing + now.flows_handshake + now.flows_open + now.flows_closing == 0;
  });
}

void FlowTest::TearDown() {
  if (!guest_ || !guest_->has_stack()) return;
  if (HasFailure()) {
    std::cout << guest_->Trace();
    return;
  }
  guest_->Pump();
  const CounterSnapshot now = counters();
  EXPECT_EQ(now.frames_to_host, guest_->frames_sent());
  EXPECT_EQ(now.frames_to_host, now.frames_consumed + now.drops_total());
}

}  // namespace penstock
