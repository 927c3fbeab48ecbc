// The command line of `penstock policy`.
#include <algorithm>
#include <memory>
#include <utility>

#include "stack/policy/canonical_name.h"
#include "tools/penstock/command_line.h"
#include "tools/penstock/endpoint_text.h"
#include "tools/penstock/policy_file.h"

namespace penstock::tool {
namespace {

constexpr const char* kPolicyFooter =
    R"(A policy says what a sandbox may reach, and who may reach it: that of `penstock run` is
made of its options, and is replaced whole by `policy set`. A second one, the platform's,
must allow as well if there is one. `penstock policy check --help` tells how one is written.

Exit status: 0; 1 if the penstock refused or is not there; 2 for wrong options and wrong
policies; of `explain`, 3 if it is denied and 4 if that depends on a name.

Examples, for a `penstock run --control /tmp/blue -- COMMAND`:
  penstock policy show --control /tmp/blue > rules.txt
  penstock policy check rules.txt
  penstock policy set --control /tmp/blue --reset rules.txt
  penstock policy explain --control /tmp/blue tcp 10.1.2.3:5432)";

constexpr const char* kShowFooter = R"(It is a text that `policy set` takes.

Examples:
  penstock policy show --control /tmp/blue
  penstock policy show --control /tmp/blue --platform)";

constexpr const char* kSetFooter =
    R"(New connections see it at once. FILE may be -, for standard input.

Examples:
  penstock policy set --control /tmp/blue rules.txt
  penstock policy set --control /tmp/blue --reset rules.txt   and cut what it denies
  echo 'default egress deny' | penstock policy set --control /tmp/blue -)";

// One grammar, told where it is used: stack/policy/README.md.
constexpr const char* kCheckFooter =
    R"(A line each; the first rule that fits decides, else the default of its direction:
  allow|deny egress|ingress DESTINATION[:PORTS][/PROTOCOLS]    # a comment
  default egress|ingress allow|deny      (egress deny, ingress allow, if it is not there)
DESTINATION is any; an address or a network (10.0.0.0/8, fd01::/64; before :PORTS an IPv6 one
in brackets); a group: @host, @metadata, @loopback, @private, @link-local, @multicast or
@public; a name: example.test, or *.example.test for all below it. Of ingress it is the
client, and PORTS are the sandbox's. PORTS: 443 or 80,8000-8010. PROTOCOLS: tcp or tcp,udp,icmp.
@host (the gateway's address) and @metadata are shut unless a rule names them.

  allow egress example.test:443/tcp
  allow egress [fd01::1]:53
  deny  egress @private
  allow egress @public
  default egress deny

No penstock need run. What is right is silent; else the line, the place and what to write.

Examples:
  penstock policy check rules.txt
  penstock policy check rules.txt platform.txt && echo right)";

constexpr const char* kExplainFooter =
    R"(PROTOCOL is tcp, udp or icmp; ADDRESS[:PORT] whom the sandbox speaks to (icmp: without a
port), with --ingress the client and the sandbox's own port: --ingress tcp 192.0.2.7:80.
--name is the name that TLS or HTTP shows; without a running penstock it is taken to be
that of the address.

Exit status: 0 if it is allowed, 3 if it is denied, 4 if that depends on the name that the
first bytes show.

Examples:
  penstock policy explain --control /tmp/blue tcp 10.1.2.3:5432
  penstock policy explain --profile public tcp '[fd01::1]:443'
  penstock policy explain --policy rules.txt tcp 198.51.100.7:443 --name example.test)";

struct ExplainTexts {
  std::string protocol;
  std::string peer;
  std::string name;
  std::string policy;
  std::string profile;
  bool ingress = false;
};

CLI::App& AddOrder(CLI::App& app, const std::string& name, const std::string& description,
                   const char* arguments, const char* footer) {
  CLI::App& order = *app.add_subcommand(name, description);
  order.formatter(
      std::make_shared<Formatter>(absl::StrCat("penstock policy ", name, " ", arguments)));
  order.footer(footer);
  return order;
}

void AddExplain(CLI::App& order, PolicyOptions& options, ExplainTexts& texts) {
  AddControl(order, options.control);
  order.add_option("--policy", texts.policy, "Of this file instead")->type_name("FILE");
  order.add_option("--profile", texts.profile, "Of this profile instead")
      ->type_name("public|none|all");
  order.add_option("--name", texts.name, "The name by which it is reached")->type_name("NAME");
  order.add_flag("--ingress", texts.ingress, "A client of a published port");
  order.add_option("PROTOCOL", texts.protocol, "tcp, udp or icmp")->type_name("");
  order.add_option("ADDRESS", texts.peer, "With :PORT for tcp and udp")->type_name("");
}

