#include "tools/penstock/clerk.h"

#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <span>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "relay/time.h"
#include "stack/dns/resolv_conf.h"
#include "tools/penstock/channel.h"
#include "tools/penstock/namespaces.h"
#include "tools/penstock/stats.h"

namespace penstock::tool {
namespace {

enum class ClerkOrder : uint32_t {
  kFurnish,
  kReplaceStats,
  kUserOf,
  kPathLeadsThere,
  kRemoveControl
};

// What comes first in both directions; `bytes` of text follow.
struct Heading {
  uint32_t order_or_result = 0;
  uint32_t bytes = 0;
};

struct Letter {
  uint32_t order_or_result = 0;
  std::string text;
  Descriptor attached;
};

constexpr uint32_t kDone = 0;
constexpr uint32_t kFailed = 1;  // the text says why

// Statistics of as many flows as there can be.
constexpr uint32_t kTextBytesMax = 512U << 20;

// Where the system has no inotify for the clerk.
constexpr int kLookMilliseconds = 1'000;

bool SendAll(int channel, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(channel, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && SendAgain(errno)) continue;
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool ReceiveAll(int channel, char* bytes, size_t size) {
  while (size > 0) {
    const ssize_t got = recv(channel, bytes, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    bytes += got;
    size -= static_cast<size_t>(got);
  }
  return true;
}

// `attached` travels with it; -1: none.
bool SendLetter(int channel, uint32_t order_or_result, std::string_view text, int attached = -1) {
  const Heading heading{.order_or_result = order_or_result,
                        .bytes = static_cast<uint32_t>(text.size())};
  std::string_view first(reinterpret_cast<const char*>(&heading), sizeof heading);
  const ssize_t sent = SendWith(channel, first, attached);
  if (sent <= 0) return false;
  first.remove_prefix(static_cast<size_t>(sent));
  return SendAll(channel, first) && SendAll(channel, text);
}

// Nothing at the end of the stream.
std::optional<Letter> ReceiveLetter(int channel) {
  Heading heading;
  Letter letter;
  std::span first(reinterpret_cast<char*>(&heading), sizeof heading);
  const ssize_t got = ReceiveWith(channel, first, letter.attached);
  if (got <= 0) return std::nullopt;
  first = first.subspan(static_cast<size_t>(got));
  if (!ReceiveAll(channel, first.data(), first.size())) return std::nullopt;
  if (heading.bytes > kTextBytesMax) return std::nullopt;
  letter.order_or_result = heading.order_or_result;
  letter.text.resize(heading.bytes);
  if (!ReceiveAll(channel, letter.text.data(), letter.text.size())) return std::nullopt;
  return letter;
}

// What the host's resolv.conf says, as one of penstock's own.
std::string ResolvConfOf(const std::vector<DnsUpstream>& upstreams) {
  std::string text;
  for (const DnsUpstream& upstream : upstreams) {
    absl::StrAppend(&text, "nameserver ", upstream.endpoint.address.ToString());
    std::array<char, IF_NAMESIZE> zone{};
    if (upstream.interface != 0 && if_indextoname(upstream.interface, zone.data()) != nullptr) {
      absl::StrAppend(&text, "%", zone.data());
    }
    absl::StrAppend(&text, "\n");
  }
  return text;
}

// Writes a file at an absolute path whose root is `root`, with its folders, in one step.
absl::Status WriteBelow(int root, const std::string& path, std::string_view text) {
  Descriptor folder(openat(root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  const std::filesystem::path relative = std::filesystem::path(path).relative_path();
  for (const auto& part : relative.parent_path()) {
    (void)mkdirat(folder.get(), part.c_str(), S_IRWXU);
    folder.Reset(openat(folder.get(), part.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  }
  const std::string name = relative.filename();
  const std::string temporary = name + ".new";
  const Descriptor file(openat(folder.get(), temporary.c_str(),
                               O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid() || !WriteAll(file.get(), text) ||
      renameat(folder.get(), temporary.c_str(), folder.get(), name.c_str()) != 0) {
    return ErrnoStatus(absl::StrCat("cannot keep a copy of ", path), errno);
  }
  return absl::OkStatus();
}

// The clerk's own process.
class Desk final {
 public:
  Desk(const ClerkDuties& duties, int channel) : duties_(duties), channel_(channel) {}

  [[noreturn]] void Serve() {
    for (;;) {
      const int followed = resolv_conf_ ? resolv_conf_->descriptor() : -1;
      pollfd watched[] = {{.fd = channel_, .events = POLLIN, .revents = 0},
                          {.fd = followed, .events = POLLIN, .revents = 0}};
      const bool looks = resolv_conf_ && followed < 0;
      if (poll(watched, std::size(watched), looks ? kLookMilliseconds : -1) < 0) continue;
      Follow();
      if (watched[0].revents != 0 && !AnswerOne()) _exit(0);
    }
  }

 private:
  void Follow() {
    if (!resolv_conf_) return;
    // Nobody to tell: penstock goes on with the servers that it knows.
    if (resolv_conf_->Update() || resolv_conf_->LookAgain(Clock::now())) (void)WriteCopy();
  }

  [[nodiscard]] absl::Status WriteCopy() const {
    return WriteBelow(root_.get(), duties_.resolv_conf, ResolvConfOf(resolv_conf_->upstreams()));
  }

  bool AnswerOne() {
    std::optional<Letter> letter = ReceiveLetter(channel_);
    if (!letter) return false;
    const absl::Status failed = Do(*letter);
    if (failed.ok()) return SendLetter(channel_, kDone, number_);
    return SendLetter(channel_, kFailed, {failed.message().data(), failed.message().size()});
  }

  absl::Status Do(Letter& letter) {
    number_.clear();
    switch (static_cast<ClerkOrder>(letter.order_or_result)) {
      case ClerkOrder::kFurnish:
        return Furnish(std::move(letter.attached));
      case ClerkOrder::kReplaceStats:
        if (duties_.stats_file.empty()) break;
        return ReplaceFile(duties_.stats_file, letter.text);
      case ClerkOrder::kUserOf:
        return LookAtUser(letter.attached.get());
      case ClerkOrder::kPathLeadsThere:
        number_ = absl::StrCat(duties_.path && !duties_.path->LeadsThere() ? 0 : 1);
        return absl::OkStatus();
      case ClerkOrder::kRemoveControl:
        if (duties_.control) duties_.control->Remove();
        return absl::OkStatus();
    }
    return absl::InvalidArgumentError("this is no order for a clerk");
  }

  absl::Status Furnish(Descriptor root) {
    if (root_.valid() || duties_.resolv_conf.empty()) return absl::OkStatus();
    root_ = std::move(root);
    resolv_conf_.emplace(duties_.resolv_conf);
    return WriteCopy();
  }

  absl::Status LookAtUser(int socket) {
    ucred peer{};
    socklen_t length = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
      return ErrnoStatus("cannot see who is there", errno);
    }
    number_ = absl::StrCat(peer.uid);
    return absl::OkStatus();
  }

  const ClerkDuties& duties_;
  const int channel_;
  Descriptor root_;
  std::optional<ResolvConf> resolv_conf_;  // once there is a root
  std::string number_;                     // of the answer
};

// In the child. It holds nothing of penstock's but its end of the channel: sockets, the tap
// and the terminal's other end must end with penstock itself.
[[noreturn]] void BeClerk(const ClerkDuties& duties, int channel) {
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int i = 0; i <= STDERR_FILENO; ++i) dup2(nowhere, i);
  constexpr int kFirst = STDERR_FILENO + 1;
  if (dup2(channel, kFirst) < 0 || syscall(SYS_close_range, kFirst + 1, ~0U, 0U) != 0) {
    for (int i = kFirst + 1; i < static_cast<int>(sysconf(_SC_OPEN_MAX)); ++i) close(i);
  }
  Desk(duties, kFirst).Serve();
}

// The answer's text.
absl::StatusOr<std::string> Ask(int channel, ClerkOrder order, std::string_view text = {},
                                int attached = -1) {
  const bool sent = SendLetter(channel, static_cast<uint32_t>(order), text, attached);
  std::optional<Letter> answer = sent ? ReceiveLetter(channel) : std::nullopt;
  if (!answer) {
    return absl::UnavailableError("the process that keeps penstock's files has ended");
  }
  if (answer->order_or_result == kDone) return std::move(answer->text);
  return absl::FailedPreconditionError(answer->text);
}

}  // namespace

absl::StatusOr<Clerk> Clerk::Start(const ClerkDuties& duties) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return ErrnoStatus("cannot make a socket pair", errno);
  }
  Descriptor parent(ends[0]);
  const Descriptor child(ends[1]);
  const pid_t pid = ForkInto(0);
  if (pid < 0) return ErrnoStatus("cannot start a process", errno);
  if (pid == 0) BeClerk(duties, child.get());
  return Clerk(pid, std::move(parent));
}

Clerk::~Clerk() {
  if (process_.pid < 0) return;
  (void)Ask(channel_.get(), ClerkOrder::kRemoveControl);
  channel_.Reset();
  while (waitpid(process_.pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

absl::Status Clerk::Furnish(int root) const {
  return Ask(channel_.get(), ClerkOrder::kFurnish, {}, root).status();
}

absl::Status Clerk::ReplaceStats(const std::string& text) const {
  return Ask(channel_.get(), ClerkOrder::kReplaceStats, text).status();
}

std::optional<uid_t> Clerk::UserOf(int socket) const {
  const absl::StatusOr<std::string> user = Ask(channel_.get(), ClerkOrder::kUserOf, {}, socket);
  uid_t number = 0;
  if (!user.ok() || !absl::SimpleAtoi(*user, &number)) return std::nullopt;
  return number;
}

bool Clerk::PathLeadsThere() const {
  const absl::StatusOr<std::string> answer = Ask(channel_.get(), ClerkOrder::kPathLeadsThere);
  return !answer.ok() || *answer == "1";
}

}  // namespace penstock::tool
