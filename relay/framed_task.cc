#include "relay/framed_task.h"

namespace penstock {

std::shared_ptr<DatagramTask> MakeFramedStream(Relay& relay, std::shared_ptr<DatagramPipe> pipe) {
  return std::make_shared<FramedTask<KernelSocket>>(relay, std::move(pipe));
}

}  // namespace penstock
