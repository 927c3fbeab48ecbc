// The command line of `penstock ports`.
#include <algorithm>
#include <memory>

#include "publisher/port_selector.h"
#include "tools/penstock/command_line.h"

namespace penstock::tool {
namespace {

constexpr const char* kPortsFooter =
    R"(The penstock is one that was started with --control PATH, by the same user (root may
use any). Exit status: 0; 1 if it refused or does not answer; 2 for wrong options.

Examples, for a `penstock run --control /tmp/blue -- COMMAND`:
  penstock ports add --control /tmp/blue 8080:80           127.0.0.1:8080 to its port 80
  penstock ports add --control /tmp/blue 0:80 53:53/udp    a free port; UDP
  penstock ports list --control /tmp/blue
  penstock ports remove --control /tmp/blue 8080
`penstock ports add --help` tells how to write what is published.)";

// One grammar, told where it is used: publisher/port_spec.h.
constexpr const char* kAddFooter =
    R"(SPEC is [ADDRESS:]HOSTPORTS:GUESTPORTS[/tcp|/udp]:
  8080:80                      127.0.0.1:8080 to the guest's port 80, TCP
  53:53/udp                    UDP
  0.0.0.0:8080:80              every IPv4 address; [::1]:8080:80 an IPv6 one
  *:8080:80  eth0:8080:80      every address; those of an interface
  8000-8010,~8003:9000-9010    a range, without 8003 (and 9003)
  0:80                         a host port that the system chooses and this prints
All of them are published, or none. What is published is printed, a line each:
  127.0.0.1:8080 -> 10.0.2.15:80/tcp

Examples:
  penstock ports add --control /tmp/blue 8080:80
  penstock ports add --control /tmp/blue --client-identity preserve-source '*:80:80')";

constexpr const char* kRemoveFooter =
    R"(SPEC is [ADDRESS:]HOSTPORTS[:GUESTPORTS][/tcp|/udp], as for `ports add`; an address
or guest ports that are left out mean any. All of them are removed, or none: each must
select something.

Examples:
  penstock ports remove --control /tmp/blue 8080              on whatever address
  penstock ports remove --control /tmp/blue --reset 8080      and cut its connections
  penstock ports remove --control /tmp/blue '*:5353/udp' 8000-8010)";

constexpr const char* kListFooter =
    R"(LIVE and TOTAL are connections (UDP: clients); bytes are what they carried.

Examples:
  penstock ports list --control /tmp/blue
  penstock ports list --control /tmp/blue --json)";

CLI::App& AddOrder(CLI::App& app, const std::string& name, const std::string& description,
                   const char* arguments, const char* footer, PortsOptions& options) {
  CLI::App& order = *app.add_subcommand(name, description);
  order.formatter(
      std::make_shared<Formatter>("penstock ports " + name + " --control PATH " + arguments));
  order.footer(footer);
  AddControl(order, options.control);
  return order;
}

void AddSpecs(CLI::App& order, PortsOptions& options) {
  order.add_option("SPEC", options.specs, "What to publish, or no longer to publish")
      ->type_name("");
}

absl::Status CheckSpecs(const PortsOptions& options) {
  const bool adds = options.order == PortsOptions::Order::kAdd;
  if (options.specs.empty()) {
    return Wrong("ports ", adds ? "add" : "remove", " needs a SPEC such as 8080:80");
  }
  for (const std::string& spec : options.specs) {
    absl::Status parsed = adds ? ParsePortSpec(spec).status() : ParsePortSelector(spec).status();
    if (!parsed.ok()) return parsed;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Options> ParsePorts(std::vector<std::string> arguments) {
  arguments.erase(arguments.begin());
  PortsOptions options;
  std::string identity;
  CLI::App app("Publishes ports of a penstock that runs, removes and lists them.", "ports");
  app.formatter(std::make_shared<Formatter>("penstock ports add|remove|list [OPTIONS] [SPEC...]"));
  app.footer(kPortsFooter);
  CLI::App& add = AddOrder(app, "add", "Publish ports", "[OPTIONS] SPEC...", kAddFooter, options);
  AddSpecs(add, options);
  AddClientIdentity(add, identity);
  CLI::App& remove = AddOrder(app, "remove", "Publish ports no longer", "[--reset] SPEC...",
                              kRemoveFooter, options);
  AddSpecs(remove, options);
  remove.add_flag("--reset", options.reset, "Cut their connections, too");
  CLI::App& list =
      AddOrder(app, "list", "Show what is published", "[--json]", kListFooter, options);
  list.add_flag("--json", options.json, "As JSON, for programs");

  absl::StatusOr<std::optional<HelpText>> help = Parse(app, std::move(arguments));
  if (!help.ok()) return help.status();
  if (*help) return Options(**std::move(help));
  if (app.get_subcommands().empty()) {
    return Wrong("say what to do: penstock ports add, remove or list");
  }
  options.order = add.parsed()      ? PortsOptions::Order::kAdd
                  : remove.parsed() ? PortsOptions::Order::kRemove
                                    : PortsOptions::Order::kList;
  if (absl::Status s = CheckControl(options.control); !s.ok()) return s;
  if (options.order != PortsOptions::Order::kList) {
    if (absl::Status s = CheckSpecs(options); !s.ok()) return s;
  }
  const absl::StatusOr<ClientIdentity> named = IdentityOf(identity);
  if (!named.ok()) return named.status();
  options.identity = *named;
  return Options(std::move(options));
}

}  // namespace penstock::tool
