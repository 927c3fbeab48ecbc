// Tells when an IPv6 address of the calling thread's network namespace can be used.
//
// The kernel installs the local route of a new address from a work queue, and drops what
// arrives for the address before that: an answer to a command's first packet would be lost
// for a second. An address that is still probed for duplicates has none either. So the
// route is awaited, over rtnetlink; and since an advertisement's default route comes before
// the address that is made of its prefix, there is no need to look for that.
#ifndef PENSTOCK_TOOLS_PENSTOCK_ROUTE_WATCH_H_
#define PENSTOCK_TOOLS_PENSTOCK_ROUTE_WATCH_H_

#include "relay/endpoint.h"
#include "tools/penstock/descriptor.h"

namespace penstock::tool {

class RouteWatch final {
 public:
  // For any address inside the prefix. To be made before the address can come.
  RouteWatch(const IpAddress& prefix, int prefix_length);

  // Readable when Arrived has something to look at; -1 if nothing can be watched.
  [[nodiscard]] int descriptor() const { return netlink_.get(); }
  // Reads what there is; true if the route was in it, or if nothing can be watched.
  [[nodiscard]] bool Arrived() const;
  // Without the route after two seconds things go on: it is seen at once or late, and
  // all that late costs is a retry.
  void Wait() const;

 private:
  Descriptor netlink_;
  IpAddress prefix_;
  int prefix_length_;
};

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_ROUTE_WATCH_H_
