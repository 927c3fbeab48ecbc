#include "stack/policy/name_index.h"

#include <algorithm>

namespace penstock {

void NameIndex::Add(std::string_view name, bool is_below, const Tables& tables) {
  (is_below ? below_ : exact_).emplace(std::string(name), tables);
  if (!is_below) return;
  labels_.set(1 + static_cast<size_t>(std::count(name.begin(), name.end(), '.')));
}

}  // namespace penstock
