// The command line of `penstock serve`.
#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "tools/penstock/command_line.h"
#include "tools/penstock/common_options.h"
#include "tools/penstock/control_socket.h"
#include "tools/penstock/event_feed.h"

namespace penstock::tool {
namespace {

constexpr const char* kServeFooter =
    R"(Stays in the foreground until SIGTERM or SIGINT; a socket that was passed, or that it
connected to, ends it, too, when the VMM closes it. A VMM that goes is nobody's harm: the next
one finds PATH as it was, and a network in which nothing happened yet. What it says on stdout:

  penstock: listening at PATH        VMMs may come (so says "1" to --ready-fd)
  penstock: guest 1 has come
  penstock: guest 1 has gone

Each guest has a process and a stack of its own, with these options and addresses, and reaches
no other one but by ports that are published on the host. With --guests of more than one, the
files of --control, --stats-file and --pcap are those of each guest: PATH.1, PATH.2, ...

Inside, the guest configures itself by DHCP, router advertisements and stateless DHCPv6. What
it may reach is said by --profile, --policy, --allow and --deny.

Exit status: 0 at the end; 1 if the set-up failed, or a passed socket brought what cannot be
frames; 2 for wrong options. SIGUSR1: write the statistics now.

Examples, and how the VMM is started for each:
  penstock serve --stream /tmp/vm -p 8022:22
    qemu-system-x86_64 ... -device virtio-net-pci,netdev=n
      -netdev stream,id=n,server=off,addr.type=unix,addr.path=/tmp/vm
  penstock serve --stream /tmp/vm --connect          QEMU with server=on, started before
  penstock serve --dgram /tmp/vm
    qemu-system-x86_64 ... -device virtio-net-pci,netdev=n
      -netdev dgram,id=n,local.type=unix,local.path=/tmp/vm.qemu,
              remote.type=unix,remote.path=/tmp/vm
  penstock serve --stream /tmp/vm --offload both     libkrun: krun_add_net_unixstream
  penstock serve --dgram /tmp/vm --offload both      krun_add_net_unixgram, with or without
                                                     NET_FLAG_VFKIT; vfkit's virtio-net
                                                     unixSocketPath
  penstock serve --fd 3 3<>...                       one end of a pair whose other the VMM has)";

// Virtual machines are what nobody else keeps from anything.
constexpr const char* kServeProfile = "public";

constexpr uint32_t kGuestCountMax = 256;

// About what an emulated machine takes from an answer to its next question (bench/README.md,
// "machine"); one that is sooner is not looked for any longer. 200 us were not enough, 1000 no
// better.
constexpr int64_t kBusyPollMicroseconds = 400;

struct ServeTexts {
  std::string offload = "none";
};

void AddServe(CLI::App& app, ServeOptions& serve, ServeTexts& texts) {
  app.add_option("--stream", serve.stream,
                 "Listen here for VMMs that put a length before each frame: QEMU's\n"
                 "-netdev stream, libkrun's unixstream")
      ->type_name("PATH");
  app.add_option("--dgram", serve.datagrams,
                 "Be here for a VMM whose datagrams are frames: QEMU's -netdev dgram,\n"
                 "unixgram of libkrun and vfkit")
      ->type_name("PATH");
  app.add_option("--fd", serve.descriptor,
                 "Serve a connected socket that was passed: stream, datagram, seqpacket")
      ->type_name("N");
  app.add_flag("--connect", serve.connect, "With --stream: connect to a VMM that listens there");
  app.add_option("--guests", serve.guest_count_max,
                 "With --stream: so many at once, each with a network of its own (1)")
      ->type_name("N");
  app.add_option("--offload", texts.offload,
                 "Frames above the MTU: none, from-guest (the VMM passes on TCP as the\n"
                 "guest's driver left it, uncut and perhaps without checksum, as libkrun\n"
                 "does), both (it also hands its guest such frames, with checksum)")
      ->type_name("WHICH")
      ->capture_default_str();
  app.add_option("--ready-fd", serve.ready_descriptor,
                 "Gets \"1\" and is closed when VMMs may come")
      ->type_name("N");
  app.add_flag("--no-denials", serve.no_denials, "Say nothing of what is denied")->group("Policy");
}

absl::Status CheckOpen(const std::string& option, int descriptor) {
  if (descriptor >= 0 && fcntl(descriptor, F_GETFD) >= 0) return absl::OkStatus();
  return Wrong(option, " is ", descriptor, ", which is not open here");
}

absl::Status CheckPassed(int descriptor) {
  if (absl::Status s = CheckOpen("--fd", descriptor); !s.ok()) return s;
  int type = 0;
  socklen_t length = sizeof type;
  if (getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &length) == 0) return absl::OkStatus();
  return Wrong("--fd is ", descriptor, ", which is no socket: pass one end of a socket pair, or a ",
               "connection to the VMM");
}

