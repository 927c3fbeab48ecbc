#include "relay/tcp_task.h"

#include <new>

namespace penstock {

std::shared_ptr<FlowTask> MakeTcpTask(std::shared_ptr<Relay> relay, FlowPipe& pipe) {
  try {
    return std::make_shared<TcpTask<KernelSocket>>(std::move(relay), pipe);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

}  // namespace penstock
