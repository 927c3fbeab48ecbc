#include "stack/events.h"

#include <utility>

namespace penstock {

std::string_view Name(EventKind kind) {
  switch (kind) {
    case EventKind::kFlowOpened:
      return "flow-opened";
    case EventKind::kFlowClosed:
      return "flow-closed";
    case EventKind::kDenied:
      return "denied";
    case EventKind::kName:
      return "name";
    case EventKind::kLease:
      return "lease";
    case EventKind::kPublished:
      return "published";
    case EventKind::kUnpublished:
      return "unpublished";
    case EventKind::kPolicyReplaced:
      return "policy-replaced";
  }
  return "";
}

std::string_view Name(EventLayer layer) {
  switch (layer) {
    case EventLayer::kNone:
      return "";
    case EventLayer::kLink:
      return "link";
    case EventLayer::kAddress:
      return "address";
    case EventLayer::kPlatform:
      return "platform";
    case EventLayer::kTenant:
      return "tenant";
  }
  return "";
}

EventStream::EventStream(uint32_t count_max)
    : ring_(count_max == 0 ? nullptr : std::make_unique<SpscRing<Event>>(count_max)) {}

bool EventStream::Put(const Event& event) noexcept { return on() && ring_->Push(event); }

bool EventStream::Take(Event& event) noexcept { return on() && ring_->Pop(event); }

}  // namespace penstock
