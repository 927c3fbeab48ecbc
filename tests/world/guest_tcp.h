// The guest's end of a simulated world: a whole TCP/IP host that owes nothing to
// penstock. It is stock lwIP 2.2.1 with ARP, neighbour discovery, both IPs and ICMP,
// configured like an ordinary guest (guest_lwip/lwipopts.h) and hidden from penstock's
// own lwIP (CMakeLists.txt). guest_lwip/README.md has what one must know of it.
//
//   GuestTcpOptions options = GuestOptionsFor(config);
//   options.send = [&](std::span<const uint8_t> frame) { link.PushToHost(frame); };
//   GuestTcp guest(std::move(options));
//   GuestConnection* connection = guest.Connect(now, {config.ipv4.gateway, 80}, 40000);
//   guest.OnFrame(now, frame);               // whatever the link delivers
//   guest.RunTimers(guest.deadline());       // when nothing comes before that
//   connection->Write(request);
//
// Time is virtual and an argument; initial sequence numbers and the like come from the
// seed: the same calls give the same frames. Calls of a connection, which have no
// argument for it, happen at the latest time that the guest was told: call RunTimers
// first if time has gone by.
//
// Frames are handed to `send` when lwIP has returned, so `send` may call the guest. lwIP
// has its state in globals: one GuestTcp in a process, ever; see child.h. One thread.
#ifndef PENSTOCK_TESTS_WORLD_GUEST_TCP_H_
#define PENSTOCK_TESTS_WORLD_GUEST_TCP_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "relay/endpoint.h"
#include "relay/time.h"
#include "stack/config.h"
#include "tests/world/guest_lwip/guest_lwip.h"

namespace penstock::world {

class GuestTcp;

// One connection of the guest's, from its SYN on. Owned by GuestTcp.
class GuestConnection final {
 public:
  GuestConnection(const GuestConnection&) = delete;
  GuestConnection& operator=(const GuestConnection&) = delete;

  // The handshake is done, or was before the connection ended.
  [[nodiscard]] bool connected() const { return lwip_.connected != 0; }
  // FIN came, and all bytes before it were read.
  [[nodiscard]] bool finished_reading() const {
    return lwip_.peer_finished != 0 && readable() == 0;
  }
  // Why lwIP forgot the connection, as an errno: ECONNREFUSED (reset instead of SYN-ACK),
  // ECONNRESET, ETIMEDOUT (too many retransmissions or window probes), ECONNABORTED
  // (Abort, or data that came after Close; the guest has sent RST). 0: alive, or ended in
  // order. lwIP does not tell TCP of ICMP errors: an unreachable host is a timeout.
  [[nodiscard]] int error() const { return lwip_.error; }
  // Both sides are done: TIME_WAIT, or no PCB is left, for whatever reason.
  [[nodiscard]] bool closed() const { return guest_lwip_is_closed(&lwip_) != 0; }
  [[nodiscard]] uint16_t source_port() const { return lwip_.source_port; }
  // Of a connection that was accepted: who the guest thinks it talks to.
  [[nodiscard]] Endpoint peer() const;

  // Bytes that came in order and wait, whatever has become of the connection since.
  [[nodiscard]] size_t readable() const { return received_.size() - head_; }
  // Takes a prefix; returns its length. The window opens by that much only now, and
  // lwIP says so once it is a quarter of the window or four segments.
  size_t Read(std::span<uint8_t> room);
  // No more than this will be taken by the next Write.
  [[nodiscard]] size_t write_room() const { return guest_lwip_write_room(&lwip_); }
  // Copies a prefix into the send buffer (256 KiB) and returns its length: 0 before the
  // handshake is done, and after ShutdownWrite.
  size_t Write(std::span<const uint8_t> bytes);
  // Bytes written and not acknowledged yet; 0 once lwIP has forgotten the connection.
  [[nodiscard]] size_t unacknowledged() const { return guest_lwip_unacknowledged(&lwip_); }

  // FIN after all that was written; before the handshake is done: right after it.
  void ShutdownWrite();
  // As close(2): nothing will be read or written any more. FIN after what was written;
  // RST at once if bytes wait to be read, or when some come later. Before the handshake
  // is done: silence.
  void Close();
  // RST; before the handshake is done: silence.
  void Abort();

