// Specs as text: what is understood, what each mistake is told and where the caret
// points, and that whatever is understood comes back the same.
#include "publisher/port_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace penstock {
namespace {

using testing::HasSubstr;
using testing::Not;

PortSpec Parsed(std::string_view text) {
  const absl::StatusOr<PortSpec> spec = ParsePortSpec(text);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return spec.value_or(PortSpec{});
}

BindPlace At(const char* address, const char* interface = "") {
  return {.address = *IpAddress::Parse(address), .interface = interface};
}
BindPlace On(const char* interface) {
  return {.kind = BindPlace::Kind::kInterface, .interface = interface};
}
BindPlace Everywhere() { return {.kind = BindPlace::Kind::kEverywhere}; }

TEST(PortSpec, TwoPortsAreLoopbackAndTcp) {
  EXPECT_EQ(Parsed("8080:80"), (PortSpec{.host = {8080, 8080}, .guest = {80, 80}}));
  EXPECT_EQ(Parsed("8080:80").place, At("127.0.0.1"));
  EXPECT_EQ(Parsed("8080:80/tcp"), Parsed("127.0.0.1:8080:80"));
  EXPECT_EQ(Parsed("53:53/udp").protocol, PortProtocol::kUdp);
  EXPECT_EQ(Parsed("65535:65535").host, (PortRange{65535, 65535}));
}

TEST(PortSpec, Places) {
  EXPECT_EQ(Parsed("0.0.0.0:1:2").place, At("0.0.0.0"));
  EXPECT_EQ(Parsed("[::1]:1:2").place, At("::1"));
  EXPECT_EQ(Parsed("[::]:1:2").place, At("::"));
  EXPECT_EQ(Parsed("[FD00::0:7]:1:2").place, At("fd00::7"));
  EXPECT_EQ(Parsed("[fe80::1%eth0]:1:2").place, At("fe80::1", "eth0"));
  EXPECT_EQ(Parsed("*:1:2").place, Everywhere());
  for (const char* name : {"eth0", "eth0.100", "6in4-wan", "veth1@if2", "fifteen_letters", "_a"}) {
    EXPECT_EQ(Parsed(std::string(name) + ":1:2").place, On(name));
  }
}

TEST(PortSpec, RangesExclusionsAndChosenPorts) {
  const PortSpec range = Parsed("8000-8010,~8003,~8005-8006:9000-9010/udp");
  EXPECT_EQ(range.host, (PortRange{8000, 8010}));
  EXPECT_EQ(range.guest, (PortRange{9000, 9010}));
  EXPECT_EQ(range.excluded, (std::vector<PortRange>{{8003, 8003}, {8005, 8006}}));
  EXPECT_EQ(Parsed("1-65535:1-65535").host.count(), 65535U);
  EXPECT_EQ(Parsed("7-7:8-8"), Parsed("7:8"));
  EXPECT_EQ(Parsed("0:9000-9003").host, PortRange{});
  EXPECT_EQ(Parsed("0:9000-9003").guest.count(), 4U);
}

struct Mistake {
  const char* text;
  const char* caret;  // as long as it has to be to stand under the wrong character
  const char* says;

