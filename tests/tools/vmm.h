// A virtual machine for tests of `penstock serve`: the VMM's socket, and frames that the test
// writes and reads by hand. Nothing is waited for without a limit; what goes wrong is thrown.
#ifndef PENSTOCK_TESTS_TOOLS_VMM_H_
#define PENSTOCK_TESTS_TOOLS_VMM_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "tests/support/packet_builder.h"
#include "tools/penstock/descriptor.h"

namespace penstock::tool {

class Vmm final {
 public:
  // Connects to a stream socket.
  [[nodiscard]] static Vmm ToStream(const std::string& path);
  // A datagram socket at `own` that sends to `path`, as QEMU's: not connected.
  [[nodiscard]] static Vmm ToDatagrams(const std::string& path, const std::string& own);
  // One end of a pair.
  explicit Vmm(int type, Descriptor& other_end);
  // Listens at `path` and takes one connection, after `start` did something that leads to it.
  [[nodiscard]] static Vmm AtStream(const std::string& path, const std::function<void()>& start);

  void Send(const Bytes& frame);
  // As it is, without framing.
  void SendRaw(const Bytes& bytes);
  // The next frame for which `wanted` is true; those before it are passed over.
  Bytes Receive(const std::function<bool(const Bytes&)>& wanted);
  // The other end has closed it; what comes before is passed over.
  void AwaitEnd();
  void Leave() { socket_.Reset(); }

  // ---- a little guest, by IPv4, whose MAC is `mac`

  MacAddress mac = kGuestMac;
  // Asks who has the gateway's address, and what it says by echo.
  void MeetGateway();
  // Sends a datagram to a UDP port of the gateway's and returns what comes back.
  std::string AskByUdp(uint16_t port, const std::string& text);
  // Opens a connection to a port of the gateway's, sends, and returns the first bytes back.
  std::string AskByTcp(uint16_t port, const std::string& text);

 private:
  explicit Vmm(Descriptor socket, bool framed) : socket_(std::move(socket)), framed_(framed) {}
  // False: the end.
  [[nodiscard]] bool ReadSome();
  [[nodiscard]] std::optional<Bytes> TakeFrame();

  Descriptor socket_;
  bool framed_ = false;  // with lengths
  std::string address_;  // of the other end, if not connected
  Bytes stream_;
};

}  // namespace penstock::tool

#endif  // PENSTOCK_TESTS_TOOLS_VMM_H_
