// A forked child enters the namespace, makes and configures the tap, passes its
// descriptor up and ends; this process never leaves the host's namespaces. An open
// tap keeps a namespace alive and never tells of its end, so the end is learned
// from the process or the path that leads to the namespace.
#include "tools/penstock/attach.h"

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tools/penstock/channel.h"
#include "tools/penstock/confinement.h"
#include "tools/penstock/control_service.h"
#include "tools/penstock/driver.h"
#include "tools/penstock/namespaces.h"
#include "tools/penstock/service.h"

namespace penstock::tool {
namespace {

struct Target {
  Descriptor network;
  Descriptor user;     // perhaps invalid
  Descriptor process;  // whose end is ours; perhaps invalid
  std::string path;    // whose end is ours; perhaps empty
};

absl::StatusOr<Target> OpenTarget(const AttachOptions& options) {
  Target target;
  std::string path = options.network_namespace;
  std::optional<pid_t> pid = options.pid;
  if (pid) {
    path = absl::StrCat("/proc/", *pid, "/ns/net");
  } else {
    pid = ProcessOfPath(path);
    if (!pid) target.path = path;
  }
  if (pid) {
    // The process first: the namespace is then its own, or it has ended.
    absl::StatusOr<Descriptor> process = OpenProcess(*pid);
    if (!process.ok()) return process.status();
    target.process = *std::move(process);
  }
  absl::StatusOr<Descriptor> network = OpenNamespace(path, CLONE_NEWNET);
  if (!network.ok()) return network.status();
  target.network = *std::move(network);
  if (!options.user_namespace.empty()) {
    absl::StatusOr<Descriptor> user = OpenNamespace(options.user_namespace, CLONE_NEWUSER);
    if (!user.ok()) return user.status();
    target.user = *std::move(user);
  }
  return target;
}

// In the child.
absl::Status Furnish(const AttachOptions& options, const Target& target, int channel) {
  if (absl::Status s = EnterNetwork(target.network.get(), target.user); !s.ok()) return s;
  const absl::StatusOr<std::unique_ptr<Link>> tap = OpenTap(TapFor(options.common, options.tap));
  if (!tap.ok()) return tap.status();
  if (!options.no_configure) {
    absl::Status configured = ConfigureNamespace(InterfaceFor(options.common, options.tap));
    if (!configured.ok()) return configured;
  }
  return SendTap(channel, (*tap)->descriptor());
}

absl::StatusOr<Descriptor> MakeTap(const AttachOptions& options, const Target& target) {
  absl::StatusOr<Channel> channel = OpenChannel();
  if (!channel.ok()) return channel.status();
  const pid_t child = ForkInto(0);
  if (child < 0) return ErrnoStatus("cannot start a process", errno);
  if (child == 0) {
    const absl::Status done = Furnish(options, target, channel->child.get());
    if (!done.ok()) SendFailure(channel->child.get(), done);
    _exit(0);
  }
  channel->child.Reset();
  absl::StatusOr<Descriptor> tap = ReceiveTap(channel->parent.get());
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  return tap;
}

class AttachSupervisor final : public Supervisor {
 public:
  AttachSupervisor(const AttachOptions& options, Lifetime& lifetime, ControlService& service,
                   Confinement& confinement)
      : options_(options),
        lifetime_(lifetime),
        service_(service),
        confinement_(confinement),
        ready_(options.ready_descriptor.value_or(-1)) {}

  absl::Status OnStart(Stack& stack) override {
    if (absl::Status published = service_.Start(stack); !published.ok()) return published;
    if (absl::Status sealed = confinement_.Seal(std::nullopt); !sealed.ok()) return sealed;
    if (ready_.valid() && write(ready_.get(), "1", 1) != 1) {
      return ErrnoStatus("cannot write to the ready descriptor", errno);
    }
    ready_.Reset();
    return absl::OkStatus();
  }
  int descriptor() const override { return lifetime_.descriptor(); }
  Time deadline() const override { return service_.deadline(); }

  void OnPass() override { service_.OnPass(); }

  bool OnEvent(Time now, Stack& stack) override {
    service_.OnEvent(now, stack);
    bool end = lifetime_.ProcessEnded() || lifetime_.PathGone();
    while (const std::optional<Signal> signal = lifetime_.NextSignal()) {
      if (signal->number == SIGUSR1) {
        WriteStatsNow(options_.common, stack, confinement_.clerk());
      } else if (signal->number != SIGUSR2) {
        end = true;
      }
    }
    if (end) WriteStatsAtEnd(options_.common, stack, confinement_.clerk());
    return !end;
  }

 private:
  const AttachOptions& options_;
  Lifetime& lifetime_;
  ControlService& service_;
  Confinement& confinement_;
  Descriptor ready_;
};

}  // namespace

absl::Status Attach(AttachOptions options, const SignalMask& mask) {
  AdaptToSystem(options.common.config);
  absl::StatusOr<std::unique_ptr<PcapngWriter>> capture = MakeCapture(options.common);
  if (!capture.ok()) return capture.status();
  absl::StatusOr<Target> target = OpenTarget(options);
  if (!target.ok()) return target.status();
  absl::StatusOr<Lifetime> lifetime = Lifetime::Create(mask);
  if (!lifetime.ok()) return lifetime.status();
  if (!target->path.empty()) {
    absl::Status watched = lifetime->WatchPath(target->path, target->network.get());
    if (!watched.ok()) return watched;
  }

  absl::StatusOr<Descriptor> tap = MakeTap(options, *target);
  if (!tap.ok()) return tap.status();
  if (target->process.valid()) {
    absl::Status watched = lifetime->WatchProcess(std::move(target->process));
    if (!watched.ok()) return watched;
  }
  target->network.Reset();  // only the tap keeps the namespace from here on

  RaiseDescriptorLimit();
  absl::StatusOr<std::unique_ptr<Link>> link =
      MakeLink(options.common, AdoptTap(tap->Release()), *std::move(capture));
  if (!link.ok()) return link.status();
  absl::StatusOr<ControlService> service = ControlService::Create(options.common, *lifetime);
  if (!service.ok()) return service.status();
  absl::StatusOr<Confinement> confinement = Confinement::Enter(options.common, *lifetime, *service);
  if (!confinement.ok()) return confinement.status();
  AttachSupervisor supervisor(options, *lifetime, *service, *confinement);
  return Drive(options.common.config, *std::move(link), options.common.busy_poll, supervisor);
}

}  // namespace penstock::tool
