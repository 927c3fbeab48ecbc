// A side that stops reading stops the sender on the other side, holds no more in
// penstock than the configured bytes, and slows nobody else down. When it reads on,
// nothing is missing.

#include <array>
#include <iostream>

#include "tests/support/sandbox.h"

namespace penstock::e2e {
namespace {

constexpr uint64_t kBufferLimit = 4 * kMiB;
constexpr int kStalledFlows = 20;
// A flow that got on only by timeouts, a window of 64 KiB for each 300 ms, would take
// 300 s for 64 MiB; one that is served takes well under a second on an idle machine.
constexpr double kServedSeconds = 30;
constexpr auto kQuiet = std::chrono::milliseconds(200);

class Backpressure : public ::testing::TestWithParam<SandboxCase> {
 protected:
  [[nodiscard]] static Family family() { return GetParam().family; }

  // Seconds that a flow of its own takes for 64 MiB.
  [[nodiscard]] double TimeTransfer(bool to_guest) {
    constexpr uint64_t kBytes = 64 * kMiB;
    auto [guest, host] = sandbox_.Connect(family());
    Exchange sends{.send = {9, kBytes}, .receive = {}};
    Exchange receives{.send = {}, .receive = {9, kBytes}};
    Time begin = Clock::now();
    auto host_side = Concurrently([&] { Perform(host, to_guest ? sends : receives); });
    Perform(guest, to_guest ? receives : sends);
    host_side.get();
    return Seconds(Clock::now() - begin);
  }

  // Flows whose reader has stopped; the sender's end and the bytes that it got rid of.
  struct StalledFlow {
    Sandbox::Connection connection;
    uint64_t sent;
  };

  std::vector<StalledFlow> StallFlows(bool to_guest) {
    std::vector<std::future<StalledFlow>> stalling;
    for (int i = 0; i < kStalledFlows; ++i) {
      stalling.push_back(std::async(
          std::launch::async, [to_guest, connection = sandbox_.Connect(family())]() mutable {
            TcpSocket& sender = to_guest ? connection.host : connection.guest;
            uint64_t sent = SendUntilBlocked(sender, 1, 0, kQuiet);
            return StalledFlow{std::move(connection), sent};
          }));
    }
    std::vector<StalledFlow> flows;
    for (auto& flow : stalling) flows.push_back(flow.get());
    return flows;
  }

  static void DrainFlows(std::vector<StalledFlow>& flows, bool to_guest) {
    for (StalledFlow& flow : flows) {
      TcpSocket& sender = to_guest ? flow.connection.host : flow.connection.guest;
      TcpSocket& reader = to_guest ? flow.connection.guest : flow.connection.host;
      sender.ShutdownSending();
      Perform(reader, {.send = {}, .receive = {1, flow.sent}});
    }
  }

  void ReaderStops(bool to_guest) {
    double undisturbed = TimeTransfer(to_guest);
    uint64_t memory_before = sandbox_.ProcessStatus("VmRSS");
    std::vector<StalledFlow> flows = StallFlows(to_guest);

    Stats stats = sandbox_.ReadStats();
    uint64_t held = stats[to_guest ? "buffer_bytes_to_guest" : "buffer_bytes_to_host"];
    EXPECT_LE(held, kBufferLimit);
    // Sanitizers keep freed memory back: their resident set says nothing.
    uint64_t memory_kib = sandbox_.ProcessStatus("VmRSS") - memory_before;
    if (!kSanitized) {
      EXPECT_LE(static_cast<int64_t>(memory_kib * 1024), int64_t{2 * kBufferLimit});
    }

    double disturbed = TimeTransfer(to_guest);
    std::cout << kStalledFlows << " stalled flows hold " << held << " bytes, memory grew by "
              << static_cast<int64_t>(memory_kib) << " KiB; 64 MiB took " << undisturbed
              << " s before and " << disturbed << " s beside them\n";
    EXPECT_LT(disturbed, kServedSeconds);
    DrainFlows(flows, to_guest);
  }

  World world_;
  Sandbox sandbox_{{.via = GetParam().via,
                    .opener = GetParam().opener,
                    .penstock_options = {"--buffer-limit", std::to_string(kBufferLimit)}}};
};

INSTANTIATE_TEST_SUITE_P(E2e, Backpressure, ::testing::ValuesIn(BothOpeners(PenstockCases())),
                         CaseName);

TEST_P(Backpressure, GuestStopsReading) { ReaderStops(true); }
TEST_P(Backpressure, HostStopsReading) { ReaderStops(false); }

// What a sender can get rid of towards a reader that never reads is bounded by
// sockets' buffers and penstock's limit.
TEST_P(Backpressure, SenderIsStopped) {
  constexpr uint64_t kSocketBuffers = 48 * kMiB;
  for (bool to_guest : {true, false}) {
    auto [guest, host] = sandbox_.Connect(family());
    uint64_t sent = SendUntilBlocked(to_guest ? host : guest, 1, 0, kQuiet);
    EXPECT_LT(sent, kBufferLimit + kSocketBuffers) << (to_guest ? "to guest" : "to host");
  }
}

}  // namespace
}  // namespace penstock::e2e
