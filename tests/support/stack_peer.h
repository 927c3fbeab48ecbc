// What tests reach inside a Stack that was made as users make it: the TCP ports that it
// serves itself.
#ifndef PENSTOCK_TESTS_SUPPORT_STACK_PEER_H_
#define PENSTOCK_TESTS_SUPPORT_STACK_PEER_H_

#include <utility>

#include "stack/stack.h"
#include "stack/stack_impl.h"

namespace penstock {

// In penstock's own namespace because Stack names it as a friend.
class StackPeer final {
 public:
  // `ports` outlives the stack's flows.
  static void SetLocalPorts(Stack& stack, LocalPorts& ports,
                            StreamPairMaker make_pair = &MakeStreamPair) {
    stack.impl_->flows_->SetLocalPorts(ports, make_pair);
  }
  static void ServeDnsStreams(Stack& stack, DnsStreamsService service) {
    stack.impl_->ServeDnsStreams(std::move(service));
  }
};

}  // namespace penstock

#endif  // PENSTOCK_TESTS_SUPPORT_STACK_PEER_H_
