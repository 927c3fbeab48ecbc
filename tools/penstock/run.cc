// Signals go to the command, its end is ours. Bytes that its kernel still holds
// when it ends (a client that wrote, closed and left) are not cut off: the stack
// goes on until no flow is left, or none has moved a byte for a while.
#include "tools/penstock/run.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "tools/penstock/confinement.h"
#include "tools/penstock/control_service.h"
#include "tools/penstock/driver.h"
#include "tools/penstock/sandbox.h"
#include "tools/penstock/service.h"

namespace penstock::tool {
namespace {

constexpr const char* kTapName = "tap0";

// After the command's end: how often to look, and how long without a byte moving to
// the host makes the rest not worth waiting for.
constexpr Duration kDrainStep = std::chrono::milliseconds(5);
constexpr Duration kDrainQuiet = std::chrono::seconds(1);

class RunSupervisor final : public Supervisor {
 public:
  RunSupervisor(const CommonOptions& options, Sandbox& sandbox, Lifetime& lifetime,
                ControlService& service, Confinement& confinement)
      : options_(options),
        sandbox_(sandbox),
        lifetime_(lifetime),
        service_(service),
        confinement_(confinement) {}

  [[nodiscard]] int exit_status() const { return exit_status_; }

  absl::Status OnStart(Stack& stack) override {
    if (absl::Status published = service_.Start(stack); !published.ok()) return published;
    if (absl::Status sealed = confinement_.Seal(sandbox_.keeper()); !sealed.ok()) return sealed;
    return sandbox_.Go();
  }
  int descriptor() const override { return lifetime_.descriptor(); }
  Time deadline() const override {
    return drain_ ? std::min(drain_->next_look, service_.deadline()) : service_.deadline();
  }

  void OnPass() override { service_.OnPass(); }

  bool OnEvent(Time now, Stack& stack) override {
    service_.OnEvent(now, stack);
    bool impatient = false;
    while (const std::optional<Signal> signal = lifetime_.NextSignal()) {
      if (signal->number == SIGUSR1) {
        WriteStatsNow(options_, stack, confinement_.clerk());
      } else if (drain_) {
        impatient = true;
      } else if (!signal->from_terminal) {
        sandbox_.Kill(signal->number);
      }
    }
    if (!drain_ && lifetime_.ProcessEnded()) {
      lifetime_.ForgetProcess();
      exit_status_ = sandbox_.Wait();
      drain_ = Drain{.next_look = now, .moved_at = now, .moved_bytes = 0};
    }
    if (!drain_ || (!impatient && StillDraining(now, stack))) return true;
    WriteStatsAtEnd(options_, stack, confinement_.clerk());
    service_.AtEnd();
    return false;
  }

 private:
  struct Drain {
    Time next_look;
    Time moved_at;
    uint64_t moved_bytes;
  };

  bool StillDraining(Time now, const Stack& stack) {
    const CounterSnapshot counters = stack.Snapshot();
    const uint64_t flows = uint64_t{counters.flows_handshake} + counters.flows_open +
                           counters.flows_closing + counters.flows_dialing;
    if (counters.payload_bytes_to_host != drain_->moved_bytes) {
      drain_->moved_bytes = counters.payload_bytes_to_host;
      drain_->moved_at = now;
    }
    drain_->next_look = now + kDrainStep;
    return flows != 0 && now - drain_->moved_at < kDrainQuiet;
  }

  const CommonOptions& options_;
  Sandbox& sandbox_;
  Lifetime& lifetime_;
  ControlService& service_;
  Confinement& confinement_;
  std::optional<Drain> drain_;
  int exit_status_ = 0;
};

std::vector<IpAddress> Nameservers(const Config& config) {
  std::vector<IpAddress> nameservers;
  for (const FamilyConfig* family : {&config.ipv4, &config.ipv6}) {
    if (family->enabled) nameservers.push_back(family->dns);
  }
  return nameservers;
}

InterfaceSettings Interface(const RunOptions& options) {
  const Config& config = options.common.config;
  InterfaceSettings interface = InterfaceFor(options.common, kTapName);
  interface.ipv4_by_dhcp = !options.static_network && config.ipv4.enabled && config.dhcp;
  // Of another prefix no address can be made (RFC 4862 5.5.3).
  interface.ipv6_by_advertisements = !options.static_network && config.ipv6.enabled &&
                                     config.router_advertisements &&
                                     config.ipv6.prefix_length == 64;
  return interface;
}

}  // namespace

absl::StatusOr<int> Run(RunOptions options, const SignalMask& mask) {
  CommonOptions& common = options.common;
  AdaptToSystem(common.config);
  absl::StatusOr<std::unique_ptr<PcapngWriter>> capture = MakeCapture(common);
  if (!capture.ok()) return capture.status();
  absl::StatusOr<Sandbox> sandbox =
      Sandbox::Create({.command = std::move(options.command),
                       .user_namespace = options.user_namespace || geteuid() != 0,
                       .tap = TapFor(common, kTapName),
                       .interface = Interface(options),
                       .nameservers = Nameservers(common.config),
                       .search = common.config.search_domains},
                      mask);
  if (!sandbox.ok()) return sandbox.status();

  // Not before the command's ancestor was forked: the command keeps the old limit.
  RaiseDescriptorLimit();
  absl::StatusOr<std::unique_ptr<Link>> link =
      MakeLink(common, AdoptTap(sandbox->ReleaseTap()), *std::move(capture));
  if (!link.ok()) return link.status();
  absl::StatusOr<Lifetime> lifetime = Lifetime::Create(mask);
  if (!lifetime.ok()) return lifetime.status();
  absl::StatusOr<Descriptor> process = sandbox->OpenProcess();
  if (!process.ok()) return process.status();
  if (absl::Status s = lifetime->WatchProcess(*std::move(process)); !s.ok()) return s;

  absl::StatusOr<ControlService> service = ControlService::Create(common, *lifetime);
  if (!service.ok()) return service.status();
  absl::StatusOr<Confinement> confinement = Confinement::Enter(common, *lifetime, *service);
  if (!confinement.ok()) return confinement.status();
  RunSupervisor supervisor(common, *sandbox, *lifetime, *service, *confinement);
  const absl::Status driven = Drive(common.config, *std::move(link), common.busy_poll, supervisor);
  if (!driven.ok()) return driven;
  return supervisor.exit_status();
}

}  // namespace penstock::tool
