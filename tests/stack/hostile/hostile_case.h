// What the tests of hostile frames share: a case is some frames and the causes by which
// the whole stack drops them; RunCase() shows that and what must hold after any of them.
//
// Each case is named after its class. CVE numbers name where other stacks fell to it: the
// frames are made from the descriptions of the classes.
#ifndef PENSTOCK_TESTS_STACK_HOSTILE_HOSTILE_CASE_H_
#define PENSTOCK_TESTS_STACK_HOSTILE_HOSTILE_CASE_H_

#include <gtest/gtest.h>

#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "tests/support/packet_builder.h"

namespace penstock::hostile {

struct Case {
  std::string name;
  Family family = Family::kIpv4;
  std::vector<Bytes> frames;
  // Every drop there is, after the time that a fragment may wait.
  std::map<DropCause, uint64_t> drops;
  // Frames to the guest: echo replies, or errors that quote one of `frames`.
  size_t answers = 0;
  // What an answer holds that no single frame does: data that came in parts.
  Bytes joined{};

  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }
};

// A stack meets the frames at once, and one by one. Nothing crashes; each drop has its
// name and count; what leaves holds only bytes that came in, and right checksums; what was
// held is given back when its time is over; and an echo is still answered.
void RunCase(const Case& c);

// With the family in front of the names.
[[nodiscard]] std::vector<Case> InBothFamilies(std::vector<Case> (*cases)(Family));

// One frame, dropped for the cause.
[[nodiscard]] inline Case One(const char* name, Family family, const Bytes& frame,
                              DropCause cause) {
  return {name, family, {frame}, {{cause, 1}}};
}

[[nodiscard]] inline bool IsV4(Family family) { return family == Family::kIpv4; }
[[nodiscard]] inline IpAddress Gateway(Family family) {
  return IsV4(family) ? kGateway4 : kGateway6;
}
[[nodiscard]] inline IpSpec ToGateway(Family family) {
  return {.source = Guest(family), .destination = Gateway(family)};
}
[[nodiscard]] inline IpSpec ToPeer(Family family) {
  return {.source = Guest(family), .destination = Peer(family)};
}
// Destination options of 8 * (units + 1) bytes, all of them padding.
[[nodiscard]] inline Extension PaddingOptions(uint8_t units) {
  Bytes body(size_t{units} * 8 + 7);
  body[0] = units;
  body[1] = 1;  // PadN
  body[2] = static_cast<uint8_t>(units * 8 + 4);
  return {60, body};
}
// IP protocol number of the family's ICMP.
[[nodiscard]] inline uint8_t IcmpNumber(Family family) { return IsV4(family) ? 1 : 58; }

// NOLINTNEXTLINE: GoogleTest's own macros.
#define PENSTOCK_HOSTILE(suite, cases)                                        \
  class suite : public testing::TestWithParam<Case> {};                       \
  INSTANTIATE_TEST_SUITE_P(Hostile, suite, testing::ValuesIn(cases),          \
                           [](const auto& test) { return test.param.name; }); \
  TEST_P(suite, IsDroppedByNameAndHarmsNothing) { RunCase(GetParam()); }

}  // namespace penstock::hostile

#endif  // PENSTOCK_TESTS_STACK_HOSTILE_HOSTILE_CASE_H_
