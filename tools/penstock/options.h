// The command line as a struct. Everything that can be known to be wrong before
// anything is touched is found here.
#ifndef PENSTOCK_TOOLS_PENSTOCK_OPTIONS_H_
#define PENSTOCK_TOOLS_PENSTOCK_OPTIONS_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "publisher/port_spec.h"
#include "relay/endpoint.h"
#include "relay/time.h"
#include "stack/asio_driver.h"
#include "stack/config.h"
#include "stack/link/impair.h"
#include "stack/policy/policy.h"

namespace penstock::tool {

struct CommonOptions {
  Config config;  // with the policies
  // That many lines at the head of the tenant's policy are of --allow and --deny.
  uint32_t policy_option_lines = 0;
  std::string allow_option;  // how one more thing would be allowed (policy_choice.h)
  bool tell_denials = false;
  std::vector<PortSpec> publish;
  std::string control;  // where orders are taken; empty: nowhere
  bool offload = true;
  Duration busy_poll = AsioDriver::kBusyPoll;  // where one thread does everything
  std::optional<ImpairOptions> impair;
  std::string pcap;  // the capture file; empty: none
  bool stats = false;
  std::string stats_file;  // empty: none
  bool confined = true;    // once it is set up
};

struct RunOptions {
  CommonOptions common;
  bool user_namespace = false;
  // Addresses are set without asking the stack.
  bool static_network = false;
  bool no_denials = false;
  std::vector<std::string> command;
};

struct AttachOptions {
  CommonOptions common;
  // One of the two.
  std::string network_namespace;
  std::optional<pid_t> pid;
  std::string user_namespace;  // empty: found by the tool if it needs one
  std::string tap = "tap0";
  std::optional<int> ready_descriptor;
  bool no_configure = false;
};

// What a VMM's socket carries that is larger than the MTU (stack/link/vmm_link.h).
enum class VmmOffload : uint8_t { kNone, kFromGuest, kBoth };

struct ServeOptions {
  CommonOptions common;
  // One of the three.
  std::string stream;
  std::string datagrams;
  std::optional<int> descriptor;
  bool connect = false;  // to `stream`, instead of listening there
  uint32_t guest_count_max = 1;
  VmmOffload offload = VmmOffload::kNone;
  std::optional<int> ready_descriptor;
  bool no_denials = false;
};

// Orders to a penstock that runs.
struct PortsOptions {
  enum class Order { kAdd, kRemove, kList };
  Order order = Order::kList;
  std::string control;
  std::vector<std::string> specs;  // each was parsed: as specs (add) or selectors (remove)
  ClientIdentity identity = ClientIdentity::kGateway;  // add
  bool reset = false;                                  // remove: flows, too
  bool json = false;                                   // list
};

// What happens in a penstock that runs.
struct EventsOptions {
  std::string control;
  bool json = false;
  std::optional<uint64_t> count;  // unset: until the penstock ends
};

struct FlowsOptions {
  std::string control;
  bool json = false;
  std::optional<Duration> watch;  // look again after
  std::optional<uint64_t> count;  // so many looks; unset: with `watch` without end, else one
};

struct PolicyOptions {
  enum class Order { kShow, kSet, kCheck, kExplain };
  Order order = Order::kShow;
  std::string control;             // explain: empty if it is about `policy` instead
  bool platform = false;           // show, set: that layer
  bool reset = false;              // set: flows that it denies, too
  bool dry_run = false;            // set
  std::vector<std::string> files;  // set: one; check
  // explain
  std::shared_ptr<const Policy> policy;
  PolicyProtocol protocol = PolicyProtocol::kTcp;
  Direction direction = Direction::kEgress;
  Endpoint peer;     // port 0 for ICMP
  std::string name;  // canonical; empty: none
};

struct HelpText {
  std::string text;
};

using Options = std::variant<RunOptions, AttachOptions, ServeOptions, PortsOptions, EventsOptions,
                             FlowsOptions, PolicyOptions, HelpText>;

// InvalidArgument with one sentence if something is wrong (and, for a spec, the place).
[[nodiscard]] absl::StatusOr<Options> ParseOptions(std::vector<std::string> arguments);

// What "--relay-threads auto" means on a machine with `cores`.
[[nodiscard]] int RelayThreadsFor(unsigned cores);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_OPTIONS_H_
