// How connections end: half-closed in either order, with a long tail in flight, by
// RST from either side while the other one is blocked, and with urgent data. A
// truncated transfer must never look like a clean one, and no byte may be missing.

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "tests/support/sandbox.h"

namespace penstock::e2e {
namespace {

constexpr auto kQuietAfterClose = std::chrono::milliseconds(200);

class Close : public SandboxTest {};

INSTANTIATE_TEST_SUITE_P(E2e, Close, ::testing::ValuesIn(BothOpeners(EveryCase())), CaseName);

// `first` ends its direction; whatever the other one sends after that arrives.
void HalfClose(TcpSocket& first, TcpSocket& second) {
  first.SendAll("that is all");
  first.ShutdownSending();
  ASSERT_EQ(second.ReceiveToEnd(), "that is all");
  auto answer = Concurrently([&] { Perform(second, {.send = {1, kMiB}, .receive = {}}); });
  Perform(first, {.send = {}, .receive = {1, kMiB}});
  answer.get();
}

TEST_P(Close, GuestEndsFirstAndStillReads) {
  auto [guest, host] = sandbox_.Connect(family());
  HalfClose(guest, host);
}

TEST_P(Close, HostEndsFirstAndStillReads) {
  auto [guest, host] = sandbox_.Connect(family());
  HalfClose(host, guest);
}

// The sender is gone long before the last byte is read.
void TailAfterClose(TcpSocket& sender, TcpSocket& slow_reader) {
  auto sending = Concurrently([&] {
    SendStream(sender, {1, 8 * kMiB});
    sender.Close();
  });
  Perform(slow_reader, {.send = {},
                        .receive = {1, 8 * kMiB},
                        .end_last = true,
                        .read_pause = std::chrono::milliseconds(5)});
  sending.get();
}

TEST_P(Close, TailFromTheHostArrives) {
  auto [guest, host] = sandbox_.Connect(family());
  TailAfterClose(host, guest);
}

TEST_P(Close, TailFromTheGuestArrives) {
  auto [guest, host] = sandbox_.Connect(family());
  TailAfterClose(guest, host);
}

// errno of the first send or receive that fails; 0 at a clean end.
int SendUntilError(TcpSocket& socket) {
  std::array<uint8_t, 65536> bytes{};
  try {
    for (;;) socket.Send(bytes);
  } catch (const std::system_error& error) {
    return error.code().value();
  }
}

int ReceiveUntilError(TcpSocket& socket) {
  try {
    socket.ReceiveToEnd();
  } catch (const std::system_error& error) {
    return error.code().value();
  }
  return 0;
}

void ResetABlockedWriter(TcpSocket& resetting, TcpSocket& writer) {
  ASSERT_GT(SendUntilBlocked(writer, 1, 0, kQuietAfterClose), 0u);
  auto blocked = Concurrently([&] { return SendUntilError(writer); });
  Time begin = Clock::now();
  resetting.Reset();
  int error = blocked.get();
  EXPECT_TRUE(error == ECONNRESET || error == EPIPE) << strerror(error);
  EXPECT_LT(Seconds(Clock::now() - begin), 2);
}

TEST_P(Close, GuestResetReachesABlockedWriter) {
  auto [guest, host] = sandbox_.Connect(family());
  ResetABlockedWriter(guest, host);
}

TEST_P(Close, HostResetReachesABlockedWriter) {
  auto [guest, host] = sandbox_.Connect(family());
  ResetABlockedWriter(host, guest);
}

// The one that resets was itself blocked in a write: what it had written may be lost,
// but the reader must be told.
void ResetByABlockedWriter(TcpSocket& writer, TcpSocket& reader) {
  ASSERT_GT(SendUntilBlocked(writer, 1, 0, kQuietAfterClose), 0u);
  writer.Reset();
  Time begin = Clock::now();
  EXPECT_EQ(ReceiveUntilError(reader), ECONNRESET);
  EXPECT_LT(Seconds(Clock::now() - begin), 2);
}

TEST_P(Close, GuestResetByABlockedWriterIsNoCleanEnd) {
  auto [guest, host] = sandbox_.Connect(family());
  ResetByABlockedWriter(guest, host);
}

TEST_P(Close, HostResetByABlockedWriterIsNoCleanEnd) {
  auto [guest, host] = sandbox_.Connect(family());
  ResetByABlockedWriter(host, guest);
}

// Closing with bytes unread is a reset too.
void CloseWithUnreadBytes(TcpSocket& closing, TcpSocket& sender) {
  sender.SendAll("never read");
  ASSERT_TRUE(closing.WaitFor(POLLIN, kSocketLimit));
  closing.Close();
  EXPECT_EQ(ReceiveUntilError(sender), ECONNRESET);
}

TEST_P(Close, GuestClosesWithUnreadBytes) {
  auto [guest, host] = sandbox_.Connect(family());
  CloseWithUnreadBytes(guest, host);
}

TEST_P(Close, HostClosesWithUnreadBytes) {
  auto [guest, host] = sandbox_.Connect(family());
  CloseWithUnreadBytes(host, guest);
}

// A reader that takes urgent data in line gets every byte, in order.
void UrgentByte(TcpSocket& sender, TcpSocket& reader) {
  reader.Set(SOL_SOCKET, SO_OOBINLINE, 1);
  sender.SendAll("before");
  sender.SendAll("!", MSG_OOB);
  sender.SendAll("after");
  sender.Close();
  EXPECT_EQ(reader.ReceiveToEnd(), "before!after");
}

TEST_P(Close, UrgentByteFromTheGuestStaysInPlace) {
  auto [guest, host] = sandbox_.Connect(family());
  UrgentByte(guest, host);
}

TEST_P(Close, UrgentByteFromTheHostStaysInPlace) {
  auto [guest, host] = sandbox_.Connect(family());
  UrgentByte(host, guest);
}

}  // namespace
}  // namespace penstock::e2e
