#include "tools/penstock/event_text.h"

#include <chrono>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/penstock/control_client.h"
#include "tools/penstock/text_table.h"

namespace penstock::tool {
namespace {

using nlohmann::json;

// "23:59:59.123456" of "2026-01-31T23:59:59.123456Z".
std::string TimeOf(const json& event) {
  const std::string time = PrintableOf(event, "time");
  const size_t start = time.find('T');
  return start == std::string::npos ? time : time.substr(start + 1, 15);
}

// Who began, an arrow, whom it was about.
std::string EndsOf(const json& event, const std::string& kind) {
  std::string guest = PrintableOf(event, "guest");
  std::string peer = PrintableOf(event, "peer");
  const std::string name = PrintableOf(event, "name");
  if (!name.empty()) peer = peer.empty() ? name : absl::StrCat(peer, " (", name, ")");
  const bool from_peer =
      PrintableOf(event, "direction") == "ingress" || kind == "published" || kind == "unpublished";
  if (from_peer) std::swap(guest, peer);
  return absl::StrCat(guest, guest.empty() || peer.empty() ? "" : " -> ", peer);
}

std::string TrafficOf(const json& event) {
  const auto bytes = [&](const char* name) {
    return BytesText(static_cast<double>(NumberOf(event, name)));
  };
  const auto age = std::chrono::microseconds(NumberOf(event, "age_us"));
  return absl::StrCat("to host ", bytes("bytes_to_host"), ", to guest ", bytes("bytes_to_guest"),
                      ", ", AgeText(age));
}

// "tenant: private: deny egress @private (line 3); ...".
std::string DetailOf(const json& event, const std::string& kind) {
  if (kind == "lost") return absl::StrCat(NumberOf(event, "count"), " events were left out here");
  std::string text = PrintableOf(event, "layer");
  const auto add = [&text](const std::string& more, const char* between) {
    if (more.empty()) return;
    absl::StrAppend(&text, text.empty() ? "" : between, more);
  };
  add(PrintableOf(event, "reason"), ": ");
  if (event.contains("rule")) {
    add(absl::StrCat(PrintableOf(event, "rule"), " (line ", NumberOf(event, "rule_line"), ")"),
        ": ");
  }
  if (kind == "flow-closed") add(TrafficOf(event), ", ");
  return text;
}

}  // namespace

std::string EventText(std::string_view line) {
  const json event = json::parse(line.begin(), line.end(), nullptr, false);
  if (!event.is_object() || !event.contains("event")) return Printable(line);
  const std::string kind = PrintableOf(event, "event");
  std::string text =
      absl::StrFormat("%-15s  %-15s  %-4s  %-44s  %s", TimeOf(event), kind,
                      PrintableOf(event, "protocol"), EndsOf(event, kind), DetailOf(event, kind));
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

}  // namespace penstock::tool