absl::Status ReadQuestion(const ExplainTexts& texts, PolicyOptions& options) {
  options.direction = texts.ingress ? Direction::kIngress : Direction::kEgress;
  bool known = false;
  for (const auto protocol : {PolicyProtocol::kTcp, PolicyProtocol::kUdp, PolicyProtocol::kIcmp}) {
    if (texts.protocol != Name(protocol)) continue;
    options.protocol = protocol;
    known = true;
  }
  if (!known) {
    return Wrong("policy explain needs a protocol and an address: tcp 10.1.2.3:5432, ",
                 "udp '[fd01::1]:53' or icmp 10.1.2.3");
  }
  const bool icmp = options.protocol == PolicyProtocol::kIcmp;
  const std::optional<IpAddress> address = IpAddress::Parse(texts.peer);
  const std::optional<Endpoint> peer = icmp && address ? Endpoint{*address, 0}
                                       : icmp          ? std::nullopt
                                                       : ParseEndpoint(texts.peer, std::nullopt);
  if (!peer) {
    return Wrong("\"", texts.peer, "\" is not what ", texts.protocol, " speaks to: write ",
                 icmp ? "an address such as 10.1.2.3" : "such as 10.1.2.3:5432 or [fd01::1]:80");
  }
  options.peer = *peer;
  if (texts.name.empty()) return absl::OkStatus();
  const std::optional<std::string> name = CanonicalName(texts.name);
  if (!name) return Wrong("--name is \"", texts.name, "\": it must be such as example.test");
  options.name = *name;
  return absl::OkStatus();
}

// Where the policy is that is to explain itself.
absl::Status ReadExplain(const ExplainTexts& texts, PolicyOptions& options) {
  const int places = (options.control.empty() ? 0 : 1) + (texts.policy.empty() ? 0 : 1) +
                     (texts.profile.empty() ? 0 : 1);
  if (places != 1) {
    return Wrong("policy explain needs one policy: give --control PATH, --policy FILE or ",
                 "--profile NAME", places == 0 ? "" : ", and not several");
  }
  if (absl::Status s = ReadQuestion(texts, options); !s.ok()) return s;
  if (!options.control.empty()) return CheckControl(options.control);
  if (!texts.profile.empty()) {
    options.policy = Policy::Profile(texts.profile);
    if (options.policy != nullptr) return absl::OkStatus();
    return Wrong("--profile is \"", texts.profile, "\": it must be public, none or all");
  }
  const absl::StatusOr<std::string> text = ReadPolicyFile(texts.policy);
  if (!text.ok()) return Wrong(text.status().message());
  auto policy = Policy::Parse(*text, PolicySource(texts.policy));
  if (!policy.ok()) return Wrong(policy.status().message());
  options.policy = *std::move(policy);
  return absl::OkStatus();
}

absl::Status CheckFiles(const PolicyOptions& options) {
  const bool sets = options.order == PolicyOptions::Order::kSet;
  if (options.files.empty()) return Wrong("policy ", sets ? "set" : "check", " needs a FILE");
  if (sets && options.files.size() > 1) return Wrong("policy set takes one FILE");
  if (std::count(options.files.begin(), options.files.end(), "-") > 1) {
    return Wrong("standard input can be read once: give one -");
  }
  return absl::OkStatus();
}

absl::Status ReadOrder(const ExplainTexts& texts, PolicyOptions& options) {
  if (options.order == PolicyOptions::Order::kExplain) return ReadExplain(texts, options);
  if (options.order != PolicyOptions::Order::kShow) {
    if (absl::Status s = CheckFiles(options); !s.ok()) return s;
  }
  return options.order == PolicyOptions::Order::kCheck ? absl::OkStatus()
                                                       : CheckControl(options.control);
}

}  // namespace

absl::StatusOr<Options> ParsePolicyOrder(std::vector<std::string> arguments) {
  arguments.erase(arguments.begin());
  PolicyOptions options;
  ExplainTexts texts;
  CLI::App app("Shows, replaces, checks and explains what a sandbox may reach.", "policy");
  app.formatter(std::make_shared<Formatter>("penstock policy show|set|check|explain [OPTIONS]"));
  app.footer(kPolicyFooter);
  CLI::App& show =
      AddOrder(app, "show", "Print the policy", "--control PATH [--platform]", kShowFooter);
  CLI::App& set = AddOrder(app, "set", "Replace it", "--control PATH [OPTIONS] FILE", kSetFooter);
  CLI::App& check = AddOrder(app, "check", "Look for mistakes in files", "FILE...", kCheckFooter);
  CLI::App& explain = AddOrder(
      app, "explain", "Say which rule decides, and why",
      "(--control PATH | --policy FILE | --profile NAME) [OPTIONS] PROTOCOL ADDRESS[:PORT]",
      kExplainFooter);
  for (CLI::App* order : {&show, &set}) {
    AddControl(*order, options.control);
    order->add_flag("--platform", options.platform, "The platform's policy, not the tenant's");
  }
  set.add_flag("--reset", options.reset, "Cut the connections that it denies, too");
  set.add_flag("--dry-run", options.dry_run, "Look for mistakes, and replace nothing");
  for (CLI::App* order : {&set, &check}) {
    order->add_option("FILE", options.files, "The text; -: standard input")->type_name("");
  }
  AddExplain(explain, options, texts);

  absl::StatusOr<std::optional<HelpText>> help = Parse(app, std::move(arguments));
  if (!help.ok()) return help.status();
  if (*help) return Options(**std::move(help));
  if (app.get_subcommands().empty()) {
    return Wrong("say what to do: penstock policy show, set, check or explain");
  }
  options.order = show.parsed()    ? PolicyOptions::Order::kShow
                  : set.parsed()   ? PolicyOptions::Order::kSet
                  : check.parsed() ? PolicyOptions::Order::kCheck
                                   : PolicyOptions::Order::kExplain;
  if (absl::Status s = ReadOrder(texts, options); !s.ok()) return s;
  return Options(std::move(options));
}

}  // namespace penstock::tool
