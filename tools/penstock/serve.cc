// A socket that was passed is served in this process. At a path, this process only opens the
// door (vmm_door.h): it forks a process for each guest (served_guest.h), tells who comes and goes,
// and passes on what ends it. It reads no frame, and stays outside of what confines the guests'
// processes, for those that come later need it there.
//
//   penstock ── door ──┬── guest 1, confined ── its clerk
//                      └── guest 2, confined ── its clerk
//
// Whether the options work out is tried before the door is open, with a guest that leaves at
// once: a port in use, above all, is better known now than when the first VMM comes.
#include "tools/penstock/serve.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tools/penstock/namespaces.h"
#include "tools/penstock/served_guest.h"
#include "tools/penstock/service.h"
#include "tools/penstock/vmm_door.h"

namespace penstock::tool {
namespace {

// What a guest's process gets to end by itself, when the server does.
constexpr int kEndMilliseconds = 5'000;
// After an error that waiting may cure: descriptors, processes, memory.
constexpr int kPauseMilliseconds = 1'000;

// "penstock: SENTENCE" on stdout, at once.
void Tell(const std::string& sentence) {
  std::printf("penstock: %s\n", sentence.c_str());
  std::fflush(stdout);
}

absl::Status TellReady(std::optional<int> descriptor) {
  if (!descriptor) return absl::OkStatus();
  const Descriptor ready(*descriptor);
  if (write(ready.get(), "1", 1) == 1) return absl::OkStatus();
  return ErrnoStatus("cannot write to the ready descriptor", errno);
}

// Guest K of several has files of its own.
ServeOptions OptionsOf(const ServeOptions& all, uint32_t number) {
  ServeOptions options = all;
  if (all.guest_count_max == 1) return options;
  for (std::string* file :
       {&options.common.control, &options.common.stats_file, &options.common.pcap}) {
    if (!file->empty()) absl::StrAppend(file, ".", number);
  }
  return options;
}

class Server final {
 public:
  Server(const ServeOptions& options, VmmDoor door, Lifetime lifetime, const SignalMask& mask)
      : options_(options), door_(std::move(door)), mask_(mask) {
    lifetime_.emplace(std::move(lifetime));
  }

  // OK when a signal has ended it.
  absl::Status Run();
  // Whether a guest could be served.
  absl::Status Rehearse();

 private:
  struct Guest {
    uint32_t number = 0;
    pid_t process = -1;
    Descriptor end;      // readable when the process has ended
    Descriptor channel;  // "1" comes when it serves; its end of the stream is the server's end
    bool is_here = false;
  };

  [[nodiscard]] bool HasRoom() const { return guests_.size() < options_.guest_count_max; }
  // Somebody at the door can be let in, or told of.
  [[nodiscard]] bool DoorMatters() const {
    return !pausing_ && (HasRoom() || (door_.visitors_wait() && !told_full_));
  }
  void OnDoor();
  void Begin(VmmDoor::Visitor visitor);
  // In a child.
  [[noreturn]] void BeGuest(uint32_t number, VmmDoor::Visitor visitor, Descriptor channel);
  [[noreturn]] void BeRehearsal(Descriptor socket, Descriptor channel);
  void LeaveServer();
  void Hear(Guest& guest);
  // Of one whose process has ended, or is ended here.
  void Leave(Guest& guest);
  // False: the end.
  [[nodiscard]] bool OnSignals();
  void EndGuests();

