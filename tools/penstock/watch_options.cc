// The command lines of `penstock events` and `penstock flows`.
#include <chrono>
#include <memory>

#include "tools/penstock/command_line.h"

namespace penstock::tool {
namespace {

constexpr const char* kEventsFooter =
    R"(A line for each thing that happens from now on, until the penstock ends: connections and
other conversations opened and closed, what was denied and by which rule, names that were
asked for, leases, ports published, policies replaced. Times are UTC.

  12:34:56.789012  denied       tcp   10.0.2.15:40112 -> 10.1.2.3:5432  tenant: private

With --json they are the lines of the control socket, which tools/README.md describes. Who
reads slower than things happen finds a line that says how many were left out.

Exit status: 0 when the penstock ended or N lines have come; 1 if it refused or is not
there; 2 for wrong options.

Examples:
  penstock events --control /tmp/blue
  penstock events --control /tmp/blue --json | jq 'select(.event == "denied")')";

constexpr const char* kFlowsFooter =
    R"(Those that live, then the last ones that ended, newest first. Rates are of the whole
life of a flow, with --watch of the time between two looks.

Examples:
  penstock flows --control /tmp/blue
  penstock flows --control /tmp/blue --watch 1
  penstock flows --control /tmp/blue --json)";

constexpr double kWatchSecondsMin = 0.01;
constexpr double kWatchSecondsMax = 86'400;

}  // namespace

absl::StatusOr<Options> ParseEvents(std::vector<std::string> arguments) {
  arguments.erase(arguments.begin());
  EventsOptions options;
  CLI::App app("Shows what happens in a penstock that runs.", "events");
  app.formatter(std::make_shared<Formatter>("penstock events --control PATH [--json] [--count N]"));
  app.footer(kEventsFooter);
  AddControl(app, options.control);
  app.add_flag("--json", options.json, "As JSON, for programs: an object in each line");
  app.add_option("--count", options.count, "End after so many lines")->type_name("N");
  absl::StatusOr<std::optional<HelpText>> help = Parse(app, std::move(arguments));
  if (!help.ok()) return help.status();
  if (*help) return Options(**std::move(help));
  if (absl::Status s = CheckControl(options.control); !s.ok()) return s;
  if (options.count == uint64_t{0}) return Wrong("--count is 0: it must be 1 or more");
  return Options(std::move(options));
}

absl::StatusOr<Options> ParseFlows(std::vector<std::string> arguments) {
  arguments.erase(arguments.begin());
  FlowsOptions options;
  double seconds = 0;
  CLI::App app("Shows who talks to whom through a penstock that runs.", "flows");
  app.formatter(std::make_shared<Formatter>("penstock flows --control PATH [OPTIONS]"));
  app.footer(kFlowsFooter);
  AddControl(app, options.control);
  app.add_flag("--json", options.json, "As JSON, for programs");
  app.add_option("--watch", seconds, "Look again, as often as this")->type_name("SECONDS");
  app.add_option("--count", options.count, "With --watch: end after so many looks")->type_name("N");
  absl::StatusOr<std::optional<HelpText>> help = Parse(app, std::move(arguments));
  if (!help.ok()) return help.status();
  if (*help) return Options(**std::move(help));
  if (absl::Status s = CheckControl(options.control); !s.ok()) return s;
  if (options.count == uint64_t{0}) return Wrong("--count is 0: it must be 1 or more");
  if (app.count("--watch") == 0) {
    if (options.count) return Wrong("--count is for --watch SECONDS, and there is none");
    return Options(std::move(options));
  }
  if (!(seconds >= kWatchSecondsMin && seconds <= kWatchSecondsMax)) {
    return Wrong("--watch must be 0.01 to 86400 seconds");
  }
  options.watch = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
  return Options(std::move(options));
}

}  // namespace penstock::tool
