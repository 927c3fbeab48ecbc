// That the player fails when it should: one script that passes, and what becomes of it
// with a mistake in it.
#include "tests/conformance/player.h"

#include <gtest/gtest.h>

#include "tests/conformance/guest_end.h"

namespace penstock::conformance {
namespace {

// Empty if the script passes, else what the player says.
std::string Played(const std::string& steps) {
  try {
    Play(ParseScript("s", "rfc 9293 3.5\n" + steps, Family::kIpv6));
  } catch (const ScriptError& error) {
    return error.what();
  }
  return "";
}

constexpr const char* kOpening =
    "> S 0:0(0) <mss mss>\nhost accept\n< SA 0:0(0) ack 1 win 65535 <mss mss>\n"
    "> . 1:1(0) ack 1\n";

// Plays `steps` behind a handshake.
std::string PlayedOpen(const std::string& steps) { return Played(kOpening + steps); }

void ExpectComplaint(const std::string& complaint, const std::string& part) {
  EXPECT_NE(complaint.find(part), std::string::npos)
      << "expected '" << part << "' in: " << (complaint.empty() ? "(it passed)" : complaint);
}

TEST(PlayerTest, WhatIsRightPasses) {
  EXPECT_EQ(PlayedOpen("> . 1:11(10) ack 1\n< . 1:1(0) ack 11\nhost got 10\n"
                       "host write 5\n< PA 1:6(5) ack 11 win 65535\n+0.3s < . 1:6(5) ack 11\n"
                       "> . 11:11(0) ack 6\nnothing 1h\n"),
            "");
}

TEST(PlayerTest, EachFieldIsCompared) {
  const std::pair<const char*, const char*> kWrong[] = {
      {"< RA 0:0(0) ack 1 <mss mss>", "the flags differ"},
      {"< SA 1:1(0) ack 1 <mss mss>", "the sequence number differs"},
      {"< SA 0:1(1) ack 1 <mss mss>", "the length differs"},
      {"< SA 0:0(0) ack 2 <mss mss>", "the acknowledgement differs"},
      {"< SA 0:0(0) ack 1 win 1 <mss mss>", "the window differs"},
      {"< SA 0:0(0) ack 1", "the options differ"},
      {"< SA 0:0(0) ack 1 <mss mss+1>", "the options differ"},
      {"< SA 0:0(0) ack 1 <mss mss,sackOK>", "the options differ"},
      {"< SA 0:0(0) ack 1 <mss mss,wscale 7>", "the options differ"},
      {"< SA 0:0(0) ack 1 <mss mss> gso 5", "the segmentation differs"}};
  for (const auto& [line, complaint] : kWrong) {
    ExpectComplaint(Played(std::string("> S 0:0(0) <mss mss>\nhost accept\n") + line + "\n"),
                    complaint);
  }
}

TEST(PlayerTest, TimesAreExact) {
  const auto first_repetition = [](const std::string& when) {
    return PlayedOpen("host write 5\n< . 1:6(5) ack 1\n" + when + " < . 1:6(5) ack 1\n");
  };
  EXPECT_EQ(first_repetition("+0.3s"), "");
  EXPECT_EQ(first_repetition("+<=0.3s"), "");
  EXPECT_EQ(first_repetition("+0.2s..0.4s"), "");
  ExpectComplaint(first_repetition("+0.31s"), "too early: +0.3s");
  ExpectComplaint(first_repetition("+0.29s"), "nothing came; the next is +0.3s");
  ExpectComplaint(first_repetition("+<=0.299999s"), "nothing came");
  ExpectComplaint(first_repetition(""), "nothing came");
}

TEST(PlayerTest, WhatIsNotExpectedFails) {
  // Before the guest's next segment, in a time of silence, and at the end.
  const std::string unexpected = "the script does not expect";
  ExpectComplaint(PlayedOpen("host write 5\n> . 1:1(0) ack 6\n"), unexpected);
  ExpectComplaint(PlayedOpen("host write 5\n< . 1:6(5) ack 1\nnothing 1s\n"), unexpected);
  ExpectComplaint(PlayedOpen("host write 5\n< . 1:6(5) ack 1\n+1s > . 1:1(0) ack 6\n"), unexpected);
  ExpectComplaint(PlayedOpen("host write 5\n"), unexpected);
}

TEST(PlayerTest, WhatTheHostSawMustBeNamed) {
  const std::string data = "> . 1:11(10) ack 1\n< . 1:1(0) ack 11\n";
  ExpectComplaint(PlayedOpen(data), "the host got 10 bytes more");
  ExpectComplaint(PlayedOpen(data + "host got 9\n"), "the host got 10 bytes");
  ExpectComplaint(PlayedOpen(data + "host got 10\nhost got 10\n"), "the host got 0 bytes");
  ExpectComplaint(PlayedOpen("> FA 1:1(0) ack 1\n< . 1:1(0) ack 2\n"), "the host saw an end, too");
  ExpectComplaint(PlayedOpen("> R 1:1(0)\n"), "the host saw a reset, too");
  ExpectComplaint(PlayedOpen("host eof\n"), "the host saw no end");
  ExpectComplaint(PlayedOpen("host reset seen\n"), "the host saw no reset");
  ExpectComplaint(PlayedOpen("host stop reading\nhost read 1\n"), "only 0 bytes are there");
  ExpectComplaint(Played("host write 1\n"), "the host was not dialled");
}

// Other bytes than the stream's are found, wherever they come out.
TEST(PlayerTest, ContentIsChecked) {
  ExpectComplaint(PlayedOpen("> . 1:11(10) ack 1 junk\n"), "the host got a wrong byte at 0");
}

TEST(PlayerTest, ComplaintsHaveLineAndConversation) {
  const std::string complaint = PlayedOpen("> . 1:1(0) ack 1\n< . 1:1(0) ack 2\n");
  ExpectComplaint(complaint, "s:7: < . 1:1(0) ack 2");
  ExpectComplaint(complaint, "0.000000 < SA 0:0(0) ack 1 win 65535 <mss 1440>");
}

// What a script need not ask for.
class GuestEndTest : public testing::Test {
 protected:
  GuestEndTest() : script_(ParseScript("s", "rfc 9293 3.5\nnothing\n", Family::kIpv4)) {}

