// The simulated world's sockets (tests/world) where what stands for the host's kernel does
// not count: of the relay's tasks over them, all else does. What Asio's reactor does for a
// real socket is not in it, but what its scheduler does for a handler is. Functions that are
// not named here cost next to nothing there, and count.
#ifndef PENSTOCK_BENCH_COUNTED_SOCKET_H_
#define PENSTOCK_BENCH_COUNTED_SOCKET_H_

#include <boost/asio/async_result.hpp>
#include <boost/asio/io_context.hpp>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "bench/counting.h"
#include "tests/world/sim_datagrams.h"
#include "tests/world/sim_host.h"

namespace penstock::bench {

class CountedSocket : public world::SimSocket {
 public:
  using SimSocket::SimSocket;

  [[nodiscard]] int Open(SocketFactory& factory, const SocketRequest& request) {
    const NotCounting kernel;
    return SimSocket::Open(factory, request);
  }
  [[nodiscard]] int Adopt(AcceptedSocket& accepted) {
    const NotCounting kernel;
    return SimSocket::Adopt(accepted);
  }

  [[nodiscard]] int Connect(const Endpoint& destination) {
    const NotCounting kernel;
    return SimSocket::Connect(destination);
  }
  template <typename HandlerOfError>
  void AsyncConnected(HandlerOfError handler) {
    const NotCounting kernel;
    SimSocket::AsyncConnected(std::move(handler));
  }
  template <typename Token>
  auto AsyncReadSome(std::span<uint8_t> room, Token&& token) {
    return boost::asio::async_initiate<Token, void(boost::system::error_code, size_t)>(
        [this, room](auto handler) {
          const NotCounting kernel;
          SimSocket::AsyncReadSome(room, std::move(handler));
        },
        token);
  }
  template <typename Token>
  auto AsyncWaitError(Token&& token) {
    return boost::asio::async_initiate<Token, void(boost::system::error_code)>(
        [this](auto handler) {
          const NotCounting kernel;
          SimSocket::AsyncWaitError(std::move(handler));
        },
        token);
  }
  template <typename Token>
  auto AsyncWaitWritable(Token&& token) {
    return boost::asio::async_initiate<Token, void(boost::system::error_code)>(
        [this](auto handler) {
          const NotCounting kernel;
          SimSocket::AsyncWaitWritable(std::move(handler));
        },
        token);
  }

  [[nodiscard]] IoResult Read(std::span<uint8_t> room) {
    const NotCounting kernel;
    return SimSocket::Read(room);
  }
  [[nodiscard]] IoResult Write(std::span<const iovec> pieces) {
    const NotCounting kernel;
    return SimSocket::Write(pieces);
  }
  void ShutdownWrite() {
    const NotCounting kernel;
    SimSocket::ShutdownWrite();
  }
  void Close(bool reset) {
    const NotCounting kernel;
    SimSocket::Close(reset);
  }
};

class CountedDatagramSocket : public world::SimDatagramSocket {
 public:
  using SimDatagramSocket::SimDatagramSocket;

  template <typename Token>
  auto AsyncWaitReadable(Token&& token) {
    const NotCounting kernel;
    return SimDatagramSocket::AsyncWaitReadable(std::forward<Token>(token));
  }
  template <typename Token>
  auto AsyncWaitWritable(Token&& token) {
    const NotCounting kernel;
    return SimDatagramSocket::AsyncWaitWritable(std::forward<Token>(token));
  }
  [[nodiscard]] std::optional<KernelDatagramSocket::Fault> TakeFault(DatagramScratch::Slot& slot) {
    const NotCounting kernel;
    return SimDatagramSocket::TakeFault(slot);
  }
  [[nodiscard]] DatagramResult Receive(std::span<DatagramScratch::Slot> slots) {
    const NotCounting kernel;
    return SimDatagramSocket::Receive(slots);
  }
  [[nodiscard]] DatagramResult Send(std::span<Datagram* const> datagrams) {
    const NotCounting kernel;
    return SimDatagramSocket::Send(datagrams);
  }
  void Close() {
    const NotCounting kernel;
    SimDatagramSocket::Close();
  }
};

}  // namespace penstock::bench

#endif  // PENSTOCK_BENCH_COUNTED_SOCKET_H_
