// Two hundred connections of random size, chunking and close order, every byte
// checked; over a good link and over one that delays, loses and reorders frames in
// both directions.

#include <sys/socket.h>

#include <array>
#include <atomic>
#include <iostream>
#include <random>

#include "tests/support/sandbox.h"

namespace penstock::e2e {
namespace {

constexpr int kConnections = 200;
constexpr int kConnectionsAtOnce = 20;
constexpr uint64_t kKiB = 1024;

// What a connection does follows from its seed, on both sides alike.
struct Plan {
  Plan(uint64_t seed, uint64_t bytes_max) {
    std::mt19937_64 random(seed);
    // Most are small, as connections are; one in eight may have the full size.
    auto size = [&] {
      uint64_t limit = random() % 8 == 0 ? bytes_max : bytes_max / 16;
      return random() % (limit + 1);
    };
    Stream to_host{2 * seed, size()};
    Stream to_guest{2 * seed + 1, size()};
    uint64_t order = random() % 3;  // guest ends first, host ends first, nobody waits
    guest = {.send = to_host,
             .receive = to_guest,
             .chunk_max = 1 + random() % 100000,
             .end_last = order == 1};
    host = {.send = to_guest,
            .receive = to_host,
            .chunk_max = 1 + random() % 100000,
            .end_last = order == 0};
  }
  Exchange guest;
  Exchange host;
};

void RunHostSide(TcpListener& listener, uint64_t bytes_max) {
  std::vector<std::future<void>> connections;
  for (int i = 0; i < kConnections; ++i) {
    connections.push_back(std::async(std::launch::async, [bytes_max,
                                                          socket = listener.Accept()]() mutable {
      // The guest says which connection this is.
      uint64_t seed = 0;
      size_t size = socket.Receive({reinterpret_cast<uint8_t*>(&seed), sizeof seed}, MSG_WAITALL);
      if (size != sizeof seed) throw std::runtime_error("a connection without a seed");
      Perform(socket, Plan(seed, bytes_max).host);
    }));
  }
  for (auto& connection : connections) connection.get();
}

void RunConnections(const Sandbox& sandbox, Family family, uint64_t bytes_max) {
  TcpListener listener;
  auto host_side = Concurrently([&] { RunHostSide(listener, bytes_max); });
  std::atomic<int> next = 0;
  std::vector<std::future<void>> guests;
  for (int i = 0; i < kConnectionsAtOnce; ++i) {
    guests.push_back(Concurrently([&] {
      for (int number = next++; number < kConnections; number = next++) {
        uint64_t seed = static_cast<uint64_t>(number) + 1;
        TcpSocket guest = sandbox.GuestSocket(family);
        guest.Connect(Sandbox::Gateway(family, listener.port()));
        guest.Send({reinterpret_cast<const uint8_t*>(&seed), sizeof seed});
        Perform(guest, Plan(seed, bytes_max).guest);
      }
    }));
  }
  for (auto& guest : guests) guest.get();
  host_side.get();
}

class ManyConnections : public SandboxTest {};

INSTANTIATE_TEST_SUITE_P(E2e, ManyConnections, ::testing::ValuesIn(EveryCase()), CaseName);

TEST_P(ManyConnections, EveryByteArrives) {
  RunConnections(sandbox_, family(), 2048 * kKiB);
  if (!via_penstock()) return;
  Stats stats = sandbox_.ReadStats();
  EXPECT_EQ(stats["flows_established"], uint64_t{kConnections});
  // The link loses nothing; but a busy machine may leave a guest waiting for 300 ms.
  // Without a clock, in tests/world, it has to be none.
  EXPECT_LT(stats["retransmits_by_timer"], 10u);
}

struct ImpairedCase {
  Family family;
  bool offload;
};

class ImpairedLink : public ::testing::TestWithParam<ImpairedCase> {};

INSTANTIATE_TEST_SUITE_P(E2e, ImpairedLink,
                         ::testing::Values(ImpairedCase{Family::kIpv4, true},
                                           ImpairedCase{Family::kIpv6, false}),
                         [](const auto& test) {
                           return Name(test.param.family) +
                                  (test.param.offload ? "_offload" : "_no_offload");
                         });

TEST_P(ImpairedLink, EveryByteArrives) {
  World world;
  SandboxOptions options{.via = Via::kRelayThread,
                         .penstock_options = {"--impair", "delay=10ms,drop=1%,reorder=1%"}};
  // With offload a frame holds up to 64 KiB: it takes longer streams until one is lost
  // that three others follow, as a fast retransmission needs.
  uint64_t bytes_max = 8192 * kKiB;
  if (!GetParam().offload) {
    options.penstock_options.push_back("--no-offload");
    bytes_max = 1024 * kKiB;
  }
  Sandbox sandbox(options);
  RunConnections(sandbox, GetParam().family, bytes_max);

  Stats stats = sandbox.ReadStats();
  std::cout << "retransmissions by timer: " << stats["retransmits_by_timer"]
            << ", by duplicate ACK: " << stats["retransmits_by_dupack"]
            << ", frames that the link lost: " << stats["frames_lost_by_link"] << "\n";
  EXPECT_GT(stats["frames_lost_by_link"], 0u);
  EXPECT_GT(stats["retransmits_by_dupack"], 0u) << "every loss waited for a timer";
}

}  // namespace
}  // namespace penstock::e2e
