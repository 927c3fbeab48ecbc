#include "tests/world/guest_tcp.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <string>
#include <utility>

namespace penstock::world {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr uint32_t kMtuMin4 = 576, kMtuMin6 = 1280, kMtuMax = 65'520;
constexpr uint32_t kReceiveBufferMin = 1024, kReceiveBufferMax = 65'535 << 3;

// lwIP is started in this process.
bool started = false;

guest_lwip_address ToLwip(const IpAddress& address) {
  guest_lwip_address result{};
  std::copy(address.bytes.begin(), address.bytes.end(), result.bytes);
  result.is_v6 = address.is_v6() ? 1 : 0;
  return result;
}

// "" or what is wrong.
std::string FaultOf(const GuestTcpOptions& options) {
  if (!options.use_ipv4 && !options.use_ipv6) return "both families are off";
  if (options.use_ipv4 && !(options.ipv4.is_v4() && options.gateway4.is_v4())) {
    return "ipv4 and gateway4 must be IPv4 addresses";
  }
  if (options.use_ipv6 && !(options.ipv6.is_v6() && options.gateway6.is_v6())) {
    return "ipv6 and gateway6 must be IPv6 addresses";
  }
  if (options.prefix4 > 32) return "prefix4 is above 32";
  if (options.mtu < (options.use_ipv6 ? kMtuMin6 : kMtuMin4) || options.mtu > kMtuMax) {
    return "mtu is " + std::to_string(options.mtu);
  }
  if (options.receive_buffer < kReceiveBufferMin || options.receive_buffer > kReceiveBufferMax) {
    return "receive_buffer is " + std::to_string(options.receive_buffer);
  }
  return "";
}

}  // namespace

// ----------------------------------------------------------------- GuestConnection

GuestConnection::GuestConnection(GuestTcp& guest) : guest_(guest) {
  lwip_.context = this;
  lwip_.received = OnReceived;
}

void GuestConnection::OnReceived(void* self, const uint8_t* bytes, size_t length) noexcept {
  auto& received = static_cast<GuestConnection*>(self)->received_;
  received.insert(received.end(), bytes, bytes + length);
}

Endpoint GuestConnection::peer() const {
  const size_t bytes = lwip_.peer.is_v6 != 0 ? 16 : 4;
  return {IpAddress::From(std::span(lwip_.peer.bytes).first(bytes)), lwip_.peer_port};
}

size_t GuestConnection::Read(std::span<uint8_t> room) {
  if (readable() == 0) return 0;
  const size_t count = std::min(room.size(), readable());
  std::copy_n(received_.begin() + static_cast<ptrdiff_t>(head_), count, room.begin());
  head_ += count;
  if (head_ == received_.size()) {
    received_.clear();
    head_ = 0;
  } else if (head_ > received_.size() / 2) {
    received_.erase(received_.begin(), received_.begin() + static_cast<ptrdiff_t>(head_));
    head_ = 0;
  }
  guest_lwip_consumed(&lwip_, count);
  guest_.Flush();
  return count;
}

size_t GuestConnection::Write(std::span<const uint8_t> bytes) {
  const size_t count = guest_lwip_write(&lwip_, bytes.data(), bytes.size());
  guest_.Flush();
  return count;
}

void GuestConnection::ShutdownWrite() {
  guest_lwip_shutdown_write(&lwip_);
  guest_.Flush();
}

void GuestConnection::Close() {
  guest_lwip_close(&lwip_);
  received_.clear();
  head_ = 0;
  guest_.Flush();
}

void GuestConnection::Abort() {
  guest_lwip_abort(&lwip_);
  guest_.Flush();
}

// ------------------------------------------------------------------------ GuestTcp

GuestTcpOptions GuestOptionsFor(const Config& config) {
  return {.use_ipv4 = config.ipv4.enabled,
          .ipv4 = config.ipv4.guest,
          .gateway4 = config.ipv4.gateway,
          .prefix4 = static_cast<uint8_t>(config.ipv4.prefix_length),
          .use_ipv6 = config.ipv6.enabled,
          .ipv6 = config.ipv6.guest,
          .gateway6 = config.ipv6.gateway,
          .mtu = std::min(config.mtu, kMtuMax)};
}

GuestTcp::GuestTcp(GuestTcpOptions options) : options_(std::move(options)) {
  if (const std::string fault = FaultOf(options_); !fault.empty()) {
    throw std::invalid_argument("GuestTcpOptions: " + fault);
  }
  if (started) throw std::logic_error("a process has one GuestTcp, ever: lwIP's state is global");
  started = true;
  Start();
}

