#include "tools/penstock/stats.h"

#include <fcntl.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "stack/metrics.h"
#include "tools/penstock/descriptor.h"
#include "tools/penstock/port_table.h"
#include "tools/penstock/ports.h"
#include "tools/penstock/text_table.h"

namespace penstock::tool {
namespace {

double Milliseconds(Duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

std::string Token(std::string_view text) {
  if (text.empty()) return "-";
  return absl::StrReplaceAll(absl::string_view(text.data(), text.size()), {{" ", "_"}});
}

}  // namespace

Statistics StatisticsOf(const Stack& stack) {
  return {.counters = stack.Snapshot(), .flows = stack.Flows(), .ports = stack.PublishedPorts()};
}

std::string Summary(const Statistics& statistics) {
  const CounterSnapshot& counters = statistics.counters;
  std::string text = "penstock: flows (guest -> destination, newest first)\n";
  if (statistics.flows.empty()) text += "  none\n";
  for (const FlowInfo& flow : statistics.flows) {
    absl::StrAppendFormat(
        &text, "  %-4s %-24s -> %-24s %-12s %9.1f ms   to host %10s (%s)   to guest %10s (%s)\n",
        std::string(Name(flow.protocol)), flow.guest.ToString(), flow.destination.ToString(),
        flow.end.empty() ? flow.state : flow.end, Milliseconds(flow.age),
        BytesText(static_cast<double>(flow.bytes_to_host)),
        RateText(static_cast<double>(flow.bytes_to_host), flow.age),
        BytesText(static_cast<double>(flow.bytes_to_guest)),
        RateText(static_cast<double>(flow.bytes_to_guest), flow.age));
  }
  if (!statistics.ports.empty()) {
    std::vector<PortRow> rows;
    for (const PublishedPort& port : statistics.ports) rows.push_back(RowOf(port));
    text += "penstock: published ports\n" + PortTable(rows);
  }
  text += "penstock: counters\n";
  ForEachMetric(counters, [&](const char* name, uint64_t value, const char* help) {
    if (value != 0) absl::StrAppendFormat(&text, "  %15d  %-26s %s\n", value, name, help);
  });
  const uint64_t dropped = counters.drops_total();
  absl::StrAppendFormat(&text, "penstock: frames from the guest dropped: %d\n", dropped);
  for (size_t i = 0; i < kDropCauseCount; ++i) {
    if (counters.drops[i] == 0) continue;
    absl::StrAppendFormat(&text, "  %15d  %s\n", counters.drops[i],
                          std::string(Name(static_cast<DropCause>(i))));
  }
  return text;
}

std::string Lines(const Statistics& statistics) {
  const CounterSnapshot& counters = statistics.counters;
  std::string text;
  ForEachMetric(counters, [&](const char* name, uint64_t value, const char*) {
    absl::StrAppend(&text, name, " ", value, "\n");
  });
  ForEachDrop(counters, [&](const char* name, uint64_t value) {
    absl::StrAppend(&text, name, " ", value, "\n");
  });
  for (const FlowInfo& flow : statistics.flows) {
    absl::StrAppendFormat(
        &text,
        "flow guest=%s destination=%s state=%s end=%s to_host=%d to_guest=%d age_ms=%d "
        "protocol=%s\n",
        flow.guest.ToString(), flow.destination.ToString(), Token(flow.state), Token(flow.end),
        flow.bytes_to_host, flow.bytes_to_guest,
        std::chrono::duration_cast<std::chrono::milliseconds>(flow.age).count(),
        std::string(Name(flow.protocol)));
  }
  for (const PublishedPort& port : statistics.ports) {
    absl::StrAppendFormat(&text,
                          "port id=%d bound=%s guest=%s protocol=%s identity=%s exposure=%s "
                          "live=%d total=%d to_host=%d to_guest=%d\n",
                          port.id, BoundText(port), port.guest.ToString(),
                          std::string(Name(port.protocol)), std::string(Name(port.identity)),
                          std::string(ExposureName(port.exposure)), port.flows_live,
                          port.flows_total, port.bytes_to_host, port.bytes_to_guest);
  }
  return text;
}

absl::Status ReplaceFile(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".new";
  const Descriptor file(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file.valid() || !WriteAll(file.get(), text) ||
      rename(temporary.c_str(), path.c_str()) != 0) {
    const int error = errno;
    if (file.valid()) unlink(temporary.c_str());
    return ErrnoStatus("cannot write the statistics to " + path, error);
  }
  return absl::OkStatus();
}

}  // namespace penstock::tool