  const ServeOptions& options_;
  VmmDoor door_;
  std::optional<Lifetime> lifetime_;  // none in a child
  const SignalMask& mask_;
  std::list<Guest> guests_;
  bool told_full_ = false;
  bool pausing_ = false;  // until the next turn
};

// ---------------------------------------------------------------- in the guests' processes

void Server::LeaveServer() {
  door_.CloseCopy();
  lifetime_.reset();
  guests_.clear();
}

void Server::BeGuest(uint32_t number, VmmDoor::Visitor visitor, Descriptor channel) {
  LeaveServer();
  const std::string who = absl::StrCat("guest ", number);
  if (options_.guest_count_max > 1) SayOf(who);
  const int server = channel.get();
  const absl::Status served = ServeGuest(
      OptionsOf(options_, number),
      {.socket = std::move(visitor.socket),
       .vmm = std::move(visitor.process),
       .server = std::move(channel),
       .on_ready =
           [server] {
             return write(server, "1", 1) == 1 ? absl::OkStatus()
                                               : absl::UnavailableError("the server has ended");
           }},
      mask_);
  if (!served.ok()) Say(std::string(served.message()));
  _exit(served.ok() ? 0 : 1);
}

void Server::BeRehearsal(Descriptor socket, Descriptor channel) {
  LeaveServer();
  const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
  (void)dup2(nowhere, STDERR_FILENO);
  ServeOptions options = OptionsOf(options_, 1);
  options.common.stats = false;
  options.common.stats_file.clear();
  options.common.pcap.clear();
  const absl::Status served = ServeGuest(
      std::move(options),
      {.socket = std::move(socket), .vmm = {}, .server = {}, .on_ready = absl::OkStatus}, mask_);
  const std::string failure(served.message());
  (void)!write(channel.get(), failure.data(), failure.size());
  _exit(0);
}

// ---------------------------------------------------------------- in the server's

absl::Status Server::Rehearse() {
  std::array<int, 2> link, channel;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, link.data()) != 0) {
    return ErrnoStatus("cannot make a socket pair", errno);
  }
  Descriptor guest(link[0]);
  close(link[1]);  // it leaves at once
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel.data()) != 0) {
    return ErrnoStatus("cannot make a socket pair", errno);
  }
  const Descriptor parent(channel[0]);
  Descriptor child(channel[1]);
  const pid_t process = ForkInto(0);
  if (process < 0) return ErrnoStatus("cannot start a process", errno);
  if (process == 0) BeRehearsal(std::move(guest), std::move(child));
  child.Reset();
  std::string failure;
  std::array<char, 4096> some;
  for (ssize_t got; (got = read(parent.get(), some.data(), some.size())) != 0;) {
    if (got > 0) failure.append(some.data(), static_cast<size_t>(got));
    if (got < 0 && errno != EINTR) break;
  }
  int status = 0;
  while (waitpid(process, &status, 0) < 0 && errno == EINTR) {
  }
  if (!failure.empty()) return absl::FailedPreconditionError(failure);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("a guest's process does not start (wait status ", status,
                                          "): --no-sandbox tells whether it is confinement"));
}

absl::Status Server::Run() {
  for (;;) {
    std::vector<pollfd> watched{
        {.fd = lifetime_->descriptor(), .events = POLLIN, .revents = 0},
        {.fd = DoorMatters() ? door_.descriptor() : -1, .events = POLLIN, .revents = 0}};
    for (const Guest& guest : guests_) {
      watched.push_back({.fd = guest.end.get(), .events = POLLIN, .revents = 0});
      const int channel = guest.is_here ? -1 : guest.channel.get();
      watched.push_back({.fd = channel, .events = POLLIN, .revents = 0});
    }
    const int patience = std::exchange(pausing_, false) ? kPauseMilliseconds : -1;
    if (poll(watched.data(), watched.size(), patience) < 0 && errno != EINTR) {
      return ErrnoStatus("cannot wait for events", errno);
    }
    if (watched[0].revents != 0 && !OnSignals()) break;
    guests_.remove_if([&, i = size_t{2}](Guest& guest) mutable {
      const bool ended = watched[i++].revents != 0;
      if (watched[i++].revents != 0) Hear(guest);
      if (ended) Leave(guest);
      return ended;
    });
    if (watched[1].revents != 0) OnDoor();
  }
  EndGuests();
  return absl::OkStatus();
}

void Server::OnDoor() {
  if (!HasRoom()) {
    told_full_ = true;
    Say(absl::StrCat("a VMM waits until one of ", options_.guest_count_max,
                     " guests leaves: --guests lets more of them be served at once"));
    return;
  }
  absl::StatusOr<std::optional<VmmDoor::Visitor>> visitor = door_.Open();
  if (!visitor.ok()) {
    Say(std::string(visitor.status().message()));
    pausing_ = true;
  } else if (*visitor) {
    Begin(**std::move(visitor));
  }
}

void Server::Begin(VmmDoor::Visitor visitor) {
  uint32_t number = 1;  // the lowest that is free
  while (std::ranges::any_of(guests_, [&](const Guest& g) { return g.number == number; })) ++number;
  std::array<int, 2> ends;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    Say(absl::StrCat("cannot serve a VMM: ", std::strerror(errno)));
    pausing_ = true;
    return door_.Close();
  }
  Descriptor parent(ends[0]), child(ends[1]);
  const pid_t process = ForkInto(0);
  if (process == 0) {
    parent.Reset();
    BeGuest(number, std::move(visitor), std::move(child));
  }
  absl::StatusOr<Descriptor> end =
      process < 0 ? ErrnoStatus("no process can be started", errno) : OpenProcess(process);
  if (!end.ok()) {
    Say(absl::StrCat("cannot serve a VMM: ", end.status().message()));
    pausing_ = true;
    if (process > 0) {
      kill(process, SIGKILL);
      (void)waitpid(process, nullptr, 0);
    }
    return door_.Close();
  }
  guests_.push_back(
      {.number = number, .process = process, .end = *std::move(end), .channel = std::move(parent)});
}

