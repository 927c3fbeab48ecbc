// How the place of a mistake in what a user wrote is shown. Any thread.
#ifndef PENSTOCK_PUBLISHER_TEXT_FAULT_H_
#define PENSTOCK_PUBLISHER_TEXT_FAULT_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace penstock {

// The parts put together: absl::StrCat for std::string_view, which Debian's lacks.
template <typename... Parts>
[[nodiscard]] std::string Sentence(const Parts&... parts) {
  std::string text;
  (text.append(std::string_view(parts)), ...);
  return text;
}

// The sentence, the text, and a caret under `column` (from 0): three lines. What is not
// printable ASCII is shown as "?".
[[nodiscard]] absl::Status WrongText(std::string_view text, size_t column,
                                     std::string_view sentence);

}  // namespace penstock

#endif  // PENSTOCK_PUBLISHER_TEXT_FAULT_H_
