// Any text as a spec and as a selector. What is understood must be valid, be written as
// a text that is understood the same, and what is refused must be told in three short
// lines of printable ASCII.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "publisher/port_selector.h"
#include "publisher/port_spec.h"

namespace {

using namespace penstock;

void Require(bool holds) {
  if (!holds) std::abort();
}

void CheckRefusal(const absl::Status& status) {
  const std::string message(status.message());
  Require(status.code() == absl::StatusCode::kInvalidArgument);
  Require(std::all_of(message.begin(), message.end(),
                      [](char c) { return c == '\n' || (c >= ' ' && c < 127); }));
  Require(std::count(message.begin(), message.end(), '\n') <= 2);
  Require(message.size() <= 4 * kPortSpecBytesMax);
}

void CheckSpec(std::string_view text) {
  const absl::StatusOr<PortSpec> spec = ParsePortSpec(text);
  if (!spec.ok()) return CheckRefusal(spec.status());
  Require(Validate(*spec).ok());
  const absl::StatusOr<PortSpec> again = ParsePortSpec(ToString(*spec));
  Require(again.ok() && *again == *spec);
  // Whatever publishes something selects it, if it says where.
  if (spec->host != PortRange{}) Require(ParsePortSelector(text).ok());
}

void CheckSelector(std::string_view text) {
  const absl::StatusOr<PortSelector> selector = ParsePortSelector(text);
  if (!selector.ok()) return CheckRefusal(selector.status());
  const absl::StatusOr<PortSelector> again = ParsePortSelector(ToString(*selector));
  Require(again.ok() && *again == *selector);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A copy of exactly this size, so that a step beyond it is seen.
  const std::string text(data, data + size);
  CheckSpec(text);
  CheckSelector(text);
  return 0;
}
