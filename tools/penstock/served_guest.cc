#include "tools/penstock/served_guest.h"

#include <poll.h>

#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "stack/link/vmm_link.h"
#include "tools/penstock/confinement.h"
#include "tools/penstock/control_service.h"
#include "tools/penstock/driver.h"
#include "tools/penstock/service.h"

namespace penstock::tool {
namespace {

VmmLinkOptions LinkOptions(VmmOffload offload) {
  return {.unsegmented_tcp_to_host = offload != VmmOffload::kNone,
          .unsegmented_tcp_to_guest = offload == VmmOffload::kBoth};
}

bool Readable(int descriptor) {
  pollfd watched{.fd = descriptor, .events = POLLIN, .revents = 0};
  return descriptor >= 0 && poll(&watched, 1, 0) > 0;
}

class GuestSupervisor final : public Supervisor {
 public:
  GuestSupervisor(const CommonOptions& options, ServedGuest& guest, Lifetime& lifetime,
                  ControlService& service, Confinement& confinement)
      : options_(options),
        guest_(guest),
        lifetime_(lifetime),
        service_(service),
        confinement_(confinement) {}

  absl::Status OnStart(Stack& stack) override {
    if (absl::Status published = service_.Start(stack); !published.ok()) return published;
    if (absl::Status sealed = confinement_.Seal(std::nullopt); !sealed.ok()) return sealed;
    return guest_.on_ready();
  }
  int descriptor() const override { return lifetime_.descriptor(); }
  Time deadline() const override { return service_.deadline(); }

  void OnPass() override { service_.OnPass(); }

  bool OnEvent(Time now, Stack& stack) override {
    service_.OnEvent(now, stack);
    bool end = lifetime_.ProcessEnded() || Readable(guest_.server.get());
    while (const std::optional<Signal> signal = lifetime_.NextSignal()) {
      if (signal->number == SIGUSR1) {
        WriteStatsNow(options_, stack, confinement_.clerk());
      } else if (signal->number != SIGUSR2) {
        end = true;
      }
    }
    if (end) TellEnd(stack);
    return !end;
  }

  absl::Status OnLinkEnd(const Stack& stack) override {
    TellEnd(stack);
    if (stack.Snapshot().link_framing_errors == 0) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("the VMM sent a frame's length that is none (0, or more than ", kFrameBytesMax,
                     " bytes), so its connection was closed: look whether it speaks QEMU's "
                     "-netdev stream"));
  }

 private:
  void TellEnd(const Stack& stack) {
    WriteStatsAtEnd(options_, stack, confinement_.clerk());
    service_.AtEnd();
  }

  const CommonOptions& options_;
  ServedGuest& guest_;
  Lifetime& lifetime_;
  ControlService& service_;
  Confinement& confinement_;
};

}  // namespace

absl::Status ServeGuest(ServeOptions options, ServedGuest guest, const SignalMask& mask) {
  CommonOptions& common = options.common;
  absl::StatusOr<std::unique_ptr<PcapngWriter>> capture = MakeCapture(common);
  if (!capture.ok()) return capture.status();
  absl::StatusOr<std::unique_ptr<Link>> link =
      MakeLink(common, AdoptVmmSocket(guest.socket.Release(), LinkOptions(options.offload)),
               *std::move(capture));
  if (!link.ok()) return link.status();
  absl::StatusOr<Lifetime> lifetime = Lifetime::Create(mask);
  if (!lifetime.ok()) return lifetime.status();
  if (guest.server.valid()) {
    if (absl::Status s = lifetime->WatchDescriptor(guest.server.get()); !s.ok()) return s;
  }
  if (guest.vmm.valid()) {
    if (absl::Status s = lifetime->WatchProcess(std::move(guest.vmm)); !s.ok()) return s;
  }
  absl::StatusOr<ControlService> service = ControlService::Create(common, *lifetime);
  if (!service.ok()) return service.status();
  absl::StatusOr<Confinement> confinement = Confinement::Enter(common, *lifetime, *service);
  if (!confinement.ok()) return confinement.status();
  GuestSupervisor supervisor(common, guest, *lifetime, *service, *confinement);
  return Drive(common.config, *std::move(link), common.busy_poll, supervisor);
}

}  // namespace penstock::tool
