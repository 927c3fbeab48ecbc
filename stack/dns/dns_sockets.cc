#include "stack/dns/dns_sockets.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "relay/check.h"
#include "stack/dns/dns_message.h"

namespace penstock {
namespace {
constexpr uint8_t kHopLimit = 64;
}

uint64_t DnsRandom::Next() {
  std::array<uint8_t, sizeof count_> bytes;
  std::memcpy(bytes.data(), &++count_, bytes.size());
  return SipHash(key_, bytes);
}

// ---------------------------------------------------------------- sockets

DnsSocket& DnsSockets::Take(Family family, Time now) {
  DnsSocket*& place = PoolOf(family)[random_.Next() % kPerFamily];
  if (place != nullptr && sockets_.size() < kSocketsMax &&
      (place->questions >= kQuestionsMax || now - place->opened >= kLifetime)) {
    Retire(*place);
  }
  if (place == nullptr) place = &Open({.kind = DatagramKind::kUdp, .family = family}, now);
  CountQuestion(*place, now);
  return *place;
}

DnsSocket& DnsSockets::TakeStream(Family family, Time now) {
  DnsSocket& socket = Open({.kind = DatagramKind::kFramedStream, .family = family}, now);
  socket.stream = true;
  socket.retired = true;
  ++streams_;
  CountQuestion(socket, now);
  return socket;
}

void DnsSockets::CountQuestion(DnsSocket& socket, Time now) {
  ++socket.questions;
  ++socket.outstanding;
  ++outstanding_;
  asked_at_ = now;
  idle_at_ = kNever;
}

DnsSocket& DnsSockets::Open(const DatagramRequest& request, Time now) {
  auto owned = std::make_unique<DnsSocket>();
  DnsSocket& socket = *owned;
  sockets_.emplace(&socket, std::move(owned));
  socket.serial = next_serial_++;
  socket.family = request.family;
  socket.opened = now;
  auto pipe = std::make_shared<DatagramPipe>();
  pipe->request = request;
  pipe->may_join = false;
  ends_.Open(socket, *this, std::move(pipe), *ends_.relays()[next_relay_]);
  next_relay_ = (next_relay_ + 1) % ends_.relays().size();
  return socket;
}

void DnsSockets::Retire(DnsSocket& socket) {
  if (std::exchange(socket.retired, true)) return;
  std::ranges::replace(PoolOf(socket.family), &socket, nullptr);
  if (socket.outstanding == 0) Close(socket);
}

void DnsSockets::Done(DnsSocket& socket) {
  PENSTOCK_CHECK(socket.outstanding > 0);
  --outstanding_;
  if (outstanding_ == 0) idle_at_ = After(asked_at_, kIdleTimeout);
  if (--socket.outstanding == 0 && socket.retired) Close(socket);
}

void DnsSockets::Close(DnsSocket& socket) { ends_.Close(socket); }

void DnsSockets::Forget(DatagramEnd& end) {
  if (static_cast<DnsSocket&>(end).stream) --streams_;
  sockets_.erase(&end);
}

void DnsSockets::BeginPass(Time now) {
  if (idle_at_ > now) return;
  idle_at_ = kNever;
  for (auto* pool : {&pool4_, &pool6_}) {
    for (DnsSocket* socket : *pool) {
      if (socket != nullptr) Retire(*socket);
    }
  }
}

void DnsSockets::Shutdown() {
  for (const auto& [end, socket] : sockets_) ends_.Shutdown(*socket);
  sockets_.clear();
  streams_ = 0;
}

// ---------------------------------------------------------------- messages

bool DnsSockets::Send(DnsSocket& socket, const DnsUpstream& upstream,
                      std::span<const uint8_t> message) {
  Datagram* datagram = ends_.NewDatagram(socket, message.size());
  if (datagram == nullptr) return false;
  std::ranges::copy(message, datagram->data);
  datagram->path = {.peer = upstream.endpoint, .local = {}, .interface = upstream.interface};
  datagram->hop_limit = kHopLimit;
  socket.stream_id = DnsIdOf(message);
  ends_.Send(socket, datagram);
  return true;
}

bool DnsSockets::ToGuest(DatagramEnd& end, Datagram& datagram) {
  auto& socket = static_cast<DnsSocket&>(end);
  const std::span<uint8_t> message(datagram.data, datagram.length);
  const FaultKind fault = datagram.fault.kind;
  if (fault == FaultKind::kNone) {
    listener_.OnMessage(socket, {datagram.path.peer, datagram.path.interface}, message);
    return false;
  }
  if (fault == FaultKind::kNoSocket) Retire(socket);
  if (socket.stream) {
    listener_.OnFault(socket, fault, socket.stream_id);
  } else if (message.size() >= sizeof(uint16_t)) {
    listener_.OnFault(socket, fault, DnsIdOf(message));
  }
  return false;
}

}  // namespace penstock
