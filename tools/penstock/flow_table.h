// Flows as a table for people, made of what the control socket carries. Any thread.
#ifndef PENSTOCK_TOOLS_PENSTOCK_FLOW_TABLE_H_
#define PENSTOCK_TOOLS_PENSTOCK_FLOW_TABLE_H_

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>

#include "relay/time.h"

namespace penstock::tool {

class FlowTable final {
 public:
  // A heading and a line for each flow of `rows`; "no flows" if there is none. Rates are those
  // since the look before at the same flow, or of its whole life.
  [[nodiscard]] std::string Show(const nlohmann::json& rows);

 private:
  // Who, whom, by what. Two of the same are told apart by their age: the younger one has not
  // been there at the look before.
  using Key = std::tuple<std::string, std::string, std::string>;
  struct Look {
    Duration age{};
    uint64_t to_host = 0;
    uint64_t to_guest = 0;
  };

  std::map<Key, Look> before_;
};

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_FLOW_TABLE_H_