  friend void PrintTo(const Mistake& m, std::ostream* out) { *out << m.text; }
};

class PortSpecMistakes : public testing::TestWithParam<Mistake> {};

TEST_P(PortSpecMistakes, SayWhatIsWrongWhereAndWhatToWrite) {
  const Mistake& mistake = GetParam();
  const absl::Status status = ParsePortSpec(mistake.text).status();
  ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  const std::string message(status.message());
  const std::string sentence = message.substr(0, message.find('\n'));
  EXPECT_THAT(sentence, HasSubstr(mistake.says));
  EXPECT_EQ(message, sentence + "\n  " + mistake.text + "\n  " + mistake.caret);
}

INSTANTIATE_TEST_SUITE_P(
    Parts, PortSpecMistakes,
    testing::Values(
        Mistake{"", "^", "write such as 8080:80"},  //
        Mistake{"/udp", "^", "write such as 8080:80/udp"},
        Mistake{"8080", "    ^", "write 8080:8080"},
        Mistake{"8080/udp", "    ^", "write 8080:8080/udp"},
        Mistake{"8000-8010,~8003", "               ^", "write 8000-8010,~8003:8000-8010"},
        Mistake{"0", " ^", "write 0:80"},
        Mistake{"127.0.0.1:8080", "              ^", "write 127.0.0.1:8080:8080"},
        Mistake{"[::1]:8080", "          ^", "write [::1]:8080:8080"},
        Mistake{"eth0:8080", "         ^", "write eth0:8080:8080"},
        Mistake{"*:8080", "      ^", "write *:8080:8080"},
        Mistake{"[::1]", "     ^", "the ports are missing"},
        Mistake{":80", "^", "the host's port is missing"},
        Mistake{"8080:", "     ^", "the guest's port is missing"},
        Mistake{":", "^", "the host's port is missing"}, Mistake{"::", "^", "write [::]:8080:80"},
        Mistake{"::1", "^", "write [::1]:8080:80"}, Mistake{":8080:80", "^", "0.0.0.0 or *"},
        Mistake{"127.0.0.1::80", "          ^", "the host's port is missing"},
        Mistake{"8080:80/", "        ^", "write /tcp or /udp"},
        Mistake{"8080:80/sctp", "        ^", "it must be tcp or udp"},
        Mistake{"8080:80/TCP", "        ^", "it must be tcp or udp"},
        Mistake{"8080:80/tcp/udp", "        ^", "it must be tcp or udp"},
        Mistake{"8080/tcp:80", "     ^", "the protocol comes last"},
        Mistake{"a:b:c:d:e", "     ^", "this colon is too much"},
        Mistake{"1.2.3.4:5:6:7", "           ^", "this colon is too much"}));

INSTANTIATE_TEST_SUITE_P(
    Ports, PortSpecMistakes,
    testing::Values(
        Mistake{"8080:0", "     ^", "it must be 1 to 65535"},
        Mistake{"8080:70000/tcp", "     ^", "the guest's port is 70000: it must be 1 to 65535"},
        Mistake{"65536:80", "^", "the host's port is 65536"},
        Mistake{"99999999999999999999:80", "^", "it must be 1 to 65535"},
        Mistake{"080:80", "^", "a zero in front"}, Mistake{"80:00", "   ^", "a zero in front"},
        Mistake{"80a:80", "  ^", "is no number"}, Mistake{"+80:80", "^", "is no number"},
        Mistake{"80:http", "   ^", "is no number"},
        Mistake{"8000-8010:80", "          ^", "such as 8000-8010:80-90"},
        Mistake{"8080:80-90", "     ^", "such as 8080-8090:80-90"},
        Mistake{"1-65535:2", "        ^", "write as many of both"},
        Mistake{"8000-8010:80-89", "          ^", "11 host ports cannot lead to 10 guest ports"},
        Mistake{"8010-8000:80-90", "^", "write 8000-8010"},
        Mistake{"80-90:90-80", "      ^", "write 80-90"},
        Mistake{"0-10:80-90", "^", "start it at 1"},  //
        Mistake{"0-0:80", "^", "start it at 1"}, Mistake{"80-90:0-10", "      ^", "start it at 1"},
        Mistake{"8000-:80-90", "     ^", "port is missing"},
        Mistake{"-8010:80-90", "^", "port is missing"},
        Mistake{"8000-8010-8020:80", "         ^", "is no number"}));

INSTANTIATE_TEST_SUITE_P(
    Exclusions, PortSpecMistakes,
    testing::Values(Mistake{"80-90,~91:80-90", "      ^", "~91 is not within 80-90"},
                    Mistake{"80-90,~85,~79-80:80-90", "          ^", "not within 80-90"},
                    Mistake{"80-90,~87-85:80-90", "      ^", "write 85-87"},
                    Mistake{"80-81,~80,~81:80-81", "          ^", "every port of 80-81"},
                    Mistake{"80-85,~84-85,~80-84:80-85", "             ^", "every port"},
                    Mistake{"80,~80:80", "   ^", "every port"},
                    Mistake{"0,~80:80", "  ^", "leave the ~ out"},
                    Mistake{"80-90,85:80-90", "      ^", "publish a second range apart"},
                    Mistake{"80-90,:80-90", "      ^", "publish a second range apart"},
                    Mistake{"80-90,~:80-90", "       ^", "port is missing"},
                    Mistake{"80-90,~x:80-90", "       ^", "is no number"},
                    Mistake{"~80:80", "^", "nothing is there yet"},
                    Mistake{"80-90:80-90,~85", "           ^", "exclude the host's"}));

INSTANTIATE_TEST_SUITE_P(
    Places, PortSpecMistakes,
    testing::Values(
        Mistake{"::1:8080:80", "^", "write [::1]:8080:80"},
        Mistake{"2001:db8::1:8080:80/udp", "^", "write [2001:db8::1]:8080:80/udp"},
        Mistake{"fe80::1%eth0:8080:80", "^", "write [fe80::1%eth0]:8080:80"},
        Mistake{"[::1:8080:80", "^", "the bracket is not closed"},
        Mistake{"[::1]8080:80", "     ^", "after the bracket comes a colon"},
        Mistake{"[::1]:1:2:3", "         ^", "this colon is too much"},
        Mistake{"[]:8080:80", " ^", "is no IPv6 address"},
        Mistake{"[::g]:8080:80", " ^", "is no IPv6 address"},
        Mistake{"[::1]:8080:0", "           ^", "it must be 1 to 65535"},
        Mistake{"[fe80::1%eth0]:8080:70000", "                    ^", "it must be 1 to 65535"},
        Mistake{"[127.0.0.1]:8080:80", " ^", "write 127.0.0.1"},
        Mistake{"[::ffff:127.0.0.1]:8080:80", "^", "write 127.0.0.1"},
        Mistake{"[::1%lo]:8080:80", "    ^", "write [::1], or only lo"},
        Mistake{"[fe80::1]:8080:80", "        ^", "write such as [fe80::1%eth0]"},
        Mistake{"[fe80::1%]:8080:80", "         ^", "the interface is missing"},
        Mistake{"[fe80::1%a%b]:8080:80", "          ^", "its name holds no"},
        Mistake{"[fe80::1%2]:8080:80", "         ^", "neither an address nor an interface"},
        Mistake{"010.0.0.1:8080:80", "^", "a zero in front"},
        Mistake{"10.0.0.01:8080:80", "       ^", "a zero in front"},
        Mistake{"256.0.0.1:8080:80", "^", "is no IPv4 address"},
        Mistake{"1.2.3:8080:80", "^", "is no IPv4 address"},
        Mistake{"7000:8080:80", "^", "is no IPv4 address"},
        Mistake{"169.254.0.1%eth0:8080:80", "           ^", "its name holds no"},
        Mistake{"localhost:8080:80", "^", "write 127.0.0.1 or [::1]"},
        Mistake{"sixteen-letters-:8080:80", "               ^", "at most 15 characters"},
        Mistake{"e*:8080:80", " ^", "its name holds no"},
        Mistake{"7-8:8080:80", "^", "neither an address nor an interface"}));

INSTANTIATE_TEST_SUITE_P(Characters, PortSpecMistakes,
                         testing::Values(Mistake{" 8080:80", "^", "there is a space"},
                                         Mistake{"8080: 80", "     ^", "there is a space"},
                                         Mistake{"8080:80 ", "       ^", "there is a space"}));

TEST(PortSpec, WhatIsNotPrintableIsNotShown) {
  const std::pair<std::string, std::string> cases[] = {{"80\xc3\xa9:80", "80??:80\n    ^"},
                                                       {std::string("80\0:80", 6), "80?:80\n    ^"},
                                                       {"80\x1b[2J:80", "80?[2J:80\n    ^"},
                                                       {"80\t:80", "80?:80\n    ^"}};
  for (const auto& [text, shown] : cases) {
    const std::string message(ParsePortSpec(text).status().message());
    EXPECT_THAT(message, testing::EndsWith("\n  " + shown));
  }
}

TEST(PortSpec, TooLongIsNotShownAtAll) {
  const std::string text(kPortSpecBytesMax + 1, '1');
  const std::string message(ParsePortSpec(text).status().message());
  EXPECT_THAT(message, HasSubstr("1025 characters"));
  EXPECT_THAT(message, Not(HasSubstr("1111")));
}

TEST(PortSpec, ExclusionsAreLimited) {
  PortSpec spec{.host = {1, 1000}, .guest = {1, 1000}};
  spec.excluded.assign(kExcludedCountMax, PortRange{7, 8});
  EXPECT_EQ(Parsed(ToString(spec)), spec);
  spec.excluded.push_back({9, 9});
  EXPECT_THAT(std::string(Validate(spec).message()), HasSubstr("at most 64"));
  EXPECT_FALSE(ParsePortSpec(ToString(spec)).ok());
}

TEST(PortSpec, TheLongestTextIsRead) {
  PortSpec spec{.place = At("fe80:1111:1111:1111:1111:1111:1111:1111", "fifteen_letters"),
                .host = {10001, 65535},
                .guest = {10001, 65535},
                .protocol = PortProtocol::kUdp};
  spec.excluded.assign(kExcludedCountMax, PortRange{10002, 65534});
  EXPECT_EQ(Parsed(ToString(spec)), spec);
}

TEST(PortSpec, ValidateFindsWhatNoTextSaid) {
  const PortSpec good{.host = {8080, 8080}, .guest = {80, 80}};
  EXPECT_TRUE(Validate(good).ok());
  const auto says = [&](auto change) {
    PortSpec spec = good;
    change(spec);
    const absl::Status status = Validate(spec);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << ToString(spec);
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("\n")));
    return std::string(status.message());
  };
  EXPECT_THAT(says([](PortSpec& s) { s.guest = {}; }), HasSubstr("1 to 65535"));
  EXPECT_THAT(says([](PortSpec& s) { s.guest.last = 81; }), HasSubstr("as many"));
  EXPECT_THAT(says([](PortSpec& s) { s.host = {0, 1}; }), HasSubstr("cannot hold 0"));
  EXPECT_THAT(says([](PortSpec& s) { s.host = {9, 8}; }), HasSubstr("go down"));
  EXPECT_THAT(says([](PortSpec& s) { s.guest = {9, 8}; }), HasSubstr("go down"));
  EXPECT_THAT(says([](PortSpec& s) { s.excluded = {{1, 1}}; }), HasSubstr("not within"));
  EXPECT_THAT(says([](PortSpec& s) { s.place = On(""); }), HasSubstr("empty"));
  EXPECT_THAT(says([](PortSpec& s) { s.place = On("a b"); }), HasSubstr("printable"));
  EXPECT_THAT(says([](PortSpec& s) { s.place = On("a\xc3\xa9"); }), HasSubstr("printable"));
  EXPECT_THAT(says([](PortSpec& s) { s.place = At("127.0.0.1", "lo"); }), HasSubstr("only lo"));
  EXPECT_THAT(says([](PortSpec& s) { s.place = At("::ffff:1.2.3.4"); }), HasSubstr("1.2.3.4"));
  EXPECT_THAT(says([](PortSpec& s) { s.place = At("fe80::1"); }), HasSubstr("%eth0"));
}

