// For each destination that rules have: which of its rules comes first, for a protocol and
// a port. A policy has thousands of such tables, nearly all of them with one rule, so a
// table is 28 bytes in one array, and what some rules have ports for lies behind each other
// in a second one: for each protocol the ports are cut where another rule becomes the
// first, and found by bisection. Where there are many cuts, as in the table of all rules for
// any address, only those that begin with the same byte are bisected.
//
// Rules are their places in the policy, from 0: the lower one comes first. Immutable once
// filled; any thread.
#ifndef PENSTOCK_STACK_POLICY_RULE_TABLES_H_
#define PENSTOCK_STACK_POLICY_RULE_TABLES_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "stack/policy/policy.h"
#include "stack/policy/policy_text.h"

namespace penstock {

// After every rule.
inline constexpr uint32_t kNoRule = ~uint32_t{0};

class RuleTables final {
 public:
  using Id = uint32_t;
  // Of the table that is always there and has no rule.
  static constexpr Id kEmpty = 0;

  RuleTables() : tables_(1) {}

  // A rule that a table has: `target` says its protocols and ports.
  struct Use {
    uint32_t rule = kNoRule;
    const PolicyTarget* target = nullptr;
    bool allow = false;
    bool icmp_only = false;  // whatever `target` says
  };
  // `uses` in the order of the rules.
  [[nodiscard]] Id Add(std::span<const Use> uses);

  // The first rule for them; kNoRule: there is none.
  [[nodiscard]] uint32_t First(Id id, PolicyProtocol protocol, uint16_t port) const {
    const Table& table = tables_[id];
    if (protocol == PolicyProtocol::kIcmp) return table.icmp;
    const Ports& ports = protocol == PolicyProtocol::kTcp ? table.tcp : table.udp;
    return ports.count == 0 ? ports.rule : FirstForPort(ports, port);
  }
  // The first allow, for whatever port, or deny of everything (Policy::MayReach).
  [[nodiscard]] uint32_t FirstForReach(Id id) const { return tables_[id].reach; }
  // No rule of the table comes before this one.
  [[nodiscard]] uint32_t FirstOfAll(Id id) const { return tables_[id].first; }

 private:
  // `count` 0: `rule` is for all ports. Else, up to kBisectedMax, starts_ from `at` on; of
  // more, pages_ from `at` on.
  struct Ports {
    uint32_t count = 0;
    union {
      uint32_t rule = kNoRule;
      uint32_t at;
    };
  };
  struct Table {
    Ports tcp, udp;
    uint32_t icmp = kNoRule;
    uint32_t reach = kNoRule;
    uint32_t first = kNoRule;
  };
  struct Start {
    uint16_t port = 0;  // the first one that `rule` is for
    uint32_t rule = kNoRule;
  };

  // A table that has more was made by more text than its pages are long.
  static constexpr uint32_t kBisectedMax = 128;
  static constexpr uint32_t kPageBits = 8, kPageCount = 256;

  [[nodiscard]] uint32_t FirstForPort(const Ports& ports, uint16_t port) const {
    uint32_t at = ports.at, count = ports.count;
    if (count > kBisectedMax) {
      const uint32_t* page = pages_.data() + at + (port >> kPageBits);
      at = page[0];
      count = page[1] - at + 1;
    }
    // The last start that is not behind `port`; the first one is never behind it.
    const Start* start = starts_.data() + at;
    while (count > 1) {
      const uint32_t half = count / 2;
      start += start[half].port <= port ? half : 0;
      count -= half;
    }
    return start->rule;
  }
  [[nodiscard]] Ports AddPorts(std::span<const Use> uses, PolicyProtocol protocol);
  // For the starts from `at` to the last one.
  [[nodiscard]] uint32_t AddPages(uint32_t at);

  std::vector<Table> tables_;
  std::vector<Start> starts_;
  // Of each table with pages kPageCount + 1: where in starts_ the last one is that is not
  // behind the page's first port; and the last one of all.
  std::vector<uint32_t> pages_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_POLICY_RULE_TABLES_H_
