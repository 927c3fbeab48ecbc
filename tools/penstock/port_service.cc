#include "tools/penstock/port_service.h"

#include <utility>

#include "tools/penstock/control_protocol.h"
#include "tools/penstock/ports.h"

namespace penstock::tool {

absl::StatusOr<PortService> PortService::Create(const CommonOptions& options, Lifetime& lifetime) {
  PortService service(options);
  if (options.control.empty()) return service;
  absl::StatusOr<std::unique_ptr<ControlServer>> control = ControlServer::Open(options.control);
  if (!control.ok()) return control.status();
  service.control_ = *std::move(control);
  const absl::Status watched = lifetime.WatchDescriptor(service.control_->descriptor());
  if (!watched.ok()) return watched;
  return service;
}

absl::Status PortService::Start(Stack& stack) const {
  return PublishAll(stack, options_.publish, ReportChosen::kYes).status();
}

void PortService::OnEvent(Time now, Stack& stack) {
  if (!control_) return;
  control_->Serve(now,
                  [&stack](std::string_view request) { return AnswerRequest(request, stack); });
}

}  // namespace penstock::tool
