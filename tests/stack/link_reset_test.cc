// Whose MAC address the guest's is: learned from the first valid frame and then fixed,
// until the link says that it was reset.
#include <gtest/gtest.h>

#include "stack/stack.h"
#include "tests/support/memory_link.h"
#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

constexpr Time kResetStart = Time{} + std::chrono::hours(24);
constexpr MacAddress kOtherMac{0x02, 0, 0, 0, 0, 0x99};

class LinkResetTest : public testing::TestWithParam<Family> {
 protected:
  void Start(const Config& config = {.follow_host_routes = false}) {
    auto owned = std::make_unique<MemoryLink>();
    link_ = owned.get();
    stack_ = Stack::Create(config, std::move(owned)).value();
  }
  // An echo request from `mac`. True if the gateway answered, to that address.
  bool Answers(const MacAddress& mac) {
    const bool v4 = GetParam() == Family::kIpv4;
    link_->PushToHost(EthernetFrame(
        IpPacket({.source = Guest(GetParam()), .destination = v4 ? kGateway4 : kGateway6},
                 EchoRequest(GetParam(), {1})),
        {.source = mac}));
    (void)stack_->Poll(kResetStart);
    const auto reply = link_->PopToGuest();
    if (!reply) return false;
    EXPECT_TRUE(std::equal(mac.begin(), mac.end(), reply->bytes.begin()));
    return true;
  }
  [[nodiscard]] CounterSnapshot counters() const { return stack_->Snapshot(); }

  MemoryLink* link_ = nullptr;
  std::unique_ptr<Stack> stack_;
};

INSTANTIATE_TEST_SUITE_P(Families, LinkResetTest, testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const auto& test) {
                           return test.param == Family::kIpv4 ? "Ipv4" : "Ipv6";
                         });

TEST_P(LinkResetTest, TheMacIsLearnedAnewAfterAResetAndFixedAgain) {
  Start();
  EXPECT_TRUE(Answers(kGuestMac));
  EXPECT_FALSE(Answers(kOtherMac));
  link_->Reset();
  EXPECT_TRUE(Answers(kGuestMac)) << "the same machine again";
  EXPECT_TRUE(Answers(kOtherMac));
  EXPECT_FALSE(Answers(kGuestMac));
  EXPECT_EQ(counters().link_resets, 1u);
  EXPECT_EQ(counters().drops_of(DropCause::kFalseSourceMac), 2u);
}

// What no station has is no reason to forget the guest's.
TEST_P(LinkResetTest, AResetLetsNoImpossibleMacIn) {
  Start();
  EXPECT_TRUE(Answers(kGuestMac));
  link_->Reset();
  EXPECT_FALSE(Answers(kGatewayMac));
  EXPECT_FALSE(Answers({0x01, 0, 0, 0, 0, 1}));
  EXPECT_FALSE(Answers({}));
  EXPECT_TRUE(Answers(kOtherMac));
}

TEST_P(LinkResetTest, AConfiguredMacOutlivesAReset) {
  Start({.guest_mac = kGuestMac, .follow_host_routes = false});
  EXPECT_TRUE(Answers(kGuestMac));
  link_->Reset();
  EXPECT_FALSE(Answers(kOtherMac));
  EXPECT_TRUE(Answers(kGuestMac));
  EXPECT_EQ(counters().link_resets, 0u);
}

}  // namespace
}  // namespace penstock
