#include "tools/penstock/event_json.h"

#include <cstdint>
#include <ctime>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "tools/penstock/endpoint_text.h"

namespace penstock::tool {
namespace {

using nlohmann::ordered_json;

bool IsOfOneFlow(EventKind kind) {
  return kind == EventKind::kFlowOpened || kind == EventKind::kFlowClosed ||
         kind == EventKind::kDenied;
}

// Without a port where there is none: of a lease, of what a name was at.
std::string EndText(const Endpoint& end, const Event& event) {
  return end.port == 0 ? end.address.ToString() : EndpointText(end, event.protocol);
}

void PutTraffic(const Event& event, ordered_json& line) {
  line["bytes_to_host"] = event.bytes_to_host;
  line["bytes_to_guest"] = event.bytes_to_guest;
  line["age_us"] = std::chrono::duration_cast<std::chrono::microseconds>(event.age).count();
}

}  // namespace

ClockPair ClockPair::Now() {
  return {.steady = Clock::now(), .wall = std::chrono::system_clock::now()};
}

std::chrono::system_clock::time_point ClockPair::WallAt(Time time) const {
  return wall + std::chrono::duration_cast<std::chrono::system_clock::duration>(time - steady);
}

std::string UtcText(std::chrono::system_clock::time_point time) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  const auto micros = std::chrono::floor<std::chrono::microseconds>(time - seconds).count();
  const std::time_t since_1970 = std::chrono::system_clock::to_time_t(seconds);
  std::tm parts{};
  gmtime_r(&since_1970, &parts);
  return absl::StrFormat("%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", parts.tm_year + 1900,
                         parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                         micros);
}

std::string EventLine(const Event& event, const ClockPair& clocks) {
  ordered_json line = {{"event", Name(event.kind)}, {"time", UtcText(clocks.WallAt(event.time))}};
  if (event.flow != 0) line["flow"] = event.flow;
  if (IsOfOneFlow(event.kind)) line["direction"] = Name(event.direction);
  const bool has_protocol = IsOfOneFlow(event.kind) || event.kind == EventKind::kPublished ||
                            event.kind == EventKind::kUnpublished;
  if (has_protocol) line["protocol"] = Name(event.protocol);
  if (event.guest != Endpoint{}) line["guest"] = EndText(event.guest, event);
  if (event.peer != Endpoint{}) line["peer"] = EndText(event.peer, event);
  if (!event.name.view().empty()) line["name"] = event.name.view();
  if (event.layer != EventLayer::kNone) line["layer"] = Name(event.layer);
  if (event.rule != nullptr) {
    line["rule"] = event.rule->text;
    line["rule_line"] = event.rule->line;
  }
  if (!event.reason.empty()) line["reason"] = event.reason;
  if (event.kind == EventKind::kFlowClosed) PutTraffic(event, line);
  // Whoever names something for the sandbox may write any bytes.
  return line.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace penstock::tool
