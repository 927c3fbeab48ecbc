#include "stack/policy/rule_tables.h"

#include <algorithm>
#include <functional>
#include <queue>

namespace penstock {
namespace {

// `rule` has the ports from `first` up to, and without, `end`.
struct Span {
  uint32_t first = 0;
  uint32_t end = 0;
  uint32_t rule = kNoRule;
};

constexpr uint32_t kPortEnd = 65'536;

bool Applies(const RuleTables::Use& use, PolicyProtocol protocol) {
  if (use.icmp_only && protocol != PolicyProtocol::kIcmp) return false;
  return use.target->has(protocol);
}

std::vector<Span> SpansOf(std::span<const RuleTables::Use> uses, PolicyProtocol protocol) {
  std::vector<Span> spans;
  for (const RuleTables::Use& use : uses) {
    if (!Applies(use, protocol)) continue;
    if (use.target->ports.empty()) {
      spans.push_back({.first = 0, .end = kPortEnd, .rule = use.rule});
      break;  // whatever comes later is never the first
    }
    for (const PortRange& range : use.target->ports) {
      spans.push_back({.first = range.first, .end = uint32_t{range.last} + 1, .rule = use.rule});
    }
  }
  return spans;
}

}  // namespace

RuleTables::Ports RuleTables::AddPorts(std::span<const Use> uses, PolicyProtocol protocol) {
  std::vector<Span> spans = SpansOf(uses, protocol);
  if (spans.empty() || (spans.size() == 1 && spans[0].end == kPortEnd && spans[0].first == 0)) {
    return {.count = 0, .rule = spans.empty() ? kNoRule : spans[0].rule};
  }
  std::vector<uint32_t> cuts{0};
  for (const Span& span : spans) {
    cuts.push_back(span.first);
    if (span.end < kPortEnd) cuts.push_back(span.end);
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  std::sort(spans.begin(), spans.end(),
            [](const Span& a, const Span& b) { return a.first < b.first; });
  // Of the spans that have begun, the one whose rule comes first on top; those that have
  // ended go when they come up.
  const auto later = [](const Span& a, const Span& b) { return a.rule > b.rule; };
  std::priority_queue<Span, std::vector<Span>, decltype(later)> begun(later);
  const auto at = static_cast<uint32_t>(starts_.size());
  auto next = spans.begin();
  for (const uint32_t cut : cuts) {
    for (; next != spans.end() && next->first <= cut; ++next) begun.push(*next);
    while (!begun.empty() && begun.top().end <= cut) begun.pop();
    const uint32_t rule = begun.empty() ? kNoRule : begun.top().rule;
    if (starts_.size() > at && starts_.back().rule == rule) continue;
    starts_.push_back({.port = static_cast<uint16_t>(cut), .rule = rule});
  }
  const uint32_t count = static_cast<uint32_t>(starts_.size()) - at;
  return {.count = count, .at = count > kBisectedMax ? AddPages(at) : at};
}

uint32_t RuleTables::AddPages(uint32_t at) {
  const auto pages_at = static_cast<uint32_t>(pages_.size());
  for (uint32_t page = 0; page < kPageCount; ++page) {
    while (at + 1 < starts_.size() && starts_[at + 1].port <= page << kPageBits) ++at;
    pages_.push_back(at);
  }
  pages_.push_back(static_cast<uint32_t>(starts_.size() - 1));
  return pages_at;
}

RuleTables::Id RuleTables::Add(std::span<const Use> uses) {
  if (uses.empty()) return kEmpty;
  Table table;
  table.tcp = AddPorts(uses, PolicyProtocol::kTcp);
  table.udp = AddPorts(uses, PolicyProtocol::kUdp);
  table.first = uses.front().rule;
  for (const Use& use : uses) {
    if (Applies(use, PolicyProtocol::kIcmp)) table.icmp = std::min(table.icmp, use.rule);
    const bool says_yes = use.allow && (!use.icmp_only || Applies(use, PolicyProtocol::kIcmp));
    const bool says_no = !use.allow && use.target->is_whole();
    if (says_yes || says_no) table.reach = std::min(table.reach, use.rule);
  }
  tables_.push_back(table);
  return static_cast<Id>(tables_.size() - 1);
}

}  // namespace penstock
