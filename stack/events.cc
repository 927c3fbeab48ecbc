#include "stack/events.h"

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

}  // namespace penstock
