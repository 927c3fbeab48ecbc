#include "tools/penstock/port_table.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "tools/penstock/ports.h"
#include "tools/penstock/text_table.h"

namespace penstock::tool {
namespace {

constexpr size_t kPortColumnFirstNumber = 4;

std::vector<std::string> CellsOf(const PortRow& row) {
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
  std::vector<std::vector<std::string>> lines{
      {"BOUND", "GUEST", "PROTOCOL", "IDENTITY", "LIVE", "TOTAL", "TO GUEST", "TO HOST"}};
  std::transform(rows.begin(), rows.end(), std::back_inserter(lines), CellsOf);
  return TextTable(lines, kPortColumnFirstNumber);
}

}  // namespace penstock::tool
