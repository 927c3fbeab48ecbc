#include "tools/penstock/text_table.h"

#include <algorithm>
#include <chrono>
#include <iterator>

#include "absl/strings/str_format.h"

namespace penstock::tool {

std::string TextTable(const std::vector<std::vector<std::string>>& lines, size_t first_number) {
  std::vector<size_t> widths(lines.empty() ? 0 : lines[0].size());
  for (const auto& cells : lines) {
    for (size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], cells[i].size());
  }
  std::string text;
  for (const auto& cells : lines) {
    for (size_t i = 0; i < widths.size(); ++i) {
      const int width = static_cast<int>(widths[i]);
      absl::StrAppendFormat(&text, "%s%*s", i == 0 ? "" : "  ", i < first_number ? -width : width,
                            cells[i]);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  }
  return text;
}

std::string BytesText(double bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < std::size(kUnits); ++unit) bytes /= 1024;
  if (unit == 0) return absl::StrFormat("%.0f %s", bytes, kUnits[unit]);
  return absl::StrFormat("%.1f %s", bytes, kUnits[unit]);
}

std::string RateText(double bytes, Duration time) {
  const double seconds = std::chrono::duration<double>(time).count();
  return seconds > 0 ? BytesText(bytes / seconds) + "/s" : "-";
}

std::string AgeText(Duration age) {
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(age).count();
  if (milliseconds < 1'000) return absl::StrFormat("%d ms", milliseconds);
  if (milliseconds < 60'000) {
    return absl::StrFormat("%.1f s", static_cast<double>(milliseconds) / 1'000);
  }
  const int64_t seconds = milliseconds / 1'000;
  if (seconds < 3'600) return absl::StrFormat("%d:%02d", seconds / 60, seconds % 60);
  return absl::StrFormat("%d:%02d:%02d", seconds / 3'600, seconds / 60 % 60, seconds % 60);
}

std::string Printable(std::string_view text) {
  std::string shown(text);
  std::replace_if(
      shown.begin(), shown.end(), [](char c) { return c < ' ' || c == 127; }, '?');
  return shown;
}

}  // namespace penstock::tool
