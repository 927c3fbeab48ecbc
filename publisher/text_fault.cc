#include "publisher/text_fault.h"

#include <algorithm>

namespace penstock {

absl::Status WrongText(std::string_view text, size_t column, std::string_view sentence) {
  std::string shown(text);
  std::replace_if(
      shown.begin(), shown.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return absl::InvalidArgumentError(
      Sentence(sentence, "\n  ", shown, "\n  ", std::string(column, ' '), "^"));
}

}  // namespace penstock
