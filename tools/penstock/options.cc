#include "tools/penstock/options.h"

#include <fcntl.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "tools/penstock/command_line.h"
#include "tools/penstock/common_options.h"
#include "tools/penstock/event_feed.h"

namespace penstock::tool {
namespace {

constexpr const char* kDescription =
    R"(Gives a command, a network namespace or a virtual machine a network without privileges on
the host.)";

constexpr const char* kMainFooter = R"(Examples:
  penstock run -- curl https://example.org/          a command in a network of its own
  penstock run --host-loopback -- curl http://10.0.2.2:8080/
                                                     and the host's loopback by 10.0.2.2
  penstock run -p 8080:80 -- ./server                its port 80 on the host's 127.0.0.1:8080
  penstock run --allow example.org -- curl https://example.org/   that, and nothing else
  penstock attach --netns /run/netns/blue            for a namespace that is there
  penstock serve --stream /tmp/vm                    for a virtual machine (QEMU, libkrun)
  penstock ports add --control PATH 8080:80          more ports, while it runs
  penstock events --control PATH                     what happens in it, as it happens
`penstock COMMAND --help` says more.)";

constexpr const char* kRunFooter =
    R"(Inside, the command has tap0 with 10.0.2.15/24 and fd00::15/64, the MTU, default routes
of the families that the host has routes of, and a resolv.conf that names 10.0.2.3 and
fd00::3: by DHCP and IPv6 autoconfiguration, as any guest would. --static sets them
without asking; so does --no-dhcp for IPv4, and for IPv6 --no-ra or a prefix that is not
64 bits long. It keeps its user, files and terminal. What it leaves running is killed
when it ends.

What it may reach is said by --profile, --policy, --allow and --deny. Names are answered at
10.0.2.3 and fd00::3, from what the host's name servers say. The first denial of each kind
is told on stderr, with the option that would have let it through.

Exit status: the command's own; 128 + N if signal N killed it; 127 if there is no
such command, 126 if it cannot be run; 1 if the set-up failed; 2 for wrong options.
Signals are passed on, but for SIGUSR1: write the statistics now.

Examples:
  penstock run -- curl https://example.org/
  penstock run --host-loopback -- curl http://10.0.2.2:8080/   a server on 127.0.0.1
  penstock run --host-loopback -- curl 'http://[fd00::2]:8080/'  the same by IPv6
  penstock run --allow example.org:443/tcp -- curl https://example.org/  nothing else
  penstock run --profile public --deny 203.0.113.0/24 --allow 10.1.2.3:5432/tcp -- ./client
  penstock run --policy rules.txt --dns-host db.test=10.1.2.3 -- ./client
  penstock run -p 8080:80 -- ./server           its port 80, on the host's 127.0.0.1:8080
  penstock run -p 0:80 -p '*:53:53/udp' -- ./server            a free port; every address
  penstock run --stats --no-ipv6 -- make test                  who talked to whom
  penstock run --impair delay=20ms,drop=1% -- ./client         over a bad link
  penstock run --pcap guest.pcapng -- ./client                 and look at its frames)";

constexpr const char* kAttachFooter =
    R"(Stays in the foreground until SIGTERM or SIGINT, the end of PID, or until PATH is
removed or unmounted; then the exit status is 0. 1: the set-up failed, 2: wrong
options. SIGUSR1: write the statistics now.

Examples:
  penstock attach --netns /run/netns/blue
  penstock attach --pid 1234 --ready-fd 3 3>ready   "1" comes when the network is there
  penstock attach --pid 1234 --tap eth0 --mtu 65520
  penstock attach --pid 1234 --publish 8080:80 --control /tmp/blue
  penstock attach --pid 1234 --profile public --platform-policy /etc/penstock/platform
  penstock attach --netns PATH --no-configure       only the tap: for a DHCP client and the
                                                    kernel's own autoconfiguration inside)";

// What the sandbox may reach if nothing is said. Whoever attaches has a sandbox already, with
// rules of its own.
constexpr const char* kRunProfile = "public";
constexpr const char* kAttachProfile = "all";

void AddTap(CLI::App& app, CommonTexts& texts) {
  app.add_flag("--no-offload", texts.no_offload, "A tap without checksum and segmentation offload");
}

CLI::App& AddRun(CLI::App& app, RunOptions& run) {
  CLI::App& command = *app.add_subcommand("run", "Run a command in namespaces made for it");
  command.formatter(
      std::make_shared<Formatter>("penstock run [OPTIONS] -- COMMAND [ARGUMENTS...]"));
  command.footer(kRunFooter);
  command.add_flag("--user-namespace", run.user_namespace,
                   "Make a user namespace although root needs none");
  command.add_flag("--static", run.static_network,
                   "Set addresses and routes at once, whatever the host has routes of;\n"
                   "without it they are those that DHCP and router advertisements tell");
  command.add_flag("--no-denials", run.no_denials, "Say nothing of what is denied")
      ->group("Policy");
  return command;
}

