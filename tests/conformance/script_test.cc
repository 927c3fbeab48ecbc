// The language: what each line becomes, and that every mistake is named with its line and
// column.
#include "tests/conformance/script.h"

#include <gtest/gtest.h>

#include "stack/wire/packet.h"

namespace penstock::conformance {
namespace {

using namespace std::chrono_literals;

Script Parse(const std::string& lines, Family family = Family::kIpv4) {
  return ParseScript("s", "rfc 9293 3.5\n" + lines, family);
}
Step FirstStep(const std::string& line, Family family = Family::kIpv4) {
  return Parse(line, family).steps.at(0);
}
ScriptSegment Sent(const std::string& text, Family family = Family::kIpv4) {
  return std::get<Send>(FirstStep("> " + text, family).action).segment;
}
HostStep Host(const std::string& text) {
  return std::get<HostStep>(FirstStep("host " + text).action);
}

// What ParseScript says about `text`, which is wrong.
std::string Complaint(const std::string& text) {
  try {
    (void)ParseScript("s", text, Family::kIpv4);
  } catch (const ScriptError& error) {
    return error.what();
  }
  return "it was accepted";
}
std::string ComplaintAbout(const std::string& line) {
  return Complaint("rfc 9293 3.5\n" + line + "\n");
}

TEST(ScriptTest, HeaderLines) {
  const Script script = Parse(
      "rfc 5961 3.2  # why\n"
      "deviation It does something else.\n"
      "option mtu 4000\noption offload on\noption window 9000\noption guest_isn -1\n"
      "option stack_isn -3\noption keepalive_idle 1.5h\noption keepalive_probes 3\n"
      "\n# a comment\nnothing\n");
  ASSERT_EQ(script.sections.size(), 2u);
  EXPECT_EQ(script.sections[1], (Section{.rfc = 5961, .number = "3.2"}));
  EXPECT_EQ(script.deviation, "It does something else.");
  EXPECT_EQ(script.config.mtu, 4000u);
  EXPECT_TRUE(script.offload);
  EXPECT_EQ(script.window, 9000);
  EXPECT_EQ(script.guest_isn, 0xffff'ffffu);
  EXPECT_EQ(script.stack_isn, 0xffff'fffdu);
  EXPECT_EQ(script.config.keepalive_idle, 90min);
  EXPECT_EQ(script.config.keepalive_probes, 3);
  EXPECT_EQ(script.steps.size(), 1u);
  EXPECT_EQ(script.steps[0].line, 13);
}

TEST(ScriptTest, Segments) {
  const ScriptSegment syn = Sent("S 0:0(0) win 100 <mss 1460,sackOK,wscale 7>");
  EXPECT_EQ(syn.flags, kTcpSyn);
  EXPECT_EQ(syn.window, 100);
  EXPECT_EQ(syn.mss, 1460);
  EXPECT_EQ(syn.window_scale, 7);
  EXPECT_TRUE(syn.sack_permitted);

  const ScriptSegment data = Sent("PA 5:105(100) ack 7 <sack 9:11 -2:3> gso 20 junk");
  EXPECT_EQ(data.flags, kTcpPsh | kTcpAck);
  EXPECT_EQ(data.sequence, 5u);
  EXPECT_EQ(data.payload_bytes, 100u);
  EXPECT_EQ(data.acknowledgement, 7u);
  EXPECT_FALSE(data.window.has_value());
  EXPECT_EQ(data.sack, (std::vector<SackBlock>{{9, 11}, {0xffff'fffe, 3}}));
  EXPECT_EQ(data.gso_segment_bytes, 20);
  EXPECT_TRUE(data.junk);

  EXPECT_EQ(Sent(". -1:0(1) ack 1").sequence, 0xffff'ffffu);
  EXPECT_EQ(Sent("- 1:1(0)").flags, 0);
  EXPECT_EQ(Sent("UA 1:2(1) ack 1 urg 5").urgent_pointer, 5);
  EXPECT_EQ(Sent("S 0:0(0) <raw 01020304>").raw_options, (std::vector<uint8_t>{1, 2, 3, 4}));
  EXPECT_TRUE(std::get<Send>(FirstStep(">> . 1:1(0) ack 1").action).with_next);
}

// What a trace shows can be put into a script.
TEST(ScriptTest, SegmentsReadAsTheyAreWritten) {
  for (const char* text : {"SA 0:0(0) ack 1 win 65535 <mss 1460,sackOK,wscale 7>", "- 1:11(10)",
                           ". 1:101(100) ack -5 win 3 <sack 201:301 401:501> gso 50",
                           "FRA -7:-7(0) ack 2", "UA 1:2(1) ack 1 win 9 urg 5"}) {
    EXPECT_EQ(ToString(Sent(text)), text);
  }
}

TEST(ScriptTest, NumbersAreExpressionsOverTheFamily) {
  EXPECT_EQ(Sent(". mss+1:2*mss+1(mss) ack 1").sequence, 1461u);
  EXPECT_EQ(Sent(". mss+1:2*mss+1(mss) ack 1", Family::kIpv6).sequence, 1441u);
  EXPECT_EQ(Sent("S 0:0(0) <mss default_mss-2>", Family::kIpv6).mss, 1218);
  const Script script = Parse("option mtu 2000\nlet part = mss-60*2\n> . 1:part+1(part) ack 1\n");
  EXPECT_EQ(std::get<Send>(script.steps[0].action).segment.payload_bytes, 1840u);
}

TEST(ScriptTest, Times) {
  const auto when = [](const std::string& text) { return FirstStep(text).when; };
  EXPECT_EQ(when("< . 1:1(0) ack 1").latest, 0s);
  EXPECT_EQ(when("+0.3s < . 1:1(0) ack 1").earliest, 300ms);
  EXPECT_EQ(when("+0.3s < . 1:1(0) ack 1").latest, 300ms);
  EXPECT_EQ(when("+<=2min < . 1:1(0) ack 1").earliest, 0s);
  EXPECT_EQ(when("+<=2min < . 1:1(0) ack 1").latest, 2min);
  EXPECT_EQ(when("+10ms..1.5s < . 1:1(0) ack 1").earliest, 10ms);
  EXPECT_EQ(when("+10ms..1.5s < . 1:1(0) ack 1").latest, 1500ms);
  EXPECT_EQ(when("+7us > . 1:1(0) ack 1").earliest, 7us);
  EXPECT_EQ(std::get<ExpectNothing>(FirstStep("nothing 2h").action).during, 2h);
}

TEST(ScriptTest, TheHost) {
  EXPECT_EQ(Host("accept").verb, HostVerb::kAccept);
  EXPECT_EQ(Host("slow 3s").delay, 3s);
  EXPECT_EQ(Host("write 2*mss").count, 2920u);
  EXPECT_EQ(Host("read 5").verb, HostVerb::kRead);
  EXPECT_EQ(Host("read on").verb, HostVerb::kReadOn);
  EXPECT_EQ(Host("stop reading").verb, HostVerb::kStopReading);
  EXPECT_EQ(Host("reset").verb, HostVerb::kReset);
  EXPECT_EQ(Host("reset seen").verb, HostVerb::kSawReset);
  EXPECT_EQ(Host("got 100").count, 100u);
}

TEST(ScriptTest, IcmpConnectAndAgain) {
  const auto icmp = std::get<SendIcmp>(FirstStep("> icmp too-big 1300 seq 1").action);
  EXPECT_EQ(icmp.mtu, 1300u);
  EXPECT_EQ(icmp.sequence, 1u);
  EXPECT_EQ(std::get<ExpectIcmp>(FirstStep("< icmp host").action).error, IcmpError::kHost);
  const ScriptSegment syn = std::get<Connect>(FirstStep("connect win 5").action).syn;
  EXPECT_EQ(syn.window, 5);
  EXPECT_EQ(syn.mss, 1460);
  EXPECT_FALSE(std::get<Connect>(FirstStep("connect <mss 9>").action).syn.sack_permitted);
  EXPECT_EQ(std::get<Again>(FirstStep("again +1000").action).sequence_step, 1000u);
}

TEST(ScriptTest, MistakesAreNamedWithLineAndColumn) {
  const std::pair<const char*, const char*> kMistakes[] = {
      {"send S 0:0(0)", "s:2:1: expected '>', '<', 'host', 'nothing', 'connect' or 'again'"},
      {"> X 0:0(0)", "s:2:3: expected flags such as S, SA, F or '.'"},
      {"> SS 0:0(0)", "s:2:3: these are no flags"},
      {"> S 0:5(4)", "s:2:5: this does not add up"},
      {"> S 0:0", "s:2:8: expected '('"},
      {"> . 1:1(0)", "s:2:11: expected 'ack'"},
      {"> S 0:0(0) win 70000", "s:2:16: 70000 is not within 0 and 65535"},
      {"> S 0:0(0) <mss>", "s:2:16: expected a number"},
      {"> S 0:0(0) <colour 7>", "s:2:13: 'colour' is no TCP option that is known here"},
      {"> S 0:0(0) <mss 7", "s:2:18: expected '>'"},
      {"< S 0:0(0) <raw 00000000>", "s:2:13: 'raw' is no TCP option that is known here"},
      {"> S 0:0(0) <raw 000>", "s:2:17: expected hexadecimal digits of 4, 8, ... bytes"},
      {"> S nss:0(0)", "s:2:5: nothing is called 'nss'"},
      {"> S 0:0(0) more", "s:2:12: nothing more was expected on this line"},
      {"< . 1:1(0) ack 1 junk", "s:2:18: nothing more was expected on this line"},
      {"+3 > S 0:0(0)", "s:2:3: expected us, ms, s, min or h"},
      {"+0.0000001s > S 0:0(0)", "s:2:2: a duration with too many digits"},
      {"+2s..1s < S 0:0(0)", "s:2:2: the later time stands first"},
      {"+<=1s > S 0:0(0)", "s:2:1: only an expected segment may come between two times"},
      {"host dances", "s:2:6: the host knows no 'dances'"},
      {"host write", "s:2:11: expected a number"},
      {"option speed 7", "s:2:8: there is no option 'speed'"},
      {"option offload maybe", "s:2:16: expected on or off"},
      {"let mss = 7", "s:2:1: 'mss' is taken"},
      {"> icmp mtu seq 1", "s:2:8: expected port, host, network or prohibited"},
      {"> . 999999999999*99:1(0) ack 1", "s:2:5: a number beyond all bounds"}};
  for (const auto& [line, complaint] : kMistakes) EXPECT_EQ(ComplaintAbout(line), complaint);
}

TEST(ScriptTest, MistakesOfTheWhole) {
  EXPECT_EQ(Complaint("nothing\n"), "s:1:1: no 'rfc' line says what this script shows");
  EXPECT_EQ(Complaint("rfc 9293 3.5\n"), "s:1:1: a script without a step");
  EXPECT_EQ(Complaint("rfc 9293 3.5\nnothing\noption mtu 1400\n"),
            "s:3:1: this line belongs before the first step");
  EXPECT_EQ(Complaint("rfc 9293\n"), "s:1:9: expected the number of a section");
  EXPECT_EQ(Complaint("rfc 9293 3.5\ndeviation\nnothing\n"), "s:2:10: expected a sentence");
}

}  // namespace
}  // namespace penstock::conformance
