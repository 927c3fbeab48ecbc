// penstock: a sandbox's network without host privileges.
//
//   run     makes namespaces and a tap, runs a command in them
//   attach  makes a tap in a namespace that is there
//   serve   is the network of virtual machines, at a socket
//   ports, policy            give orders to one that runs
//   events, flows            show what it does
//
// Exit status 2 for wrong options, 1 for a set-up that failed, each with one
// sentence on stderr; nothing is left behind.
#include <cstdio>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tools/penstock/attach.h"
#include "tools/penstock/lifetime.h"
#include "tools/penstock/options.h"
#include "tools/penstock/policy_client.h"
#include "tools/penstock/ports_client.h"
#include "tools/penstock/run.h"
#include "tools/penstock/serve.h"
#include "tools/penstock/service.h"
#include "tools/penstock/watch_client.h"

namespace penstock::tool {
namespace {

int ReportFailure(const absl::Status& status) {
  Say(std::string(status.message()));
  return 1;
}

int ReportOutcome(const absl::Status& status) { return status.ok() ? 0 : ReportFailure(status); }

// Orders to one that runs.
int Execute(const PortsOptions& options) {
  const absl::StatusOr<std::string> shown = OrderPorts(options);
  if (!shown.ok()) return ReportFailure(shown.status());
  std::fputs(shown->c_str(), stdout);
  return 0;
}

int Execute(const PolicyOptions& options) {
  const absl::StatusOr<PolicyOrderResult> result = OrderPolicy(options);
  if (!result.ok()) {
    const int status = ReportFailure(result.status());
    return absl::IsInvalidArgument(result.status()) ? 2 : status;  // a policy is like options
  }
  std::fputs(result->text.c_str(), stdout);
  return result->exit_status;
}

int Execute(const EventsOptions& options) { return ReportOutcome(ShowEvents(options)); }
int Execute(const FlowsOptions& options) { return ReportOutcome(ShowFlows(options)); }

int Execute(const HelpText& help) {
  std::fputs(help.text.c_str(), stdout);
  return 0;
}

int Execute(RunOptions& options) {
  const SignalMask mask;
  const absl::StatusOr<int> status = Run(std::move(options), mask);
  return status.ok() ? *status : ReportFailure(status.status());
}

int Execute(AttachOptions& options) {
  const SignalMask mask;
  return ReportOutcome(Attach(std::move(options), mask));
}

int Execute(ServeOptions& options) {
  const SignalMask mask;
  return ReportOutcome(Serve(std::move(options), mask));
}

int Main(std::vector<std::string> arguments) {
  absl::StatusOr<Options> options = ParseOptions(std::move(arguments));
  if (!options.ok()) {
    Say(std::string(options.status().message()));
    return 2;
  }
  return std::visit([](auto& chosen) { return Execute(chosen); }, *options);
}

}  // namespace
}  // namespace penstock::tool

int main(int count, char** values) {
  return penstock::tool::Main(std::vector<std::string>(values + 1, values + count));
}