CLI::App& AddAttach(CLI::App& app, AttachOptions& attach) {
  CLI::App& command = *app.add_subcommand("attach", "Serve a network namespace that is there");
  command.formatter(
      std::make_shared<Formatter>("penstock attach (--netns PATH | --pid PID) [OPTIONS]"));
  command.footer(kAttachFooter);
  command.add_option("--netns", attach.network_namespace, "The namespace, by path")
      ->type_name("PATH");
  command.add_option("--pid", attach.pid, "The namespace of this process")->type_name("PID");
  command
      .add_option("--userns", attach.user_namespace,
                  "Enter this user namespace first (found where it is needed)")
      ->type_name("PATH");
  command.add_option("--tap", attach.tap, "Name of the interface")
      ->type_name("NAME")
      ->capture_default_str();
  command
      .add_option("--ready-fd", attach.ready_descriptor,
                  "Gets \"1\" and is closed when the network is there")
      ->type_name("N");
  command.add_flag("--no-configure", attach.no_configure,
                   "Make the tap only, and leave addresses, routes and MTU to clients\n"
                   "inside; it stays down");
  return command;
}

absl::Status CheckAttach(const AttachOptions& options) {
  if (options.network_namespace.empty() == !options.pid.has_value()) {
    return Wrong("attach needs a target: give --netns PATH or --pid PID, and not both");
  }
  if (options.pid && *options.pid <= 0) {
    return Wrong("--pid is ", *options.pid, ": it must be a process's number");
  }
  const std::string& tap = options.tap;
  const bool plain = std::all_of(tap.begin(), tap.end(), [](unsigned char c) {
    return c > ' ' && c < 127 && c != '/' && c != '%' && c != ':';
  });
  if (tap.empty() || tap.size() > 15 || !plain || tap == "." || tap == "..") {
    return Wrong("--tap is \"", tap, "\": it must be a name of 1 to 15 letters or digits");
  }
  if (options.ready_descriptor &&
      (*options.ready_descriptor < 0 || fcntl(*options.ready_descriptor, F_GETFD) < 0)) {
    return Wrong("--ready-fd is ", *options.ready_descriptor,
                 ", which is not open here: open it as in `penstock attach ... --ready-fd 3 3>f`");
  }
  return absl::OkStatus();
}

absl::Status CheckCommandWord(const std::vector<std::string>& arguments) {
  if (arguments.empty()) {
    return Wrong("say what to do: penstock run, attach, serve, ports, events, flows or policy ",
                 "(`penstock --help` explains)");
  }
  for (const char* known :
       {"run", "attach", "serve", "ports", "events", "flows", "policy", "-h", "--help"}) {
    if (arguments[0] == known) return absl::OkStatus();
  }
  return Wrong("\"", arguments[0], "\" is no command of penstock: start with run, attach, serve, ",
               "ports, events, flows or policy");
}

}  // namespace

int RelayThreadsFor(unsigned cores) {
  return cores <= 2 ? 0 : static_cast<int>(std::clamp(cores / 4, 1U, 4U));
}

absl::StatusOr<Options> ParseOptions(std::vector<std::string> arguments) {
  // Ours end at the first "--": whatever the command's look like, we never read them.
  const auto dashes = std::find(arguments.begin(), arguments.end(), "--");
  const bool has_command = dashes != arguments.end();
  RunOptions run;
  if (has_command) run.command.assign(dashes + 1, arguments.end());
  arguments.erase(dashes, arguments.end());
  if (absl::Status s = CheckCommandWord(arguments); !s.ok()) return s;
  for (const auto& [word, parse] : {std::pair{"serve", &ParseServe},
                                    {"ports", &ParsePorts},
                                    {"events", &ParseEvents},
                                    {"flows", &ParseFlows},
                                    {"policy", &ParsePolicyOrder}}) {
    if (arguments[0] != word) continue;
    if (has_command) return Wrong(word, " takes no command: leave the -- out");
    return parse(std::move(arguments));
  }

  CommonOptions common;
  CommonTexts texts;
  AttachOptions attach;
  CLI::App app(kDescription, "penstock");
  app.formatter(
      std::make_shared<Formatter>("penstock run|attach|serve|ports|events|flows|policy [OPTIONS]"));
  app.footer(kMainFooter);

  CLI::App& run_app = AddRun(app, run);
  CLI::App& attach_app = AddAttach(app, attach);
  AddCommon(run_app, common, texts, kRunProfile);
  AddCommon(attach_app, common, texts, kAttachProfile);
  AddTap(run_app, texts);
  AddTap(attach_app, texts);

  // Read by parsers of their own; here for the list in the help.
  app.add_subcommand("serve", "Serve virtual machines, at a socket");
  app.add_subcommand("ports", "Publish ports of a penstock that runs, remove and list them");
  app.add_subcommand("events", "Show what happens in a penstock that runs");
  app.add_subcommand("flows", "Show who talks to whom in it");
  app.add_subcommand("policy", "Show, replace, check and explain what it allows");
  absl::StatusOr<std::optional<HelpText>> help = Parse(app, std::move(arguments));
  if (!help.ok()) return help.status();
  if (*help) return Options(**std::move(help));

  const bool is_run = run_app.parsed();
  const absl::Status set = SetCommon(is_run ? run_app : attach_app, texts,
                                     is_run ? kRunProfile : kAttachProfile, common);
  if (!set.ok()) return set;
  common.tell_denials = is_run && !run.no_denials;
  const bool watched = common.tell_denials || !common.control.empty();
  common.config.event_count_max = watched ? kEventCountMax : 0;
  if (is_run) {
    if (run.command.empty()) {
      return Wrong("run needs a command: penstock run [OPTIONS] -- COMMAND [ARGUMENTS...]");
    }
    run.common = std::move(common);
    return Options(std::move(run));
  }
  if (has_command) return Wrong("attach takes no command: use `penstock run` to start one");
  if (absl::Status s = CheckAttach(attach); !s.ok()) return s;
  attach.common = std::move(common);
  return Options(std::move(attach));
}

}  // namespace penstock::tool
