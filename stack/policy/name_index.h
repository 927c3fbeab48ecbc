// From a name to the rules of a policy that mean it: by the whole name, and by each name
// that it is below of. A name has up to 126 of those; only those with as many labels as some
// rule's name are looked up, which in most policies are two or three.
//
// Immutable once built; any thread.
#ifndef PENSTOCK_STACK_POLICY_NAME_INDEX_H_
#define PENSTOCK_STACK_POLICY_NAME_INDEX_H_

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "stack/policy/canonical_name.h"
#include "stack/policy/rule_tables.h"
#include "stack/tcpip/siphash.h"

namespace penstock {

class NameIndex final {
 public:
  // The rules that mean a name: those that allow need more than the name to match.
  struct Tables {
    RuleTables::Id allow = RuleTables::kEmpty;
    RuleTables::Id deny = RuleTables::kEmpty;
  };

  NameIndex() : exact_(0, NameHash{RandomSipKey()}), below_(0, NameHash{RandomSipKey()}) {}

  // `name` is canonical, and added once for each `is_below`.
  void Add(std::string_view name, bool is_below, const Tables& tables);
  [[nodiscard]] bool empty() const { return exact_.empty() && below_.empty(); }

  // Calls visit(tables) for each entry that means `name`, which is canonical.
  template <typename Visit>
  void ForEach(std::string_view name, Visit&& visit) const {
    if (const auto found = exact_.find(name); found != exact_.end()) visit(found->second);
    if (below_.empty()) return;
    // From the last label to the first, which has nothing in front: it is below of nothing.
    size_t labels = 1;
    for (size_t dot = name.rfind('.'); dot != std::string_view::npos && labels < labels_.size();
         dot = dot == 0 ? std::string_view::npos : name.rfind('.', dot - 1), ++labels) {
      if (!labels_[labels]) continue;
      const auto found = below_.find(name.substr(dot + 1));
      if (found != below_.end()) visit(found->second);
    }
  }

 private:
  struct NameHash {
    using is_transparent = void;
    SipKey key;
    size_t operator()(std::string_view name) const {
      return SipHash(key, {reinterpret_cast<const uint8_t*>(name.data()), name.size()});
    }
  };
  struct NameEqual {
    using is_transparent = void;
    bool operator()(std::string_view a, std::string_view b) const { return a == b; }
  };
  using Map = absl::flat_hash_map<std::string, Tables, NameHash, NameEqual>;

  Map exact_, below_;
  // Of how many labels a name in `below_` is.
  std::bitset<kNameBytesMax / 2 + 2> labels_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_POLICY_NAME_INDEX_H_