  // The stack's frame with this segment, as the guest's end sees it.
  std::string Decoded(const ScriptSegment& segment, Stream stream = Stream::kToGuest) {
    GuestSegment raw{.source = {IpAddress::V4(192, 0, 2, 80), 80},
                     .destination = {script_.config.ipv4.guest, 40'001},
                     .flags = segment.flags,
                     .sequence = segment.sequence,
                     .acknowledgement = segment.acknowledgement + script_.guest_isn,
                     .window = segment.window.value_or(1000)};
    for (uint32_t i = 0; i < segment.payload_bytes; ++i) {
      raw.payload += static_cast<char>(StreamByte(stream, segment.sequence - 1 + i));
    }
    try {
      const EncodedFrame frame = EncodeFrame({}, raw);
      (void)end_.Decode(frame.bytes, frame.offload);
    } catch (const ScriptError& error) {
      return error.what();
    }
    return "";
  }

  const Script script_;
  GuestEnd end_{script_};
};

TEST_F(GuestEndTest, EverySegmentIsHeldAgainstWhatNoTcpDoes) {
  (void)end_.Encode(ScriptSegment{.flags = kTcpSyn});
  EXPECT_EQ(Decoded({.flags = kTcpAck, .sequence = 1, .payload_bytes = 5, .acknowledgement = 1}),
            "");
  ExpectComplaint(Decoded({.flags = kTcpAck, .sequence = 1, .payload_bytes = 5}, Stream::kToHost),
                  "not the host's at this place");
  ExpectComplaint(Decoded({.flags = kTcpAck, .sequence = 1, .acknowledgement = 2}),
                  "an ACK of what was not sent");
  ExpectComplaint(Decoded({.flags = kTcpAck, .sequence = 1, .acknowledgement = 1, .window = 999}),
                  "a window that shrinks");
  ExpectComplaint(Decoded({.flags = kTcpAck, .sequence = 1, .payload_bytes = 1'461}),
                  "a segment over the MTU");
}

TEST_F(GuestEndTest, SegmentsForNobodyAreNamed) {
  const EncodedFrame frame = EncodeFrame({}, {.source = {IpAddress::V4(1, 2, 3, 4), 5},
                                              .destination = {script_.config.ipv4.guest, 6},
                                              .flags = kTcpAck});
  EXPECT_THROW((void)end_.Decode(frame.bytes, {}), ScriptError);
}

}  // namespace
}  // namespace penstock::conformance
