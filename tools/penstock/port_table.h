// Published ports as a table for people. Any thread.
#ifndef PENSTOCK_TOOLS_PENSTOCK_PORT_TABLE_H_
#define PENSTOCK_TOOLS_PENSTOCK_PORT_TABLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "publisher/published_port.h"

namespace penstock::tool {

// As the control protocol carries it.
struct PortRow {
  std::string bound;
  std::string guest;
  std::string protocol;
  std::string identity;
  uint64_t flows_live = 0;
  uint64_t flows_total = 0;
  uint64_t bytes_to_guest = 0;
  uint64_t bytes_to_host = 0;
};

[[nodiscard]] PortRow RowOf(const PublishedPort& port);

// A heading and a line for each row; "no ports are published" if there is none.
[[nodiscard]] std::string PortTable(const std::vector<PortRow>& rows);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_PORT_TABLE_H_
