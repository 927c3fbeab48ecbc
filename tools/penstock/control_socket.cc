#include "tools/penstock/control_socket.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace penstock::tool {
namespace {

static_assert(kControlPathBytesMax + 1 == sizeof(sockaddr_un::sun_path));

constexpr int kBacklog = 64;

// Held by whoever is about to listen at a path. The file goes with the lock.
class StartLock final {
 public:
  [[nodiscard]] static absl::StatusOr<StartLock> Take(const std::string& path);
  StartLock(StartLock&&) = default;
  StartLock& operator=(StartLock&&) = delete;
  ~StartLock() {
    if (file_.valid()) unlink(name_.c_str());  // before it is closed, and so unlocked
  }

 private:
  StartLock() = default;
  // The file that was locked may have been another's last one, gone from its name.
  [[nodiscard]] bool IsThere() const {
    struct stat named {};
    struct stat locked {};
    return lstat(name_.c_str(), &named) == 0 && fstat(file_.get(), &locked) == 0 &&
           named.st_dev == locked.st_dev && named.st_ino == locked.st_ino;
  }

  std::string name_;
  Descriptor file_;
};

absl::StatusOr<StartLock> StartLock::Take(const std::string& path) {
  StartLock lock;
  const std::string name = path + ".lock";
  // Each turn but the last means that somebody else had a turn in between.
  for (;;) {
    lock.name_ = name;
    Descriptor file(open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file.valid()) return ErrnoStatus(absl::StrCat("cannot make the file ", name), errno);
    if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
      return absl::FailedPreconditionError(
          absl::StrCat("another penstock is starting at ", path, ": give another path"));
    }
    lock.file_ = std::move(file);
    if (lock.IsThere()) return lock;
    lock.file_.Reset();
  }
}

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

int ConnectTo(int socket, const std::string& path) {
  const sockaddr_un address = AddressOf(path);
  return connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

// 0 if somebody listens at `path`, else the error: ECONNREFUSED of a dead socket.
int Probe(const std::string& path, int type) {
  const Descriptor probe(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.valid()) return errno;
  if (ConnectTo(probe.get(), path) == 0) return 0;
  // Busy; a datagram socket that talks to somebody else.
  return errno == EAGAIN || errno == EPERM ? 0 : errno;
}

// Removes what is at `path` if it belongs to nobody; OK also if it went by itself.
absl::Status RemoveDead(const std::string& path, int type) {
  struct stat file {};
  if (lstat(path.c_str(), &file) != 0 && errno == ENOENT) return absl::OkStatus();
  if (!S_ISSOCK(file.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is there and is no socket: remove it, or give another path"));
  }
  const int probed = Probe(path, type);
  if (probed == 0) {
    return absl::AlreadyExistsError(
        absl::StrCat("another penstock listens at ", path, ": end it first, or give another path"));
  }
  if (probed == ENOENT) return absl::OkStatus();
  if (probed != ECONNREFUSED) {
    return ErrnoStatus(absl::StrCat("cannot use ", path, ", which is there"), probed);
  }
  if (unlink(path.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
  return ErrnoStatus(absl::StrCat("cannot replace the dead socket ", path), errno);
}

int Bind(int socket, const std::string& path) {
  const sockaddr_un address = AddressOf(path);
  return bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

}  // namespace

absl::Status CheckSocketPath(const std::string& option, const std::string& path) {
  if (path.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(option, " needs a path: write such as ", option, " /tmp/blue"));
  }
  if (path.size() <= kControlPathBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(option, " is a path of ", path.size(),
                                                 " bytes: the system allows ", kControlPathBytesMax,
                                                 " for a socket, give a shorter one"));
}

absl::Status CheckControlPath(const std::string& path) {
  return CheckSocketPath("--control", path);
}

absl::StatusOr<ControlSocket> ControlSocket::Listen(const std::string& path, int type) {
  if (absl::Status checked = CheckControlPath(path); !checked.ok()) return checked;
  const absl::StatusOr<StartLock> lock = StartLock::Take(path);
  if (!lock.ok()) return lock.status();
  const std::string cannot = absl::StrCat("cannot make the socket ", path);
  ControlSocket control;
  control.socket_.Reset(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int socket = control.socket_.get();
  if (socket < 0 || fchmod(socket, S_IRUSR | S_IWUSR) != 0) return ErrnoStatus(cannot, errno);
  if (Bind(socket, path) != 0) {
    if (errno != EADDRINUSE) return ErrnoStatus(cannot, errno);
    if (absl::Status removed = RemoveDead(path, type); !removed.ok()) return removed;
    if (Bind(socket, path) != 0) return ErrnoStatus(cannot, errno);
  }
  struct stat file {};
  if (lstat(path.c_str(), &file) != 0) return ErrnoStatus(cannot, errno);
  // From here on it is removed at the end.
  control.file_ = {.path = path, .device = file.st_dev, .inode = file.st_ino};
  if (type == SOCK_STREAM && listen(socket, kBacklog) != 0) return ErrnoStatus(cannot, errno);
  return control;
}

void SocketFile::Remove() const {
  struct stat file {};
  if (lstat(path.c_str(), &file) == 0 && file.st_dev == device && file.st_ino == inode) {
    unlink(path.c_str());
  }
}

ControlSocket::~ControlSocket() {
  // No socket: moved from.
  if (socket_.valid() && !file_.path.empty()) file_.Remove();
}

SocketFile ControlSocket::LeaveFile() { return std::exchange(file_, {}); }

absl::StatusOr<Descriptor> ConnectToControl(const std::string& path,
                                            std::chrono::seconds patience) {
  Descriptor client(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval limit{.tv_sec = patience.count(), .tv_usec = 0};
  if (!client.valid() ||
      setsockopt(client.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0 ||
      setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0) {
    return ErrnoStatus("cannot make a socket", errno);
  }
  if (ConnectTo(client.get(), path) == 0) return client;
  switch (errno) {
    case ENOENT:
      return absl::NotFoundError(
          absl::StrCat("no penstock listens at ", path, ": start one with --control ", path));
    case ECONNREFUSED:
      return absl::NotFoundError(
          absl::StrCat("the penstock that listened at ", path, " is dead: start another one"));
    case EAGAIN:
      return absl::UnavailableError(
          absl::StrCat("the penstock at ", path, " takes no orders: look whether it is stopped"));
    case EACCES:
      return absl::PermissionDeniedError(absl::StrCat(
          "the penstock at ", path, " is somebody else's: be the user who started it, or root"));
    default:
      return ErrnoStatus(absl::StrCat("cannot reach the penstock at ", path), errno);
  }
}

}  // namespace penstock::tool
