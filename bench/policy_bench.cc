// Micro-benchmarks of the policy: what a decision costs with 10 rules and with 10,000, and
// what it costs to read and compile so many.
//
// Rules are a mixture: networks of both families, nested and apart, half of them with
// ports; ports of any address; groups; names and what is below of them. Half of the
// questions are about addresses inside of networks of the rules, half about any; a third
// shows a name, up to a quarter of the addresses have a pin. 4,096 questions are asked in turn, so
// the data of the rules competes for the caches with what asks.
#include <benchmark/benchmark.h>

#include <chrono>
#include <random>
#include <string>
#include <vector>

#include "stack/policy/name_pins.h"
#include "stack/policy/policy.h"

namespace penstock {
namespace {

constexpr Time kNow = Time() + std::chrono::hours(1);
constexpr size_t kQuestionCount = 4'096;

struct Question {
  std::string name;
  PolicyQuestion asked;
};

class Mixture final {
 public:
  explicit Mixture(int rule_count) {
    for (int i = 0; i < rule_count; ++i) AddRule();
    // A question for a name that no rule has is the one that all of them are about.
    if (names_.empty()) names_.push_back("www.example.test");
    for (size_t i = 0; i < kQuestionCount; ++i) AddQuestion();
    for (Question& question : questions_) question.asked.name = question.name;
  }

  [[nodiscard]] const std::string& text() const { return text_; }
  [[nodiscard]] const std::vector<Question>& questions() const { return questions_; }
  [[nodiscard]] const NamePins& pins() const { return pins_; }

 private:
  uint32_t Below(uint32_t bound) {
    return std::uniform_int_distribution<uint32_t>(0, bound - 1)(random_);
  }
  bool OneIn(uint32_t count) { return Below(count) == 0; }

  IpAddress AnAddress(bool v6) {
    IpAddress address;
    for (uint8_t& byte : address.bytes) byte = static_cast<uint8_t>(Below(256));
    if (!v6) {
      address =
          IpAddress::V4(address.bytes[0], address.bytes[1], address.bytes[2], address.bytes[3]);
    } else {
      address.family = Family::kIpv6;
      // As the internet is: the first half decides, and its front is nearly always the same.
      address.bytes[0] = 0x20 | (address.bytes[0] & 3);
    }
    return address;
  }

  static void Mask(IpAddress& address, uint32_t prefix_length) {
    for (uint32_t bit = prefix_length; bit < address.wire().size() * 8; ++bit) {
      address.bytes[bit / 8] &= static_cast<uint8_t>(~(0x80 >> bit % 8));
    }
  }

  std::string Ports() {
    const uint32_t port = 1 + Below(60'000);
    return ":" + std::to_string(port) + (OneIn(2) ? "" : "-" + std::to_string(port + 100)) +
           (OneIn(2) ? "/tcp" : "");
  }

  std::string Network() {
    const bool v6 = OneIn(3);
    // Some lie inside of one that was there before.
    const bool nested = !networks_.empty() && OneIn(4);
    IpAddress address =
        nested ? networks_[Below(static_cast<uint32_t>(networks_.size()))] : AnAddress(v6);
    const uint32_t length = address.is_v6() ? 24 + Below(41) : 8 + Below(25);
    Mask(address, length);
    networks_.push_back(address);
    const std::string network = address.ToString() + "/" + std::to_string(length);
    return (address.is_v6() ? "[" + network + "]" : network) + (OneIn(2) ? Ports() : "");
  }

  void AddRule() {
    text_ += OneIn(2) ? "allow egress " : "deny egress ";
    const uint32_t kind = Below(20);
    if (kind < 13) {
      text_ += Network();
    } else if (kind == 13) {
      text_ += "any" + Ports();
    } else if (kind == 14) {
      text_ += (OneIn(2) ? "@private" : "@public") + Ports();
    } else {
      names_.push_back("host" + std::to_string(Below(100'000)) + ".zone" +
                       std::to_string(Below(100)) + ".test");
      text_ += (kind == 15 ? "*." : "") + names_.back() + (OneIn(2) ? ":443" : "");
    }
    text_ += "\n";
  }

  void AddQuestion() {
    Question question;
    question.asked.protocol = OneIn(4) ? PolicyProtocol::kUdp : PolicyProtocol::kTcp;
    question.asked.looked = question.asked.protocol == PolicyProtocol::kUdp;
    question.asked.port = OneIn(2) ? 443 : static_cast<uint16_t>(1 + Below(65'535));
    question.asked.address = AnAddress(OneIn(3));
    if (OneIn(2) && !networks_.empty()) {
      question.asked.address = networks_[Below(static_cast<uint32_t>(networks_.size()))];
      question.asked.address.bytes[question.asked.address.is_v4() ? 3 : 15] |= 1;
    }
    const std::string& name = names_[Below(static_cast<uint32_t>(names_.size()))];
    const bool is_pinned = !pins_.Newest(question.asked.address, kNow).empty();
    if (OneIn(4) && !is_pinned)
      pins_.Add(name, question.asked.address, std::chrono::hours(1), kNow);
    if (OneIn(3)) question.name = name;
    questions_.push_back(std::move(question));
  }

  std::mt19937 random_{7};
  std::string text_;
  std::vector<IpAddress> networks_;
  std::vector<std::string> names_;
  std::vector<Question> questions_;
  NamePins pins_;
};

void BM_Decide(benchmark::State& state) {
  const Mixture mixture(static_cast<int>(state.range(0)));
  const auto policy = Policy::Parse(mixture.text());
  if (!policy.ok()) {
    state.SkipWithError(std::string(policy.status().message()).c_str());
    return;
  }
  const PolicyContext context{.gateway4 = IpAddress::V4(10, 0, 2, 2)};
  size_t next = 0;
  for (auto _ : state) {
    const Question& question = mixture.questions()[next++ % kQuestionCount];
    benchmark::DoNotOptimize((*policy)->Decide(question.asked, context, mixture.pins(), kNow));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_Decide)->Arg(10)->Arg(100)->Arg(1'000)->Arg(10'000)->Arg(60'000);

void BM_Parse(benchmark::State& state) {
  const Mixture mixture(static_cast<int>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(Policy::Parse(mixture.text()));
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Parse)->Arg(10)->Arg(10'000)->Arg(60'000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace penstock

BENCHMARK_MAIN();