TEST(PortSpec, Names) {
  EXPECT_EQ(Name(PortProtocol::kTcp), "tcp");
  EXPECT_EQ(Name(PortProtocol::kUdp), "udp");
  for (const char* name : {"gateway", "preserve-source", "proxy-protocol"}) {
    ASSERT_TRUE(ClientIdentityNamed(name).has_value()) << name;
    EXPECT_EQ(Name(*ClientIdentityNamed(name)), name);
  }
  EXPECT_FALSE(ClientIdentityNamed("Gateway").has_value());
  EXPECT_FALSE(ClientIdentityNamed("").has_value());
}

// Valid specs of every shape, at random.
class Specs final {
 public:
  PortSpec Next() {
    PortSpec spec{.place = Place()};
    spec.protocol = Below(2) == 0 ? PortProtocol::kTcp : PortProtocol::kUdp;
    spec.guest = Range();
    if (Below(5) == 0) return spec;  // host ports that the system chooses
    const uint32_t count = spec.guest.count();
    const auto first = static_cast<uint16_t>(1 + Below(65536 - count));
    spec.host = {first, static_cast<uint16_t>(first + count - 1)};
    // The last port stays.
    for (uint32_t i = Below(6); i > 0 && count > 1; --i) {
      const auto from = static_cast<uint16_t>(first + Below(count - 1));
      const auto to = static_cast<uint16_t>(from + Below(spec.host.last - from));
      spec.excluded.push_back({from, to});
    }
    return spec;
  }

