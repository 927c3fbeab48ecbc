// Any thread.
#include "stack/service/domain_names.h"

#include <algorithm>
#include <utility>

namespace penstock {
namespace {

constexpr size_t kLabelBytesMax = 63, kNameBytesMax = 253;

bool IsLabel(std::string_view label) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  };
  return !label.empty() && label.size() <= kLabelBytesMax && std::ranges::all_of(label, plain);
}

// The label at the front of `name`, which becomes what is behind it.
std::string_view TakeLabel(std::string_view& name) {
  const size_t dot = name.find('.');
  const std::string_view label = name.substr(0, dot);
  name = dot == std::string_view::npos ? std::string_view() : name.substr(dot + 1);
  return label;
}

}  // namespace

bool IsDomainName(std::string_view name) {
  if (name.ends_with('.')) name.remove_suffix(1);
  if (name.empty() || name.size() > kNameBytesMax || name.ends_with('.')) return false;
  while (!name.empty()) {
    if (!IsLabel(TakeLabel(name))) return false;
  }
  return true;
}

std::vector<uint8_t> EncodeDomainNames(std::span<const std::string> names) {
  std::vector<uint8_t> bytes;
  for (std::string_view name : names) {
    while (!name.empty()) {
      const std::string_view label = TakeLabel(name);
      bytes.push_back(static_cast<uint8_t>(label.size()));
      bytes.insert(bytes.end(), label.begin(), label.end());
    }
    bytes.push_back(0);
  }
  return bytes;
}

std::vector<std::string> DecodeDomainNames(std::span<const uint8_t> bytes) {
  std::vector<std::string> names;
  std::string name;
  while (!bytes.empty()) {
    const size_t length = bytes[0];
    if (length >= bytes.size()) break;
    const std::string label(bytes.begin() + 1, bytes.begin() + 1 + static_cast<ptrdiff_t>(length));
    bytes = bytes.subspan(1 + length);
    if (length > 0) {
      if (!IsLabel(label)) break;
      name += (name.empty() ? "" : ".") + label;
      if (name.size() > kNameBytesMax) break;
    } else {
      if (name.empty()) break;
      names.push_back(std::exchange(name, {}));
    }
  }
  return names;
}

}  // namespace penstock
