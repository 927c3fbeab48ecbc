#include "tools/penstock/control_service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "tools/penstock/control_protocol.h"
#include "tools/penstock/ports.h"
#include "tools/penstock/service.h"

namespace penstock::tool {

ControlService::ControlService(const CommonOptions& options) : options_(options) {
  if (options.tell_denials) denials_.emplace(options.policy_option_lines, options.allow_option);
}

absl::StatusOr<ControlService> ControlService::Create(const CommonOptions& options,
                                                      Lifetime& lifetime) {
  ControlService service(options);
  if (options.control.empty()) return service;
  absl::StatusOr<std::unique_ptr<ControlServer>> control = ControlServer::Open(options.control);
  if (!control.ok()) return control.status();
  service.control_ = *std::move(control);
  const absl::Status watched = lifetime.WatchDescriptor(service.control_->descriptor());
  if (!watched.ok()) return watched;
  return service;
}

std::optional<SocketFile> ControlService::LeaveFile() {
  if (!control_) return std::nullopt;
  return control_->LeaveFile();
}

void ControlService::AskForUsers(ControlServer::UserOf user_of) {
  if (control_) control_->AskForUsers(std::move(user_of));
}

absl::Status ControlService::Start(Stack& stack) {
  if (options_.config.event_count_max != 0) {
    events_ = std::make_unique<EventFeed>(
        EventFeed::Source{.take = [&stack](Event& event) { return stack.TakeEvent(event); },
                          .lost = [&stack] { return stack.Snapshot().events_lost; },
                          .policy = [&stack] { return stack.policy(PolicyLayer::kTenant); }});
  }
  return PublishAll(stack, options_.publish, ReportChosen::kYes).status();
}

void ControlService::OnEvent(Time now, Stack& stack) {
  if (!control_ || std::exchange(serving_, true)) return;
  stack.Post([this, now](Stack& at_pass) {
    serving_ = false;
    control_->Serve(
        now, [&at_pass](std::string_view request) { return AnswerRequest(request, at_pass); });
  });
}

void ControlService::OnPass() {
  if (events_) events_->PassOn(control_.get(), denials_ ? &*denials_ : nullptr, Say);
}

void ControlService::AtEnd() const {
  if (!options_.stats || !denials_ || denials_->untold() == 0) return;
  Say(absl::StrCat("denied ", denials_->untold(), " more of the same kinds"));
}

}  // namespace penstock::tool