 private:
  uint32_t Below(uint32_t bound) { return static_cast<uint32_t>(random_() % bound); }

  PortRange Range() {
    const auto first = static_cast<uint16_t>(1 + Below(65535));
    const uint32_t more = Below(2) == 0 ? 0 : Below(65536 - first);
    return {first, static_cast<uint16_t>(first + more)};
  }

  BindPlace Place() {
    switch (Below(5)) {
      case 0:
        return Everywhere();
      case 1:
        return On(Interface().c_str());
      case 2:
        return {.address = IpAddress::V4(uint8_t(Below(256)), uint8_t(Below(256)),
                                         uint8_t(Below(256)), uint8_t(Below(256)))};
      default: {
        IpAddress address{.family = Family::kIpv6};
        for (uint8_t& byte : address.bytes) byte = Below(3) == 0 ? uint8_t(Below(256)) : 0;
        address.bytes[0] = 0xfd;
        if (Below(2) == 0) return {.address = address};
        address.bytes[0] = 0xfe;
        address.bytes[1] = 0xbf;
        return {.address = address, .interface = Interface()};
      }
    }
  }

  std::string Interface() {
    std::string name;
    for (uint32_t length = Below(15); name.size() < length;) {
      const char c = static_cast<char>('!' + Below('~' - '!' + 1));
      if (std::string_view("/:%*[]").find(c) == std::string_view::npos) name += c;
    }
    return name + 'x';
  }

  std::mt19937_64 random_{20240607};
};

TEST(PortSpec, WhatIsWrittenIsReadAsTheSame) {
  Specs specs;
  for (int i = 0; i < 20'000; ++i) {
    const PortSpec spec = specs.Next();
    const std::string text = ToString(spec);
    ASSERT_TRUE(Validate(spec).ok()) << text << ": " << Validate(spec);
    const absl::StatusOr<PortSpec> again = ParsePortSpec(text);
    ASSERT_TRUE(again.ok()) << again.status();
    ASSERT_EQ(*again, spec) << text;
    ASSERT_EQ(ToString(*again), text);
  }
}

}  // namespace
}  // namespace penstock
