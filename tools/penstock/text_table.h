// Tables and quantities for people. Any thread.
#ifndef PENSTOCK_TOOLS_PENSTOCK_TEXT_TABLE_H_
#define PENSTOCK_TOOLS_PENSTOCK_TEXT_TABLE_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "relay/time.h"

namespace penstock::tool {

// A line for each of `lines`, which all have as many cells; the first is the heading. Cells
// from the column `first_number` on stand at the right of their column.
[[nodiscard]] std::string TextTable(const std::vector<std::vector<std::string>>& lines,
                                    size_t first_number);

// "12.3 MiB".
[[nodiscard]] std::string BytesText(double bytes);
// "1.2 KiB/s"; "-" for no time at all.
[[nodiscard]] std::string RateText(double bytes, Duration time);
// "250 ms", "1.5 s", "12:34", "3:12:34": to three digits or to the second.
[[nodiscard]] std::string AgeText(Duration age);
// With "?" for whatever a terminal would not show as one character: texts come from a sandbox.
[[nodiscard]] std::string Printable(std::string_view text);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_TEXT_TABLE_H_
