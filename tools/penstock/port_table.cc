#include "tools/penstock/port_table.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/penstock/ports.h"

namespace penstock::tool {
namespace {

constexpr size_t kColumnCount = 8;
// Numbers, from here on, stand at the right of their column.
constexpr size_t kFirstNumber = 4;
using Cells = std::array<std::string, kColumnCount>;

Cells CellsOf(const PortRow& row) {
  return {row.bound,
          row.guest,
          row.protocol,
          row.identity,
          absl::StrCat(row.flows_live),
          absl::StrCat(row.flows_total),
          BytesText(static_cast<double>(row.bytes_to_guest)),
          BytesText(static_cast<double>(row.bytes_to_host))};
}

}  // namespace

PortRow RowOf(const PublishedPort& port) {
  return {.bound = BoundText(port),
          .guest = port.guest.ToString(),
          .protocol = std::string(Name(port.protocol)),
          .identity = std::string(Name(port.identity)),
          .flows_live = port.flows_live,
          .flows_total = port.flows_total,
          .bytes_to_guest = port.bytes_to_guest,
          .bytes_to_host = port.bytes_to_host};
}

std::string PortTable(const std::vector<PortRow>& rows) {
  if (rows.empty()) return "no ports are published\n";
  std::vector<Cells> lines{
      {"BOUND", "GUEST", "PROTOCOL", "IDENTITY", "LIVE", "TOTAL", "TO GUEST", "TO HOST"}};
  std::transform(rows.begin(), rows.end(), std::back_inserter(lines), CellsOf);
  std::array<size_t, kColumnCount> widths{};
  for (const Cells& cells : lines) {
    for (size_t i = 0; i < kColumnCount; ++i) widths[i] = std::max(widths[i], cells[i].size());
  }
  std::string text;
  for (const Cells& cells : lines) {
    for (size_t i = 0; i < kColumnCount; ++i) {
      const int width = static_cast<int>(widths[i]);
      absl::StrAppendFormat(&text, "%s%*s", i == 0 ? "" : "  ", i < kFirstNumber ? -width : width,
                            cells[i]);
    }
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

}  // namespace penstock::tool
