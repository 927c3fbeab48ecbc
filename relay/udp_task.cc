#include "relay/udp_task.h"

namespace penstock {

std::shared_ptr<DatagramTask> MakeUdpTask(Relay& relay, std::shared_ptr<DatagramPipe> pipe,
                                          int descriptor) {
  auto task = std::make_shared<UdpTask<KernelDatagramSocket>>(relay, std::move(pipe), descriptor);
  if (!task->socket().ok()) return nullptr;
  return task;
}

}  // namespace penstock
