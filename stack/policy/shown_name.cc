#include "stack/policy/shown_name.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "stack/policy/shown_http.h"
#include "stack/policy/shown_tls.h"

namespace penstock {

ShownName FindShownName(std::span<const uint8_t> first_bytes) {
  if (first_bytes.empty()) return {};
  const auto bytes = first_bytes.first(std::min(first_bytes.size(), kShownBytesMax));
  ShownName found = MayBeTls(bytes) ? ShownByTls(bytes) : ShownByHttp(bytes);
  return bytes.size() < kShownBytesMax ? found : EndedName(found, bytes.size());
}

ShownName FindShownName(std::span<const std::span<const uint8_t>> pieces) {
  if (pieces.size() == 1) return FindShownName(pieces[0]);
  std::array<uint8_t, kShownBytesMax> together;
  size_t size = 0;
  for (const std::span<const uint8_t> piece : pieces) {
    const size_t count = std::min(piece.size(), together.size() - size);
    if (count > 0) std::memcpy(together.data() + size, piece.data(), count);
    size += count;
  }
  return FindShownName(std::span(together).first(size));
}

ShownName EndedName(ShownName found, size_t bytes) {
  if (found.kind != ShownName::Kind::kNeedMore) return found;
  found.kind = bytes == 0 ? ShownName::Kind::kNone : ShownName::Kind::kUnreadable;
  return found;
}

}  // namespace penstock
