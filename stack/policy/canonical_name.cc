#include "stack/policy/canonical_name.h"

#include <algorithm>

#include "publisher/ascii.h"

namespace penstock {

std::optional<std::string> CanonicalName(std::string_view name) {
  if (name.ends_with('.')) name.remove_suffix(1);
  if (name.empty() || name.size() > kNameBytesMax) return std::nullopt;
  std::string canonical(name.size(), '\0');
  size_t label_bytes = 0;
  for (size_t i = 0; i < name.size(); ++i) {
    const char c = canonical[i] = ToLower(name[i]);
    if (c == '.') {
      if (label_bytes == 0) return std::nullopt;
      label_bytes = 0;
      continue;
    }
    const bool allowed = IsDigit(c) || IsLower(c) || c == '-' || c == '_';
    if (!allowed || ++label_bytes > kLabelBytesMax) return std::nullopt;
  }
  if (label_bytes == 0) return std::nullopt;
  return canonical;
}

bool LooksLikeIpv4(std::string_view name) {
  if (name.ends_with('.')) name.remove_suffix(1);
  std::string_view last = name.substr(name.rfind('.') + 1);  // npos + 1: all of it
  const bool hexadecimal = last.starts_with("0x") || last.starts_with("0X");
  if (hexadecimal) last.remove_prefix(2);
  if (last.empty()) return hexadecimal;
  return std::all_of(last.begin(), last.end(), [hexadecimal](char c) {
    return IsDigit(c) || (hexadecimal && ToLower(c) >= 'a' && ToLower(c) <= 'f');
  });
}

}  // namespace penstock
