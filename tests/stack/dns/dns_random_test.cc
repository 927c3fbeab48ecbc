// A guest that asks at random and upstreams that answer at random, late, twice, falsely or
// not at all: each question gets one answer or is counted as lost, every counter adds up, and
// nothing is left. The same runs each time, by their seeds.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "tests/stack/dns/dns_rig.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

class RandomRun final {
 public:
  explicit RandomRun(uint32_t seed) : random_(seed), rig_(MakeConfig()) {
    rig_.policy.may_ask = [](const std::string& name) { return name != "n7.test"; };
    rig_.policy.may_answer = [](const std::string& name, const std::string&) {
      return name == "n3.test";
    };
  }

  void Go() {
    for (int i = 0; i < 1'500; ++i) {
      Step();
      Collect();
    }
    for (int i = 0; i < 6; ++i) {
      rig_.Wait(2s);
      Collect();
    }
    Verify();
  }

 private:
  static Config MakeConfig() {
    Config config;
    config.dns.upstreams = {DnsRig::kFirst, DnsRig::kSecond};
    config.dns.outstanding_max = 24;
    return config;
  }
  [[nodiscard]] uint32_t Dice(uint32_t sides) { return random_() % sides; }

  void Step() {
    switch (Dice(8)) {
      case 0:
      case 1:
      case 2:
        return Ask();
      case 3:
        rig_.Wait(std::chrono::milliseconds(Dice(4) == 0 ? Dice(2'500) : Dice(50)));
        return;
      default:
        return AnswerSome();
    }
  }
  void Ask() {
    const auto port = static_cast<uint16_t>(5'000 + Dice(4));
    const auto id = static_cast<uint16_t>(Dice(30));
    const std::string name = "n" + std::to_string(Dice(10)) + ".test";
    rig_.Ask(DnsAsk({.name = name, .id = id}), port);
    ++asked_;
    ++waiting_[{port, id, DnsWireName(name)}];
  }
  // Something that an upstream may do with one of the questions that it has.
  void AnswerSome() {
    for (const DnsRig::Sent& sent : rig_.Questions()) open_.push_back(sent);
    if (open_.empty()) return;
    const size_t which = Dice(static_cast<uint32_t>(open_.size()));
    const DnsRig::Sent sent = open_[which];
    const uint32_t what = Dice(16);
    if (what != 0) open_.erase(open_.begin() + static_cast<ptrdiff_t>(which));  // else: twice
    if (sent.socket->closed) return;
    Bytes good = DnsAnswerTo(sent.message);
    AddDnsRecord(good, {.owner = {0xc0, 12},
                        .data = {static_cast<uint8_t>(Dice(4) == 0 ? 10 : 192), 0, 2, 1}});
    Put16(good, 6, 1);
    Bytes bad = good;
    switch (what) {
      case 1:  // lost
        return;
      case 2:
        return rig_.Fail(sent, FaultKind::kPort);
      case 3:
        return rig_.Fail(sent, FaultKind::kNoSocket);
      case 4:
        return rig_.AnswerTo(sent, DnsAnswerTo(sent.message, {}, 2));
      case 5:
        bad.resize(bad.size() - Dice(20));
        return rig_.AnswerTo(sent, bad);
      case 6:
        bad[Dice(static_cast<uint32_t>(bad.size()))] ^= static_cast<uint8_t>(1 + Dice(255));
        bad[2] |= 0x80;
        return rig_.AnswerTo(sent, bad);
      case 7:
        sent.socket->Arrive({Address("192.0.2.66"), 53}, good);
        return rig_.Pass();
      default:
        return rig_.AnswerTo(sent, good);
    }
  }
  void Collect() {
    for (const GuestDatagram& datagram : rig_.Received()) {
      const auto& message = datagram.payload;
      ASSERT_GE(message.size(), 12u);
      EXPECT_EQ(datagram.source, DnsRig::kDns4);
      EXPECT_NE(message[2] & 0x80, 0);
      Bytes name(message.begin() + 12, message.begin() + 12 + 9);
      for (uint8_t& byte : name) byte |= byte >= 'A' && byte <= 'Z' ? 0x20 : 0;  // one was changed
      int& waiting = waiting_[{datagram.destination.port, DnsIdOf(message), name}];
      EXPECT_GT(waiting, 0) << "an answer to nothing";
      --waiting;
      ++answered_;
    }
  }
  void Verify() {
    const Counters& counters = rig_.counters;
    EXPECT_EQ(rig_.service.outstanding(), 0u);
    EXPECT_EQ(asked_, answered_ + counters.dns_limit.value() + counters.dns_repeated.value());
    EXPECT_EQ(counters.dns_questions_udp.value(), asked_ - counters.dns_repeated.value());
    EXPECT_EQ(
        counters.dns_questions_udp.value(),
        counters.dns_denied.value() + counters.dns_limit.value() + counters.dns_forwarded.value());
    EXPECT_EQ(counters.dns_forwarded.value(), counters.dns_answered.value() +
                                                  counters.dns_rebinding_refused.value() +
                                                  counters.dns_servfail.value());
    rig_.Wait(10s);
    for (const auto& socket : PlayedSockets()) EXPECT_TRUE(socket->closed);
    EXPECT_EQ(rig_.service.NextDeadline(), kNever);
    // Each of them was met.
    EXPECT_GT(counters.dns_answered.value(), 0u);
    EXPECT_GT(counters.dns_denied.value(), 0u);
    EXPECT_GT(counters.dns_failovers.value(), 0u);
    EXPECT_GT(counters.dns_answers_false.value(), 0u);
  }

  std::mt19937 random_;
  DnsRig rig_;
  std::vector<DnsRig::Sent> open_;
  std::map<std::tuple<uint16_t, uint16_t, Bytes>, int> waiting_;
  uint64_t asked_ = 0, answered_ = 0;
};

TEST(DnsRandomTest, OneAnswerForEachQuestion) {
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(seed);
    RandomRun(seed).Go();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace penstock
