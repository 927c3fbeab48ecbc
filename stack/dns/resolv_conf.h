// The host's name servers, from resolv.conf(5), followed as that changes.
//
// Of the file only `nameserver` lines matter: the first three, as the C library takes
// them. Options are the host's own business, search domains the guest's (it has its own).
// A file without servers, and no file, mean 127.0.0.1, as there.
//
// Followed by inotify on folders, not on the file: it is replaced by a rename as often as
// it is rewritten, and commonly a symbolic link into a folder that comes and goes. Watched
// are the folder of the file and of whatever a link leads to, one behind the other, or,
// where a folder is not there, the nearest one above it. What happened is not read out of
// the events: all is looked at anew. A file that is empty is just being written, and
// changes nothing.
//
// Poll thread, which stays in the network namespace that it was made in (zones of
// link-local servers are interfaces there).
#ifndef PENSTOCK_STACK_DNS_RESOLV_CONF_H_
#define PENSTOCK_STACK_DNS_RESOLV_CONF_H_

#include <sys/types.h>

#include <cstddef>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "relay/endpoint.h"
#include "relay/time.h"
#include "stack/dns/dns_upstreams.h"

namespace penstock {

struct NameServer {
  IpAddress address;
  std::string zone;  // "eth0", of a link-local address; empty: none

  friend bool operator==(const NameServer&, const NameServer&) = default;
};

// At most three; what is no server is passed over. Pure.
[[nodiscard]] std::vector<NameServer> ParseResolvConf(std::string_view text);

class ResolvConf final {
 public:
  // Looks once.
  explicit ResolvConf(std::string path);
  ~ResolvConf();
  ResolvConf(const ResolvConf&) = delete;
  ResolvConf& operator=(const ResolvConf&) = delete;

  // Readable (level-triggered) when Update has something to look at; -1: the system has no
  // inotify for us, and LookAgain is all there is.
  [[nodiscard]] int descriptor() const { return descriptor_; }
  // One system call if nothing happened. True if upstreams() are others than before.
  bool Update();
  // Before a question is asked, where descriptor() is -1: looks whether the file is another
  // one, at most once a second.
  bool LookAgain(Time now);
  // One at least, with port 53.
  [[nodiscard]] const std::vector<DnsUpstream>& upstreams() const { return upstreams_; }

 private:
  struct Watch {
    int id = -1;
    std::string name;  // in that folder
  };
  // What tells two states of the file apart.
  struct Stamp {
    dev_t device = 0;
    ino_t inode = 0;
    off_t size = -1;
    timespec modified{};

    [[nodiscard]] bool Is(const Stamp& other) const;
  };

  void WatchFolders();
  void WatchFolderOf(const std::string& path);
  // Reads what waits; true if something of it is about what is watched.
  [[nodiscard]] bool TakeEvents();
  [[nodiscard]] bool Read();
  [[nodiscard]] Stamp LookAtFile() const;

  const std::string path_;
  int descriptor_ = -1;
  std::vector<Watch> watches_;
  std::vector<DnsUpstream> upstreams_;
  Stamp stamp_;
  Time looked_at_ = Time::min();
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_DNS_RESOLV_CONF_H_
