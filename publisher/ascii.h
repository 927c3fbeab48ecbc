// What a character is, whatever the locale: absl/strings/ascii.h for char. Any thread.
#ifndef PENSTOCK_PUBLISHER_ASCII_H_
#define PENSTOCK_PUBLISHER_ASCII_H_

#include "absl/strings/ascii.h"

namespace penstock {

[[nodiscard]] inline bool IsDigit(char c) {
  return absl::ascii_isdigit(static_cast<unsigned char>(c));
}
[[nodiscard]] inline bool IsLower(char c) {
  return absl::ascii_islower(static_cast<unsigned char>(c));
}
// A space or a tab.
[[nodiscard]] inline bool IsBlank(char c) {
  return absl::ascii_isblank(static_cast<unsigned char>(c));
}
// No space and no control character.
[[nodiscard]] inline bool IsPrintable(char c) {
  return absl::ascii_isgraph(static_cast<unsigned char>(c));
}
[[nodiscard]] inline char ToLower(char c) {
  return absl::ascii_tolower(static_cast<unsigned char>(c));
}

}  // namespace penstock

#endif  // PENSTOCK_PUBLISHER_ASCII_H_
