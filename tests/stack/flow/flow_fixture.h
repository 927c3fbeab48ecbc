// What the flow tests share: one stack with a scripted guest, one listener on the
// host's loopback, both families. After every test each frame of the guest's must
// be accounted for: consumed, or dropped under a name.
#ifndef PENSTOCK_TESTS_STACK_FLOW_FLOW_FIXTURE_H_
#define PENSTOCK_TESTS_STACK_FLOW_FLOW_FIXTURE_H_

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "tests/support/host_side.h"
#include "tests/support/scripted_guest.h"

namespace penstock {

inline constexpr uint8_t kSynAck = kTcpSyn | kTcpAck;
inline constexpr uint8_t kFinAck = kTcpFin | kTcpAck;
inline constexpr uint8_t kRstAck = kTcpRst | kTcpAck;

using namespace std::chrono_literals;

// `count` bytes that repeat nowhere near, so that lost, doubled and displaced
// bytes show.
[[nodiscard]] std::string Pattern(size_t count, uint32_t seed = 1);

// An established flow: the guest's end, and the host's.
struct Connection {
  GuestFlow& flow;
  HostSocket host;
};

class FlowTest : public testing::TestWithParam<Family> {
 protected:
  // Makes the world; once, before anything else. Establish does it if need be.
  ScriptedGuest& Start(const Config& config = LoopbackConfig(), LinkCapabilities link = {});
  [[nodiscard]] ScriptedGuest& guest() { return *guest_; }
  [[nodiscard]] CounterSnapshot counters() const { return guest_->counters(); }
  [[nodiscard]] HostListener& listener();
  void ListenWith(HostListenerOptions options);

  Connection Establish(const HandshakeOptions& options = {});
  // The host's end of the flow that connected to `listener`.
  HostSocket Accept(HostListener& from);
  HostSocket Accept() { return Accept(listener()); }
  // A flow whose host is being dialled and does not answer until
  // listener().EmptyBacklog().
  GuestFlow& DialBlackHole();
  // All of `bytes`, as the relay takes them.
  void WriteAll(HostSocket& host, std::string_view bytes);
  // Until the host has received `count` bytes in all.
  void ReadTo(HostSocket& host, size_t count);
  void ReadToEnd(HostSocket& host);
  void ExpectReset(HostSocket& host);
  // Both ends have `bytes` for each other and get them.
  void ExpectAlive(Connection& connection);
  // Until the stack holds no flow any more.
  void ExpectNoFlowLeft();

  [[nodiscard]] bool v4() const { return GetParam() == Family::kIpv4; }
  // The largest segment behind the headers of this family in 1500 bytes.
  [[nodiscard]] uint16_t full_segment() const { return v4() ? 1460 : 1440; }

  void TearDown() override;

 private:
  std::unique_ptr<HostListener> listener_;
  std::unique_ptr<ScriptedGuest> guest_;
};

inline std::string FamilyName(const testing::TestParamInfo<Family>& info) {
  return info.param == Family::kIpv4 ? "Ipv4" : "Ipv6";
}

// NOLINTNEXTLINE: GoogleTest's own macros.
#define PENSTOCK_BOTH_FAMILIES(suite) \
  INSTANTIATE_TEST_SUITE_P(Both, suite, testing::Values(Family::kIpv4, Family::kIpv6), FamilyName)

}  // namespace penstock

#endif  // PENSTOCK_TESTS_STACK_FLOW_FLOW_FIXTURE_H_
