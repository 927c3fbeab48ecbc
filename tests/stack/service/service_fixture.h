// What the tests of the link's services share: packets from a guest, answers taken apart.
#ifndef PENSTOCK_TESTS_STACK_SERVICE_SERVICE_FIXTURE_H_
#define PENSTOCK_TESTS_STACK_SERVICE_SERVICE_FIXTURE_H_

#include <gtest/gtest.h>

#include <string>

#include "stack/service/services.h"
#include "tests/support/packet_builder.h"

namespace penstock {

class ServiceTest : public testing::Test {
 protected:
  static constexpr Duration kSecond = std::chrono::seconds(1);

  void Start(const Config& config = {}) {
    config_ = config;
    link_ = {.gateway_mac = kGatewayMac, .guest_mac = kGuestMac};
    services_.emplace(config_, link_, counters_);
  }

  // The whole frame of the answer; empty if there is none, and drop_ says why: "nothing"
  // if it wants none, "not for a service", or a cause.
  Bytes React(const Bytes& frame) {
    if (!services_) Start();
    ParseOptions options = TestParseOptions();
    options.ipv4 = config_.ipv4;
    options.ipv6 = config_.ipv6;
    options.leased4 = services_->leased();
    const Parsed parsed = ParseFrame(frame, options);
    if (!parsed.ok()) {
      drop_ = parsed.outcome();
      return {};
    }
    services_->See(parsed.packet(), now_);
    Bytes out(1514);
    const auto answer = services_->Handle(parsed.packet(), now_, out);
    drop_ = !answer ? "not for a service" : answer->drop ? Name(*answer->drop) : "nothing";
    out.resize(answer ? answer->length : 0);
    if (!out.empty()) ExpectSound(out);
    return out;
  }

  // Lengths and checksums of a frame of ours.
  static void ExpectSound(const Bytes& frame) {
    const bool v4 = Get16(frame, 12) == 0x0800;
    const size_t at = v4 ? kTransport4At : kTransport6At;
    ASSERT_GT(frame.size(), at + 8);
    const auto address = [&](size_t offset) {
      return IpAddress::From(std::span(frame).subspan(offset, v4 ? 4 : 16));
    };
    const uint8_t protocol = frame[v4 ? kIpAt + 9 : kIpAt + 6];
    EXPECT_EQ(v4 ? Get16(frame, kIpAt + 2) : Get16(frame, kIpAt + 4),
              frame.size() - (v4 ? kIpAt : at));
    EXPECT_EQ(SlowTransportSum(address(v4 ? kIpAt + 12 : kIpAt + 8),
                               address(v4 ? kIpAt + 16 : kIpAt + 24), protocol,
                               std::span(frame).subspan(at)),
              0xffff);
  }

  Config config_;
  LinkAddresses link_;
  Counters counters_;
  std::optional<Services> services_;
  std::string drop_;
  Time now_ = Time() + std::chrono::hours(1);
};

}  // namespace penstock

#endif  // PENSTOCK_TESTS_STACK_SERVICE_SERVICE_FIXTURE_H_
