#include "tests/support/virtual_machine.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cstdlib>
#include <stdexcept>

#include "tests/support/places.h"

namespace penstock::e2e {
namespace {

// Of third_party/linux/fetch.
std::string KernelFolder() {
  const char* given = std::getenv("PENSTOCK_LINUX_DIR");
  return given != nullptr ? given : SourcePath("build/third_party/linux");
}

// Half of it is for files; net-echo of a sanitizer's build, its libraries and the archive that they
// come in take 60 MiB (init says so if that is too little).
constexpr char kMemoryMib[] = "256";

}  // namespace

VirtualMachine::Line::Line() {
  std::array<int, 2> ends;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    ThrowErrno("socketpair");
  own = Descriptor(ends[0]);
  qemus = Descriptor(ends[1]);
}

VirtualMachine::VirtualMachine(const std::string& netdev) {
  const std::string kernel = KernelFolder();
  RunOrThrow({SourcePath("tests/vm/image"), kernel, folder_ / "image", ProgramPath("net-echo")});
  const auto chardev = [](const char* name, const Line& line) {
    return std::string("socket,id=") + name + ",fd=" + std::to_string(line.qemus.get());
  };
  qemu_ = Process({"qemu-system-x86_64",
                   "-accel",
                   "tcg",
                   "-machine",
                   "pc",
                   "-m",
                   kMemoryMib,
                   "-nodefaults",
                   "-no-user-config",
                   "-display",
                   "none",
                   "-no-reboot",
                   "-kernel",
                   kernel + "/vmlinuz",
                   "-initrd",
                   folder_ / "image/initramfs",
                   "-append",
                   "console=ttyS0 quiet loglevel=1 panic=-1 tsc=reliable no_timer_check",
                   "-chardev",
                   chardev("console", console_),
                   "-serial",
                   "chardev:console",
                   "-chardev",
                   chardev("monitor", monitor_),
                   "-mon",
                   "chardev=monitor,mode=control",
                   "-netdev",
                   netdev,
                   "-device",
                   "virtio-net-pci,netdev=n,romfile="},
                  {.kept = {console_.qemus.get(), monitor_.qemus.get()}});
  console_.qemus.Close();
  monitor_.qemus.Close();
  (void)ReadTo(monitor_, "\"QMP\"");
  Order("qmp_capabilities", "\"return\"");
  (void)ReadTo(console_, "=ready\n");
}

std::string VirtualMachine::ReadTo(Line& line, const std::string& mark) {
  const Time deadline = Clock::now() + kLimit;
  for (;;) {
    if (const size_t at = line.read.find(mark); at != std::string::npos) {
      std::string before = line.read.substr(0, at);
      line.read.erase(0, at + mark.size());
      return before;
    }
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd watched{.fd = line.own.get(), .events = POLLIN, .revents = 0};
    std::array<char, 4096> some;
    ssize_t got = 0;
    if (left.count() > 0 && poll(&watched, 1, static_cast<int>(left.count())) > 0) {
      got = recv(line.own.get(), some.data(), some.size(), 0);
    }
    if (got <= 0) {
      throw std::runtime_error("the virtual machine says no \"" + mark + "\", but: " + line.read);
    }
    line.read.append(some.data(), static_cast<size_t>(got));
  }
}

void VirtualMachine::Write(const Line& line, const std::string& text) {
  if (send(line.own.get(), text.data(), text.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(text.size())) {
    ThrowErrno("the virtual machine hears nothing");
  }
}

void VirtualMachine::Begin(const std::string& line) {
  line_ = line;
  Write(console_, line + "\n");
}

std::string VirtualMachine::End() {
  const std::string said = ReadTo(console_, "=status ");
  const std::string status = ReadTo(console_, "\n");
  if (status != "0") {
    throw std::runtime_error("in the virtual machine, \"" + line_ + "\" ended with " + status +
                             ": " + said);
  }
  return said;
}

std::string VirtualMachine::Run(const std::string& line) {
  Begin(line);
  return End();
}

void VirtualMachine::Order(const std::string& order, const std::string& event) {
  Write(monitor_, "{\"execute\": \"" + order + "\"}\n");
  (void)ReadTo(monitor_, event);
}

void VirtualMachine::Stop() { Order("stop", "\"STOP\""); }
void VirtualMachine::Continue() { Order("cont", "\"RESUME\""); }

}  // namespace penstock::e2e
