// A socket pair between the tool and the process that it forks into a namespace.
// The child reports up: a tap's descriptor (SCM_RIGHTS) or one sentence that says
// what failed. The parent answers with one byte: go. The end of either process is
// the end of the stream at the other.
#ifndef PENSTOCK_TOOLS_PENSTOCK_CHANNEL_H_
#define PENSTOCK_TOOLS_PENSTOCK_CHANNEL_H_

#include <sys/types.h>

#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/penstock/descriptor.h"

namespace penstock::tool {

struct Channel {
  Descriptor parent;
  Descriptor child;
};

[[nodiscard]] absl::StatusOr<Channel> OpenChannel();

// As send(2) and recv(2), with a descriptor that travels with the first byte. Send: -1 is none.
// Receive: `attached` (then close-on-exec) stays as it is if none came.
[[nodiscard]] ssize_t SendWith(int channel, std::string_view bytes, int attached);
[[nodiscard]] ssize_t ReceiveWith(int channel, std::span<char> bytes, Descriptor& attached);

// Whether what a send met passes: an interruption; a moment without memory, which is waited out.
// Half a message would be the end of the channel.
[[nodiscard]] bool SendAgain(int error);

// Child: exactly one of the two, once.
[[nodiscard]] absl::Status SendTap(int channel, int tap);
void SendFailure(int channel, const absl::Status& failure);

// Parent: the tap (close-on-exec), or the child's failure with its code.
[[nodiscard]] absl::StatusOr<Descriptor> ReceiveTap(int channel);

// Parent: lets the child go on.
[[nodiscard]] absl::Status SendGo(int channel);
// Child: false if the parent gave up or died.
[[nodiscard]] bool AwaitGo(int channel);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_CHANNEL_H_
