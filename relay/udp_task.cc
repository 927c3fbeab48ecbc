#include "relay/udp_task.h"

namespace penstock {

std::shared_ptr<DatagramTask> MakeUdpTask(Relay& relay, std::shared_ptr<DatagramPipe> pipe,
                                          int descriptor) {
  auto task = std::make_shared<UdpTask<KernelDatagramSocket>>(relay, std::move(pipe), descriptor);
  if (!task->socket().ok()) return nullptr;
  return task;
}

std::shared_ptr<DatagramTask> MakeGuestSocket(Relay& relay, std::shared_ptr<DatagramPipe> pipe) {
  const DatagramRequest request = *pipe->request;
  if (request.kind == DatagramKind::kFramedStream) return MakeFramedStream(relay, std::move(pipe));
  const SocketResult socket = relay.options().socket_factory->OpenDatagram(request);
  return std::make_shared<UdpTask<KernelDatagramSocket>>(relay, std::move(pipe), socket, request);
}

}  // namespace penstock
