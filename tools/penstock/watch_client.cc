#include "tools/penstock/watch_client.h"

#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>

#include "tools/penstock/control_client.h"
#include "tools/penstock/event_text.h"
#include "tools/penstock/flow_table.h"

namespace penstock::tool {
namespace {

// Who reads it, reads it now: a pipe is no reason to hold it back.
void Print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

void Sleep(Duration duration) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration);
  timespec left{.tv_sec = seconds.count(), .tv_nsec = (duration - seconds).count()};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

}  // namespace

absl::Status ShowEvents(const EventsOptions& options) {
  uint64_t count = 0;
  return FollowOrder(options.control, {{"execute", "events"}}, [&](std::string_view line) {
    Print((options.json ? std::string(line) : EventText(line)) + "\n");
    ++count;
    return !options.count || count < *options.count;
  });
}

absl::Status ShowFlows(const FlowsOptions& options) {
  // A screen is cleared for each look; what else is written to gets them one by one.
  const bool clears = options.watch && !options.json && isatty(STDOUT_FILENO) == 1;
  FlowTable table;
  for (uint64_t look = 1;; ++look) {
    const absl::StatusOr<OrderResult> flows =
        GiveOrder(options.control, {{"execute", "flows-list"}});
    if (!flows.ok()) return flows.status();
    if (clears) Print("\x1b[H\x1b[J");
    if (look > 1 && !clears && !options.json) Print("\n");
    Print(options.json ? flows->text : table.Show(flows->value));
    if (!options.watch || (options.count && look >= *options.count)) return absl::OkStatus();
    Sleep(*options.watch);
  }
}

}  // namespace penstock::tool
