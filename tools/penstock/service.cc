#include "tools/penstock/service.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "stack/link/capture.h"
#include "stack/link/impair.h"
#include "tools/penstock/stats.h"

namespace penstock::tool {
namespace {

// What is said is about: nobody, or one of several.
std::string& Whom() {
  static std::string whom;
  return whom;
}

void WriteStatsFile(const Stack& stack, const Clerk& clerk) {
  const absl::Status written = clerk.ReplaceStats(Lines(StatisticsOf(stack)));
  if (!written.ok()) Say(std::string(written.message()));
}

void PrintSummary(const Stack& stack) { std::fputs(Summary(StatisticsOf(stack)).c_str(), stderr); }

}  // namespace

void SayOf(std::string who) { Whom() = std::move(who) + ": "; }

void Say(const std::string& sentence) {
  std::fprintf(stderr, "penstock: %s%s\n", Whom().c_str(), sentence.c_str());
}

void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);  // the stack lives with what there is
}

void AdaptToSystem(Config& config) {
  config.warn = [](std::string_view sentence) {
    Say(absl::StrCat("warning: ", std::string(sentence)));
  };
  if (config.ipv6.enabled && access("/proc/sys/net/ipv6", F_OK) != 0) {
    Say("warning: this kernel has no IPv6; going on without (--no-ipv6 says so silently)");
    config.ipv6.enabled = false;
  }
}

TapOptions TapFor(const CommonOptions& options, const std::string& name) {
  TapOptions tap;
  tap.name = name;
  tap.virtio_net_header = options.offload;
  return tap;
}

InterfaceSettings InterfaceFor(const CommonOptions& options, const std::string& name) {
  return {.name = name,
          .mtu = options.config.mtu,
          .ipv4 = options.config.ipv4,
          .ipv6 = options.config.ipv6};
}

absl::StatusOr<std::unique_ptr<PcapngWriter>> MakeCapture(const CommonOptions& options) {
  if (options.pcap.empty()) return nullptr;
  return PcapngWriter::Create(options.pcap, PcapngWriter::LinkType::kEthernet);
}

absl::StatusOr<std::unique_ptr<Link>> MakeLink(const CommonOptions& options,
                                               absl::StatusOr<std::unique_ptr<Link>> link,
                                               std::unique_ptr<PcapngWriter> capture) {
  if (!link.ok()) return link;
  if (capture != nullptr) {
    const auto say = [](const absl::Status& error) { Say(std::string(error.message())); };
    std::unique_ptr<Link> captured = *std::move(link);
    link = std::make_unique<CapturedLink>(std::move(captured), std::move(capture),
                                          CaptureOptions{.on_error = say});
  }
  if (!options.impair) return link;
  absl::StatusOr<std::unique_ptr<ImpairedLink>> impaired =
      Impair(*std::move(link), *options.impair);
  if (!impaired.ok()) return impaired.status();
  return std::unique_ptr<Link>(*std::move(impaired));
}

void WriteStatsNow(const CommonOptions& options, const Stack& stack, const Clerk& clerk) {
  if (options.stats_file.empty()) {
    PrintSummary(stack);
  } else {
    WriteStatsFile(stack, clerk);
  }
}

void WriteStatsAtEnd(const CommonOptions& options, const Stack& stack, const Clerk& clerk) {
  if (options.stats) PrintSummary(stack);
  if (!options.stats_file.empty()) WriteStatsFile(stack, clerk);
}

}  // namespace penstock::tool
