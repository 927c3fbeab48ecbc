// Any bytes as the first of a connection. What they show must not depend on how they are
// cut, nor be taken back by what follows; a name is one that a rule could have.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "stack/policy/canonical_name.h"
#include "stack/policy/shown_name.h"

namespace {

using namespace penstock;
using Kind = ShownName::Kind;

void Require(bool holds) {
  if (!holds) std::abort();
}

void CheckCut(std::span<const uint8_t> bytes, size_t at, const ShownName& whole) {
  const std::array pieces{bytes.first(at), bytes.subspan(at)};
  Require(FindShownName(pieces) == whole);
  const ShownName front = FindShownName(bytes.first(at));
  Require(front.kind == Kind::kNeedMore || front == whole);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> bytes(data, size);
  const ShownName whole = FindShownName(bytes);
  Require((whole.kind == Kind::kName) == !whole.name.empty());
  if (whole.kind == Kind::kName) {
    Require(CanonicalName(whole.name) == whole.name);
    Require(!LooksLikeIpv4(whole.name));
  }
  if (size >= kShownBytesMax) Require(whole.kind != Kind::kNeedMore);
  Require(EndedName(whole, size).kind != Kind::kNeedMore);
  // All places of what is short, some of what is long.
  const size_t step = 1 + size / 256;
  for (size_t at = 0; at <= size; at += step) CheckCut(bytes, at, whole);
  return 0;
}
