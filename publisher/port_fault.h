// What cannot work in a spec, whoever made it. Only for this folder; any thread.
#ifndef PENSTOCK_PUBLISHER_PORT_FAULT_H_
#define PENSTOCK_PUBLISHER_PORT_FAULT_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "publisher/port_spec.h"
#include "publisher/text_fault.h"

namespace penstock {

struct PortFault {
  // kZone begins with the "%", or where that is missing.
  enum class Part { kPlace, kZone, kHost, kGuest, kExcluded };
  Part part = Part::kPlace;
  size_t offset = 0;  // of the wrong character in the part
  size_t index = 0;   // kExcluded: which range
  std::string sentence;
};

// The first one.
[[nodiscard]] std::optional<PortFault> FindFault(const PortSpec& spec);

}  // namespace penstock

#endif  // PENSTOCK_PUBLISHER_PORT_FAULT_H_
