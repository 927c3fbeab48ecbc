// How specs (port_spec.h) and selectors (port_selector.h) are read: what the text says,
// where each part of it stands, and what cannot work. Only for those two.
//
// Two steps. Reading finds the parts and their numbers and knows no meaning: a range may
// go down, counts may differ. FindFault (port_fault.h) then looks at the meaning. A spec
// that was filled in by a program goes through the second step alone, so both give the
// same sentences, and only the text's have a caret.
//
// Plain functions; any thread.
#ifndef PENSTOCK_PUBLISHER_PORT_TEXT_H_
#define PENSTOCK_PUBLISHER_PORT_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "publisher/port_fault.h"
#include "publisher/port_spec.h"
#include "publisher/text_fault.h"

namespace penstock {

struct PortText {
  PortSpec spec;  // read, but not looked at by FindFault
  bool has_place = false;
  bool has_guest = false;  // false: `guest` is as `host`
  // Where the parts start in the text. `zone`: the "%", or where it is missing.
  size_t place_at = 0;
  size_t zone_at = 0;
  size_t host_at = 0;
  size_t guest_at = 0;
  std::vector<size_t> excluded_at;
};

enum class GuestPorts { kRequired, kOptional };

[[nodiscard]] absl::StatusOr<PortText> ReadPortText(std::string_view text, GuestPorts guest);

// WrongText (text_fault.h) for a fault of what was read from `text`.
[[nodiscard]] absl::Status WrongText(std::string_view text, const PortText& read,
                                     const PortFault& fault);

// "8000-8010,~8003".
[[nodiscard]] std::string HostPortsToString(const PortRange& host,
                                            const std::vector<PortRange>& excluded);

}  // namespace penstock

#endif  // PENSTOCK_PUBLISHER_PORT_TEXT_H_