 private:
  friend class GuestTcp;
  explicit GuestConnection(GuestTcp& guest);
  static void OnReceived(void* self, const uint8_t* bytes, size_t length) noexcept;

  GuestTcp& guest_;
  guest_lwip_connection lwip_{};
  std::vector<uint8_t> received_;  // from head_ on
  size_t head_ = 0;
};

struct GuestTcpOptions {
  MacAddress mac{0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
  bool use_ipv4 = true;
  IpAddress ipv4{};
  IpAddress gateway4{};
  uint8_t prefix4 = 24;
  // The prefix is 64 bits: lwIP knows no other.
  bool use_ipv6 = true;
  IpAddress ipv6{.family = Family::kIpv6};
  IpAddress gateway6{.family = Family::kIpv6};
  // 576 (1280 with IPv6) to 65,520.
  uint32_t mtu = 1500;
  // Of every connection: 1 KiB to 65,535 << 3. It is the window as well.
  uint32_t receive_buffer = 256 << 10;
  uint64_t seed = 1;
  // An Ethernet frame to the link, without padding and FCS.
  std::function<void(std::span<const uint8_t>)> send{};
};

// A guest with the addresses and the MTU that `config` has for it.
[[nodiscard]] GuestTcpOptions GuestOptionsFor(const Config& config);

class GuestTcp final {
 public:
  // Throws std::logic_error if this process has, or had, another one, and
  // std::invalid_argument for options that cannot work. Sends nothing yet.
  explicit GuestTcp(GuestTcpOptions options);
  // Says nothing to anybody. Connections end here, too.
  ~GuestTcp();
  GuestTcp(const GuestTcp&) = delete;
  GuestTcp& operator=(const GuestTcp&) = delete;

  // Its clock stood still for so long, until now.
  void Sleep(Duration slept) {
    if (begun_) begin_ += slept;
  }

  // In all of these `now` must not go back, and timers that were due before it have run,
  // each at its own time, when the call acts.

  // A frame from the link with complete checksums. Above the MTU: dropped and counted.
  void OnFrame(Time now, std::span<const uint8_t> frame);
  void RunTimers(Time now);
  // When a timer may have something to do; kNever if none has. lwIP ticks: every 250 ms
  // while a connection has sent what is not acknowledged, holds what came out of order or
  // delays an ACK; once a second while an IPv6 neighbour is sought. Ticks that only count
  // (ageing of ARP and ND entries, TIME_WAIT, idle connections) ask for nothing and are
  // made up for with the next call.
  [[nodiscard]] Time deadline() const;

  // A SYN leaves, or waits for its neighbour. nullptr if lwIP refuses: the family is off,
  // or a connection between the same ports and addresses lives or is in TIME_WAIT. Source
  // port 0: lwIP chooses. The connection lives as long as the guest.
  GuestConnection* Connect(Time now, const Endpoint& destination, uint16_t source_port);

  // From now on connections to `port` are accepted, as they complete the handshake; they
  // live as long as the guest. Throws std::runtime_error if lwIP refuses.
  void Listen(uint16_t port, std::function<void(GuestConnection&)> accepted);

  // Frames that lwIP would not take: checksums or lengths were wrong, or they were above
  // the MTU. On a link that spoils nothing it stays 0.
  [[nodiscard]] uint64_t malformed_frames() const { return guest_lwip_malformed(); }

 private:
  friend class GuestConnection;
  static void OnSend(void* self, const uint8_t* frame, size_t length) noexcept;
  void Start();
  // Time goes by up to `now`.
  void Enter(Time now);
  // Hands the link what lwIP has sent.
  void Flush();

  const GuestTcpOptions options_;
  bool begun_ = false;
  Time begin_{};  // the first time that the guest was told: lwIP's 0
  Time now_{};
  std::deque<std::vector<uint8_t>> outgoing_;
  bool flushing_ = false;
  std::deque<std::unique_ptr<GuestConnection>> connections_;

  struct Listener {
    GuestTcp* guest;
    std::function<void(GuestConnection&)> accepted;
    guest_lwip_listener lwip{};
    static guest_lwip_connection* OnAccept(void* self);
  };
  std::deque<Listener> listeners_;
  // Told of when lwIP has returned.
  std::deque<std::pair<Listener*, GuestConnection*>> accepted_;
};

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_GUEST_TCP_H_
