#include "relay/tcp_task.h"

namespace penstock {

std::shared_ptr<FlowTask> MakeTcpTask(std::shared_ptr<Relay> relay, FlowPipe& pipe) {
  return std::make_shared<TcpTask<KernelSocket>>(std::move(relay), pipe);
}

}  // namespace penstock
