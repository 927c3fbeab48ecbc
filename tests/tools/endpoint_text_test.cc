#include "tools/penstock/endpoint_text.h"

#include <gtest/gtest.h>

namespace penstock::tool {
namespace {

std::string Read(std::string_view text, std::optional<uint16_t> default_port = std::nullopt) {
  const std::optional<Endpoint> endpoint = ParseEndpoint(text, default_port);
  return endpoint ? endpoint->ToString() : "none";
}

TEST(EndpointText, HasAnAddressAndAPort) {
  EXPECT_EQ(Read("10.0.2.2:80"), "10.0.2.2:80");
  EXPECT_EQ(Read("[fd00::2]:65535"), "[fd00::2]:65535");
  EXPECT_EQ(Read("[::ffff:10.0.0.1]:1"), "[::ffff:10.0.0.1]:1");
}

TEST(EndpointText, MayLeaveOutAPortThatHasADefault) {
  for (const char* text : {"10.0.2.2", "fd00::2", "[fd00::2]", "::"}) {
    EXPECT_EQ(Read(text), "none") << text;
    EXPECT_NE(Read(text, 53), "none") << text;
  }
  EXPECT_EQ(Read("10.0.2.2", 53), "10.0.2.2:53");
  EXPECT_EQ(Read("fd00::2", 53), "[fd00::2]:53");
  EXPECT_EQ(Read("[fd00::2]", 53), "[fd00::2]:53");
  EXPECT_EQ(Read("[fd00::2]:54", 53), "[fd00::2]:54");
}

TEST(EndpointText, IsNothingElse) {
  for (const char* text :
       {"", ":", ":80", "10.0.2.2:", "10.0.2.2:0", "10.0.2.2:65536", "10.0.2.2:-1", "10.0.2.2:8 0",
        "10.0.2.2:80x", "10.0.2.2:80:80", "[10.0.2.2]:80", "[fd00::2", "fd00::2]", "[fd00::2]80",
        "[fd00::2]:", "[]:80", "host:80", " 10.0.2.2:80", "10.0.2:80"}) {
    EXPECT_EQ(Read(text, 53), "none") << text;
  }
}

TEST(EndpointText, OfIcmpHasNoPort) {
  const Endpoint end{IpAddress::V4(10, 0, 0, 1), 7};
  EXPECT_EQ(EndpointText(end, PolicyProtocol::kUdp), "10.0.0.1:7");
  EXPECT_EQ(EndpointText(end, PolicyProtocol::kIcmp), "10.0.0.1");
}

}  // namespace
}  // namespace penstock::tool
