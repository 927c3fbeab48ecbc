#include "tools/penstock/flow_table.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tools/penstock/control_client.h"
#include "tools/penstock/text_table.h"

namespace penstock::tool {
namespace {

using nlohmann::json;

constexpr size_t kFlowColumnFirstNumber = 4;

}  // namespace

std::string FlowTable::Show(const json& rows) {
  std::vector<std::vector<std::string>> lines{
      {"PROTOCOL", "FROM", "TO", "STATE", "AGE", "TO HOST", "RATE", "TO GUEST", "RATE"}};
  std::map<Key, Look> now;
  for (const json& row : rows) {
    if (!row.is_object()) continue;
    std::string from = PrintableOf(row, "guest");
    std::string to = PrintableOf(row, "peer");
    if (const std::string name = PrintableOf(row, "name"); !name.empty())
      absl::StrAppend(&to, " ", name);
    if (PrintableOf(row, "direction") == "ingress") std::swap(from, to);
    const std::string protocol = PrintableOf(row, "protocol");
    const Look look{.age = std::chrono::microseconds(NumberOf(row, "age_us")),
                    .to_host = NumberOf(row, "bytes_to_host"),
                    .to_guest = NumberOf(row, "bytes_to_guest")};
    const auto found = before_.find({from, to, protocol});
    // One that is younger than it was is another one.
    const Look since =
        found != before_.end() && found->second.age < look.age ? found->second : Look{};
    const std::string end = PrintableOf(row, "end");
    const auto rate = [&](uint64_t bytes, uint64_t before) {
      return RateText(static_cast<double>(bytes - std::min(bytes, before)), look.age - since.age);
    };
    lines.push_back(
        {protocol, from, to, end.empty() ? PrintableOf(row, "state") : end, AgeText(look.age),
         BytesText(static_cast<double>(look.to_host)), rate(look.to_host, since.to_host),
         BytesText(static_cast<double>(look.to_guest)), rate(look.to_guest, since.to_guest)});
    now.emplace(Key{from, to, protocol}, look);
  }
  before_ = std::move(now);
  return lines.size() == 1 ? "no flows\n" : TextTable(lines, kFlowColumnFirstNumber);
}

}  // namespace penstock::tool
