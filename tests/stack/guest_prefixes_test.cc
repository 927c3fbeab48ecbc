// Networks behind the guest, through the whole stack: answers go there by way of the
// guest, and nothing is dialled into them.
#include <gtest/gtest.h>

#include "stack/stack.h"
#include "tests/support/memory_link.h"
#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

class GuestPrefixesTest : public testing::TestWithParam<Family> {
 protected:
  GuestPrefixesTest() {
    Config config{.follow_host_routes = false};
    config.ipv4.guest_prefixes = {{Address("172.20.0.0"), 16}};
    config.ipv6.guest_prefixes = {{Address("fd20::"), 48}};
    auto owned = std::make_unique<MemoryLink>();
    link_ = owned.get();
    stack_ = Stack::Create(config, std::move(owned)).value();
  }
  [[nodiscard]] static bool v4() { return GetParam() == Family::kIpv4; }
  [[nodiscard]] static IpAddress Behind() { return Address(v4() ? "172.20.0.7" : "fd20::7"); }

  // The transport part of the only answer.
  Bytes AnswerTo(const IpSpec& ip, const Transport& transport) {
    link_->PushToHost(EthernetFrame(IpPacket(ip, transport)));
    (void)stack_->Poll(Time{} + std::chrono::hours(1));
    const auto frame = link_->PopToGuest();
    if (!frame || link_->PopToGuest()) {
      ADD_FAILURE() << "not one answer";
      return Bytes(64);
    }
    EXPECT_TRUE(std::equal(kGuestMac.begin(), kGuestMac.end(), frame->bytes.begin()));
    return {frame->bytes.begin() + static_cast<std::ptrdiff_t>(TransportAt(GetParam())),
            frame->bytes.end()};
  }

  MemoryLink* link_ = nullptr;
  std::unique_ptr<Stack> stack_;
};

INSTANTIATE_TEST_SUITE_P(Families, GuestPrefixesTest, testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const auto& test) {
                           return test.param == Family::kIpv4 ? "Ipv4" : "Ipv6";
                         });

TEST_P(GuestPrefixesTest, WhoIsBehindTheGuestIsAnswered) {
  const Bytes reply = AnswerTo({.source = Behind(), .destination = v4() ? kGateway4 : kGateway6},
                               EchoRequest(GetParam(), {1, 2, 3}));
  EXPECT_EQ(reply[0], v4() ? 0 : 129);
}

TEST_P(GuestPrefixesTest, NobodyIsDialledThere) {
  const Bytes error = AnswerTo({.source = Guest(GetParam()), .destination = Behind()},
                               TcpSegment({.flags = kTcpSyn}));
  EXPECT_EQ(error[0], v4() ? 3 : 1);  // destination unreachable
  EXPECT_EQ(error[1], v4() ? 1 : 3);  // host; address
  EXPECT_EQ(stack_->Snapshot().flows_opened, 0u);
}

}  // namespace
}  // namespace penstock
