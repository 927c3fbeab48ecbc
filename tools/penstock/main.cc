// penstock: a sandbox's network without host privileges.
//
//   run     makes namespaces and a tap, runs a command in them
//   attach  makes a tap in a namespace that is there
//   ports   gives orders to one that runs
//
// Exit status 2 for wrong options, 1 for a set-up that failed, each with one
// sentence on stderr; nothing is left behind.
#include <cstdio>
#include <string>
#include <vector>

#include "tools/penstock/attach.h"
#include "tools/penstock/lifetime.h"
#include "tools/penstock/options.h"
#include "tools/penstock/ports_client.h"
#include "tools/penstock/run.h"
#include "tools/penstock/service.h"

namespace penstock::tool {
namespace {

int ReportFailure(const absl::Status& status) {
  Say(std::string(status.message()));
  return 1;
}

int Main(std::vector<std::string> arguments) {
  absl::StatusOr<Options> options = ParseOptions(std::move(arguments));
  if (!options.ok()) {
    Say(std::string(options.status().message()));
    return 2;
  }
  if (const auto* help = std::get_if<HelpText>(&*options)) {
    std::fputs(help->text.c_str(), stdout);
    return 0;
  }
  if (const auto* ports = std::get_if<PortsOptions>(&*options)) {
    const absl::StatusOr<std::string> shown = GiveOrder(*ports);
    if (!shown.ok()) return ReportFailure(shown.status());
    std::fputs(shown->c_str(), stdout);
    return 0;
  }
  const SignalMask mask;
  if (auto* run = std::get_if<RunOptions>(&*options)) {
    const absl::StatusOr<int> status = Run(std::move(*run), mask);
    return status.ok() ? *status : ReportFailure(status.status());
  }
  const absl::Status status = Attach(std::get<AttachOptions>(*std::move(options)), mask);
  return status.ok() ? 0 : ReportFailure(status);
}

}  // namespace
}  // namespace penstock::tool

int main(int count, char** values) {
  return penstock::tool::Main(std::vector<std::string>(values + 1, values + count));
}