void Server::Hear(Guest& guest) {
  char byte = 0;
  const ssize_t got = recv(guest.channel.get(), &byte, 1, MSG_DONTWAIT);
  if (got < 0) return;
  if (got > 0) Tell(absl::StrCat("guest ", guest.number, " has come"));
  guest.is_here = got > 0;
  if (got == 0) guest.channel.Reset();  // it ends, or should; what counts is its process
}

void Server::Leave(Guest& guest) {
  if (!guest.is_here) Hear(guest);
  int status = 0;
  while (waitpid(guest.process, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) {
    Say(absl::StrCat("the process of guest ", guest.number, " was ended by signal ",
                     WTERMSIG(status)));
  }
  told_full_ = false;
  door_.Close();
  if (guest.is_here) Tell(absl::StrCat("guest ", guest.number, " has gone"));
}

bool Server::OnSignals() {
  bool goes_on = true;
  while (const std::optional<Signal> signal = lifetime_->NextSignal()) {
    if (signal->number == SIGUSR1) {
      for (const Guest& guest : guests_) kill(guest.process, SIGUSR1);
    } else if (signal->number != SIGUSR2) {
      goes_on = false;
    }
  }
  return goes_on;
}

void Server::EndGuests() {
  for (const Guest& guest : guests_) shutdown(guest.channel.get(), SHUT_WR);
  for (Guest& guest : guests_) {
    // A process that somebody else has taken over need not listen.
    pollfd end{.fd = guest.end.get(), .events = POLLIN, .revents = 0};
    if (poll(&end, 1, kEndMilliseconds) <= 0) kill(guest.process, SIGKILL);
    Leave(guest);
  }
}

// ---------------------------------------------------------------- set-up

absl::StatusOr<Descriptor> ConnectToVmm(const std::string& path) {
  Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (!socket.valid() ||
      connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return ErrnoStatus(absl::StrCat("cannot connect to ", path, " (start the VMM first, with ",
                                    "server=on, or leave --connect out)"),
                       errno);
  }
  return socket;
}

absl::Status ServeOne(const ServeOptions& options, Descriptor socket, const std::string& what,
                      const SignalMask& mask) {
  // A copy of the passed one: it is nobody else's then.
  const std::optional<int> ready = options.ready_descriptor;
  return ServeGuest(options,
                    {.socket = std::move(socket),
                     .vmm = {},
                     .server = {},
                     .on_ready =
                         [&] {
                           Tell(absl::StrCat("serving ", what));
                           return TellReady(ready);
                         }},
                    mask);
}

absl::Status ServePath(const ServeOptions& options, const SignalMask& mask) {
  const bool stream = !options.stream.empty();
  const std::string& path = stream ? options.stream : options.datagrams;
  absl::StatusOr<VmmDoor> door = VmmDoor::Make(path, stream ? SOCK_STREAM : SOCK_DGRAM);
  if (!door.ok()) return door.status();
  absl::StatusOr<Lifetime> lifetime = Lifetime::Create(mask);
  if (!lifetime.ok()) return lifetime.status();
  Server server(options, *std::move(door), *std::move(lifetime), mask);
  if (absl::Status works = server.Rehearse(); !works.ok()) return works;
  Tell(absl::StrCat("listening at ", path));
  if (absl::Status told = TellReady(options.ready_descriptor); !told.ok()) return told;
  return server.Run();
}

}  // namespace

absl::Status Serve(ServeOptions options, const SignalMask& mask) {
  AdaptToSystem(options.common.config);
  RaiseDescriptorLimit();
  if (options.descriptor) {
    (void)fcntl(*options.descriptor, F_SETFD, FD_CLOEXEC);
    return ServeOne(options, Descriptor(*options.descriptor),
                    absl::StrCat("descriptor ", *options.descriptor), mask);
  }
  if (!options.connect) return ServePath(options, mask);
  absl::StatusOr<Descriptor> socket = ConnectToVmm(options.stream);
  if (!socket.ok()) return socket.status();
  return ServeOne(options, *std::move(socket), options.stream, mask);
}

}  // namespace penstock::tool