absl::Status CheckPlace(const CLI::App& app, const ServeOptions& serve) {
  if (app.count("--stream") + app.count("--dgram") + app.count("--fd") != 1) {
    return Wrong("serve needs one place to serve at: give --stream PATH, --dgram PATH or --fd N");
  }
  if (serve.connect && serve.stream.empty()) {
    return Wrong("--connect is for --stream PATH, at which a VMM listens");
  }
  if (serve.descriptor) return CheckPassed(*serve.descriptor);
  return app.count("--stream") > 0 ? CheckSocketPath("--stream", serve.stream)
                                   : CheckSocketPath("--dgram", serve.datagrams);
}

// What can only be there once.
absl::Status CheckGuests(const ServeOptions& serve) {
  if (serve.guest_count_max == 0 || serve.guest_count_max > kGuestCountMax) {
    return Wrong("--guests is ", serve.guest_count_max, ": it must be 1 to ", kGuestCountMax);
  }
  if (serve.guest_count_max == 1) return absl::OkStatus();
  if (serve.stream.empty() || serve.connect) {
    return Wrong("--guests is ", serve.guest_count_max,
                 ": only --stream PATH, without --connect, can have more than one");
  }
  for (const PortSpec& spec : serve.common.publish) {
    if (spec.host == PortRange{}) continue;
    return Wrong("--publish ", std::string(ToString(spec)),
                 ": a port of the host's cannot lead to ", serve.guest_count_max,
                 " guests; let the system choose (0:80), or use `penstock ",
                 "ports add` for one of them");
  }
  if (serve.common.control.empty()) return absl::OkStatus();
  return CheckControlPath(absl::StrCat(serve.common.control, ".", serve.guest_count_max));
}

}  // namespace

absl::StatusOr<Options> ParseServe(std::vector<std::string> arguments) {
  arguments.erase(arguments.begin());
  ServeOptions serve;
  CommonTexts common_texts;
  ServeTexts texts;
  CLI::App app("Is the network of virtual machines, at a socket that their VMMs connect to.",
               "serve");
  app.formatter(
      std::make_shared<Formatter>("penstock serve (--stream PATH | --dgram PATH | --fd N) "
                                  "[OPTIONS]"));
  app.footer(kServeFooter);
  AddServe(app, serve, texts);
  common_texts.busy_poll_microseconds = kBusyPollMicroseconds;
  AddCommon(app, serve.common, common_texts, kServeProfile);
  absl::StatusOr<std::optional<HelpText>> help = Parse(app, std::move(arguments));
  if (!help.ok()) return help.status();
  if (*help) return Options(**std::move(help));

  if (absl::Status s = CheckPlace(app, serve); !s.ok()) return s;
  if (absl::Status s = SetCommon(app, common_texts, kServeProfile, serve.common); !s.ok()) return s;
  if (absl::Status s = CheckGuests(serve); !s.ok()) return s;
  if (absl::Status s = SetChoice("--offload", texts.offload,
                                 {std::pair{"none", VmmOffload::kNone},
                                  {"from-guest", VmmOffload::kFromGuest},
                                  {"both", VmmOffload::kBoth}},
                                 serve.offload);
      !s.ok()) {
    return s;
  }
  if (serve.ready_descriptor) {
    if (absl::Status s = CheckOpen("--ready-fd", *serve.ready_descriptor); !s.ok()) return s;
  }
  serve.common.tell_denials = !serve.no_denials;
  const bool watched = serve.common.tell_denials || !serve.common.control.empty();
  serve.common.config.event_count_max = watched ? kEventCountMax : 0;
  return Options(std::move(serve));
}

}  // namespace penstock::tool
