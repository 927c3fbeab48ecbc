#include "tests/stack/hostile/hostile_case.h"

#include <algorithm>
#include <memory>

#include "stack/stack.h"
#include "tests/support/memory_link.h"

namespace penstock::hostile {
namespace {

constexpr Time kStart = Time{} + std::chrono::hours(24);
constexpr Duration kLongerThanFragmentsLive = std::chrono::seconds(11);

std::string NameOf(Family family) { return IsV4(family) ? "Ipv4" : "Ipv6"; }

class Target {
 public:
  Target() {
    auto owned = std::make_unique<MemoryLink>();
    link_ = owned.get();
    stack_ = Stack::Create({.follow_host_routes = false}, std::move(owned)).value();
    // The guest's MAC is known from here on.
    EXPECT_TRUE(AnswersEcho(Family::kIpv4));
  }

  void Send(const std::vector<Bytes>& frames) {
    for (const Bytes& frame : frames) link_->PushToHost(frame);
    while (stack_->Poll(now_) == now_) {
    }
  }
  [[nodiscard]] std::vector<Bytes> Answers() {
    std::vector<Bytes> answers;
    while (auto frame = link_->PopToGuest()) answers.push_back(std::move(frame->bytes));
    return answers;
  }
  void LetTimePass() {
    now_ += kLongerThanFragmentsLive;
    Send({});
  }
  [[nodiscard]] bool AnswersEcho(Family family) {
    const Bytes data{0x70, 0x65, 0x6e};
    Send({EthernetFrame(IpPacket(ToGateway(family), EchoRequest(family, data)))});
    const std::vector<Bytes> answers = Answers();
    return answers.size() == 1 && answers[0].size() == TransportAt(family) + 8 + data.size() &&
           answers[0][TransportAt(family)] == (IsV4(family) ? 0 : 129);
  }
  [[nodiscard]] CounterSnapshot counters() const { return stack_->Snapshot(); }

 private:
  Time now_ = kStart;
  MemoryLink* link_ = nullptr;
  std::unique_ptr<Stack> stack_;
};

// An echo reply's data, or an error's quote, is somewhere in what the guest sent; the
// checksum is right, the addresses are the gateway's and the guest's.
void ExpectNothingForeign(const Case& c, const Bytes& answer) {
  const size_t at = TransportAt(c.family);
  ASSERT_GE(answer.size(), at + 8);
  const std::span<const uint8_t> bytes = answer;
  EXPECT_TRUE(std::ranges::equal(bytes.first(6), kGuestMac));
  EXPECT_EQ(bytes[IsV4(c.family) ? 23 : 20], IcmpNumber(c.family));
  const size_t ends = IsV4(c.family) ? kIpAt + 12 : kIpAt + 8;
  const size_t address_bytes = IsV4(c.family) ? 4 : 16;
  EXPECT_TRUE(std::ranges::equal(bytes.subspan(ends, address_bytes), Gateway(c.family).wire()));
  EXPECT_TRUE(std::ranges::equal(bytes.subspan(ends + address_bytes, address_bytes),
                                 Guest(c.family).wire()));
  const auto transport = bytes.subspan(at);
  EXPECT_EQ(
      IsV4(c.family) ? SlowSum(transport) : SlowTransportSum(kGateway6, kGuest6, 58, transport),
      0xffff);
  const auto body = transport.subspan(8);
  EXPECT_TRUE(std::ranges::equal(c.joined, body) ||
              std::ranges::any_of(c.frames,
                                  [&](const Bytes& frame) {
                                    return !std::ranges::search(frame, body).empty() ||
                                           body.empty();
                                  }))
      << "an answer holds what nobody sent";
}

std::string ToString(const std::map<DropCause, uint64_t>& drops) {
  std::string text;
  for (const auto& [cause, count] : drops) {
    text += std::string(Name(cause)) + " " + std::to_string(count) + "\n";
  }
  return text;
}

std::map<DropCause, uint64_t> DropsOf(const CounterSnapshot& counters) {
  std::map<DropCause, uint64_t> drops;
  for (size_t i = 0; i < kDropCauseCount; ++i) {
    if (counters.drops[i] != 0) drops[static_cast<DropCause>(i)] = counters.drops[i];
  }
  return drops;
}

void RunInBatches(const Case& c, size_t batch) {
  Target target;
  for (size_t i = 0; i < c.frames.size(); i += batch) {
    const size_t count = std::min(batch, c.frames.size() - i);
    const auto first = c.frames.begin() + static_cast<std::ptrdiff_t>(i);
    target.Send({first, first + static_cast<std::ptrdiff_t>(count)});
  }
  const std::vector<Bytes> answers = target.Answers();
  EXPECT_EQ(answers.size(), c.answers);
  for (const Bytes& answer : answers) ExpectNothingForeign(c, answer);
  target.LetTimePass();
  EXPECT_TRUE(target.Answers().empty());

  const CounterSnapshot counters = target.counters();
  EXPECT_EQ(ToString(DropsOf(counters)), ToString(c.drops));
  EXPECT_EQ(counters.frames_to_host, counters.frames_consumed + counters.drops_total());
  EXPECT_EQ(counters.fragments_held, 0u);
  EXPECT_EQ(counters.buffer_bytes_to_host, 0u);
  EXPECT_EQ(counters.flows_opened, 0u);
  EXPECT_TRUE(target.AnswersEcho(Family::kIpv4));
  EXPECT_TRUE(target.AnswersEcho(Family::kIpv6));
}

}  // namespace

void RunCase(const Case& c) {
  for (const size_t batch : {c.frames.size(), size_t{1}}) {
    SCOPED_TRACE(batch);
    RunInBatches(c, batch);
  }
}

std::vector<Case> InBothFamilies(std::vector<Case> (*cases)(Family)) {
  std::vector<Case> all;
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    for (Case& c : cases(family)) {
      c.name = NameOf(family) + c.name;
      c.family = family;
      all.push_back(std::move(c));
    }
  }
  return all;
}

}  // namespace penstock::hostile
