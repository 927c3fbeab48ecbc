#include "stack/dns/resolv_conf.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>

#include "stack/dns/dns_message.h"
#include "stack/wire/addresses.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

constexpr size_t kServersMax = 3;  // MAXNS of resolv.h
constexpr size_t kFileBytesMax = 65'536;
constexpr int kLinksMax = 8;
constexpr Duration kLookInterval = std::chrono::seconds(1);
constexpr uint32_t kEvents = IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE |
                             IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
// Reads of one Update, at most; more keep the descriptor readable.
constexpr int kReadsMax = 16;

std::string_view TakeWord(std::string_view& line) {
  constexpr std::string_view kSpace = " \t\r\v\f";
  line.remove_prefix(std::min(line.find_first_not_of(kSpace), line.size()));
  const std::string_view word = line.substr(0, line.find_first_of(kSpace));
  line.remove_prefix(word.size());
  return word;
}

std::optional<NameServer> ParseServer(std::string_view text) {
  const size_t percent = text.find('%');
  const auto address = IpAddress::Parse(text.substr(0, percent));
  if (!address) return std::nullopt;
  NameServer server{.address = address->Unmapped()};
  // To the kernel the unspecified address is this host.
  if (IsUnspecified(server.address)) {
    server.address =
        server.address.is_v4() ? IpAddress::V4(127, 0, 0, 1) : *IpAddress::Parse("::1");
  }
  if (IsMulticast(server.address)) return std::nullopt;
  if (percent != std::string_view::npos) server.zone = text.substr(percent + 1);
  return server;
}

// Nothing where the file cannot be read.
std::optional<std::string> ReadFile(const std::string& path) {
  // Not blocking: it might be a pipe.
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (file < 0) return std::nullopt;
  std::string text(kFileBytesMax, '\0');
  size_t used = 0;
  while (used < text.size()) {
    const ssize_t got = read(file, text.data() + used, text.size() - used);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    used += static_cast<size_t>(got);
  }
  close(file);
  text.resize(used);
  return text;
}

std::vector<DnsUpstream> UpstreamsOf(const std::vector<NameServer>& servers) {
  std::vector<DnsUpstream> upstreams;
  for (const NameServer& server : servers) {
    const bool needs_zone = server.address.is_v6() && IsLinkLocal(server.address);
    const uint32_t interface = needs_zone ? if_nametoindex(server.zone.c_str()) : 0;
    if (needs_zone && interface == 0) continue;  // nobody can say where it is
    upstreams.push_back({.endpoint = {server.address, kDnsPort}, .interface = interface});
  }
  if (upstreams.empty()) upstreams.push_back({.endpoint = {IpAddress::V4(127, 0, 0, 1), kDnsPort}});
  return upstreams;
}

}  // namespace

std::vector<NameServer> ParseResolvConf(std::string_view text) {
  std::vector<NameServer> servers;
  while (!text.empty() && servers.size() < kServersMax) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    // A keyword begins its line; a comment has none.
    if (line.empty() || line.front() == ' ' || line.front() == '\t') continue;
    if (TakeWord(line) != "nameserver") continue;
    if (auto server = ParseServer(TakeWord(line))) servers.push_back(*std::move(server));
  }
  return servers;
}

// ---------------------------------------------------------------- following

ResolvConf::ResolvConf(std::string path)
    : path_(std::move(path)), descriptor_(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) {
  // Watching first: what changes while we look is looked at again.
  WatchFolders();
  stamp_ = LookAtFile();
  upstreams_ = UpstreamsOf(ParseResolvConf(ReadFile(path_).value_or("")));
}

ResolvConf::~ResolvConf() {
  if (descriptor_ >= 0) close(descriptor_);
}

void ResolvConf::WatchFolders() {
  if (descriptor_ < 0) return;
  const std::vector<Watch> before = std::exchange(watches_, {});
  std::error_code error;
  fs::path path = fs::absolute(path_, error);
  for (int i = 0; i < kLinksMax && !error; ++i) {
    WatchFolderOf(path);
    const fs::path target = fs::read_symlink(path, error);
    if (!error) path = path.parent_path() / target;
  }
  for (const Watch& old : before) {
    const auto is_same = [&](const Watch& watch) { return watch.id == old.id; };
    if (std::ranges::none_of(watches_, is_same)) (void)inotify_rm_watch(descriptor_, old.id);
  }
  // Nothing to hear from: then it is looked at, as without inotify.
  if (watches_.empty()) {
    close(descriptor_);
    descriptor_ = -1;
  }
}

void ResolvConf::WatchFolderOf(const std::string& path) {
  for (fs::path below = path; below.has_relative_path(); below = below.parent_path()) {
    const int id = inotify_add_watch(descriptor_, below.parent_path().c_str(), kEvents);
    if (id >= 0) return watches_.push_back({id, below.filename()});
    if (errno != ENOENT && errno != ENOTDIR) return;
  }
}

bool ResolvConf::TakeEvents() {
  alignas(inotify_event) std::array<char, 4'096> buffer;
  bool happened = false;
  for (int i = 0; i < kReadsMax; ++i) {
    const ssize_t got = read(descriptor_, buffer.data(), buffer.size());
    if (got <= 0) break;
    for (size_t at = 0; at + sizeof(inotify_event) <= static_cast<size_t>(got);) {
      inotify_event event;
      std::memcpy(&event, buffer.data() + at, sizeof event);
      const int id = event.wd;
      const char* name = event.len > 0 ? buffer.data() + at + sizeof event : "";
      // Of the folder itself, or a queue that ran over: no name.
      happened |= event.len == 0 || std::ranges::any_of(watches_, [&](const Watch& watch) {
                    return watch.id == id && watch.name == name;
                  });
      at += sizeof event + event.len;
    }
  }
  return happened;
}

bool ResolvConf::Update() {
  if (descriptor_ < 0 || !TakeEvents()) return false;
  WatchFolders();
  return Read();
}

bool ResolvConf::LookAgain(Time now) {
  if (descriptor_ >= 0) return false;
  if (looked_at_ != Time::min() && now - looked_at_ < kLookInterval) return false;
  looked_at_ = now;
  const Stamp stamp = LookAtFile();
  if (stamp.Is(stamp_)) return false;
  stamp_ = stamp;
  return Read();
}

bool ResolvConf::Read() {
  const std::optional<std::string> text = ReadFile(path_);
  if (text && text->empty()) return false;
  std::vector<DnsUpstream> upstreams = UpstreamsOf(ParseResolvConf(text.value_or("")));
  if (upstreams == upstreams_) return false;
  upstreams_ = std::move(upstreams);
  return true;
}

bool ResolvConf::Stamp::Is(const Stamp& other) const {
  return device == other.device && inode == other.inode && size == other.size &&
         modified.tv_sec == other.modified.tv_sec && modified.tv_nsec == other.modified.tv_nsec;
}

ResolvConf::Stamp ResolvConf::LookAtFile() const {
  struct stat status;
  if (stat(path_.c_str(), &status) != 0) return {};
  return {.device = status.st_dev,
          .inode = status.st_ino,
          .size = status.st_size,
          .modified = status.st_mtim};
}

}  // namespace penstock