void GuestTcp::Start() {
  guest_lwip_options chosen{};
  std::copy(options_.mac.begin(), options_.mac.end(), chosen.mac);
  chosen.use_ipv4 = options_.use_ipv4 ? 1 : 0;
  chosen.use_ipv6 = options_.use_ipv6 ? 1 : 0;
  chosen.ipv4 = ToLwip(options_.ipv4);
  chosen.gateway4 = ToLwip(options_.gateway4);
  chosen.ipv6 = ToLwip(options_.ipv6);
  chosen.gateway6 = ToLwip(options_.gateway6);
  chosen.prefix4 = options_.prefix4;
  chosen.mtu = static_cast<uint16_t>(options_.mtu);
  chosen.receive_window = options_.receive_buffer;
  chosen.seed = options_.seed;
  chosen.context = this;
  chosen.send = OnSend;
  guest_lwip_start(&chosen);
}

GuestTcp::~GuestTcp() {
  for (const auto& connection : connections_) guest_lwip_detach(&connection->lwip_);
  guest_lwip_stop();
}

void GuestTcp::OnSend(void* self, const uint8_t* frame, size_t length) noexcept {
  static_cast<GuestTcp*>(self)->outgoing_.emplace_back(frame, frame + length);
}

void GuestTcp::Enter(Time now) {
  if (!begun_) begin_ = now_ = now;
  begun_ = true;
  if (now < now_) throw std::logic_error("the guest's time goes back");
  now_ = now;
  const auto since = std::chrono::duration_cast<nanoseconds>(now - begin_);
  guest_lwip_advance(static_cast<uint64_t>(since.count()));
}

void GuestTcp::Flush() {
  if (flushing_) return;  // a callback called the guest: the loops below go on
  struct Guard {
    bool& flag;
    ~Guard() { flag = false; }
  } guard{flushing_};
  flushing_ = true;
  while (!outgoing_.empty() || !accepted_.empty()) {
    if (!outgoing_.empty()) {
      const std::vector<uint8_t> frame = std::move(outgoing_.front());
      outgoing_.pop_front();
      if (options_.send) options_.send(frame);
      continue;
    }
    const auto [listener, connection] = accepted_.front();
    accepted_.pop_front();
    listener->accepted(*connection);
  }
}

guest_lwip_connection* GuestTcp::Listener::OnAccept(void* self) {
  auto* listener = static_cast<Listener*>(self);
  GuestTcp& guest = *listener->guest;
  std::unique_ptr<GuestConnection> connection(new GuestConnection(guest));
  guest.accepted_.emplace_back(listener, connection.get());
  guest.connections_.push_back(std::move(connection));
  return &guest.connections_.back()->lwip_;
}

void GuestTcp::Listen(uint16_t port, std::function<void(GuestConnection&)> accepted) {
  Listener& listener = listeners_.emplace_back(Listener{this, std::move(accepted)});
  listener.lwip = {.context = &listener, .accept = &Listener::OnAccept};
  if (const int error = guest_lwip_listen(&listener.lwip, port); error != 0) {
    throw std::runtime_error("the guest cannot listen: errno " + std::to_string(error));
  }
}

void GuestTcp::OnFrame(Time now, std::span<const uint8_t> frame) {
  Enter(now);
  guest_lwip_input(frame.data(), frame.size());
  Flush();
}

void GuestTcp::RunTimers(Time now) {
  Enter(now);
  Flush();
}

Time GuestTcp::deadline() const {
  const uint64_t due = guest_lwip_next_ms();
  if (!begun_ || due == UINT64_MAX) return kNever;
  return After(begin_, milliseconds(static_cast<int64_t>(due)));
}

GuestConnection* GuestTcp::Connect(Time now, const Endpoint& destination, uint16_t source_port) {
  Enter(now);
  std::unique_ptr<GuestConnection> connection(new GuestConnection(*this));
  const guest_lwip_address address = ToLwip(destination.address);
  const int error = guest_lwip_connect(&connection->lwip_, &address, destination.port, source_port);
  GuestConnection* result = nullptr;
  if (error == 0) {
    result = connection.get();
    connections_.push_back(std::move(connection));
  }
  Flush();
  return result;
}

}  // namespace penstock::world
