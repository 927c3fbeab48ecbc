#include "tools/penstock/ports_client.h"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tools/penstock/control_client.h"
#include "tools/penstock/port_table.h"

namespace penstock::tool {
namespace {

using nlohmann::json;

json RequestOf(const PortsOptions& options) {
  switch (options.order) {
    case PortsOptions::Order::kAdd:
      return {
          {"execute", "ports-add"},
          {"arguments", {{"publish", options.specs}, {"client_identity", Name(options.identity)}}}};
    case PortsOptions::Order::kRemove:
      return {
          {"execute", "ports-remove"},
          {"arguments", {{"publish", options.specs}, {"flows", options.reset ? "reset" : "keep"}}}};
    case PortsOptions::Order::kList:
      break;
  }
  return {{"execute", "ports-list"}};
}

std::vector<PortRow> RowsOf(const json& result) {
  std::vector<PortRow> rows;
  for (const json& row : result) {
    if (!row.is_object()) continue;
    rows.push_back({.bound = TextOf(row, "bound"),
                    .guest = TextOf(row, "guest"),
                    .protocol = TextOf(row, "protocol"),
                    .identity = TextOf(row, "client_identity"),
                    .flows_live = NumberOf(row, "flows_live"),
                    .flows_total = NumberOf(row, "flows_total"),
                    .bytes_to_guest = NumberOf(row, "bytes_to_guest"),
                    .bytes_to_host = NumberOf(row, "bytes_to_host")});
  }
  return rows;
}

std::string Shown(const PortsOptions& options, const json& result) {
  switch (options.order) {
    case PortsOptions::Order::kAdd: {
      std::string text;
      for (const PortRow& row : RowsOf(result)) {
        absl::StrAppend(&text, row.bound, " -> ", row.guest, "/", row.protocol, "\n");
      }
      return text;
    }
    case PortsOptions::Order::kRemove: {
      const uint64_t removed = NumberOf(result, "removed");
      return absl::StrCat("removed ", removed, removed == 1 ? " port\n" : " ports\n");
    }
    case PortsOptions::Order::kList:
      break;
  }
  return PortTable(RowsOf(result));
}

}  // namespace

absl::StatusOr<std::string> OrderPorts(const PortsOptions& options) {
  const absl::StatusOr<OrderResult> result = GiveOrder(options.control, RequestOf(options));
  if (!result.ok()) return result.status();
  return options.json ? result->text : Shown(options, result->value);
}

}  // namespace penstock::tool
