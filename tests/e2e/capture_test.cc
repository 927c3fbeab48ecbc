// `--pcap`: what tshark, and so Wireshark, reads in the file of a real transfer.
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <sstream>

#include "tests/support/places.h"
#include "tests/support/sandbox.h"

namespace penstock::e2e {
namespace {

// The frames that a display filter selects, one line of `fields` for each.
std::vector<std::string> Frames(const std::string& file, const std::string& filter,
                                const std::vector<std::string>& fields = {"frame.number"}) {
  // stderr has what tshark thinks of being root.
  std::vector<std::string> command{"sh", "-c", "exec tshark \"$@\" 2> /dev/null", "tshark"};
  command.insert(command.end(), {"-n", "-r", file, "-o", "tcp.check_checksum:TRUE", "-o",
                                 "ip.check_checksum:TRUE", "-Y", filter, "-T", "fields"});
  for (const std::string& field : fields) command.insert(command.end(), {"-e", field});
  const CommandResult result = RunCommand(command);
  EXPECT_EQ(result.status, 0) << result.output;
  std::vector<std::string> lines;
  std::istringstream output(result.output);
  for (std::string line; std::getline(output, line);) lines.push_back(line);
  return lines;
}

double UnixTime() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

class CaptureFile : public ::testing::TestWithParam<Family> {
 protected:
  World world_;
  TemporaryFolder folder_;
  const std::string file_ = folder_ / "guest.pcapng";
};

INSTANTIATE_TEST_SUITE_P(E2e, CaptureFile, ::testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const auto& test) { return Name(test.param); });

constexpr uint64_t kPageBytes = 300'000;

void ServePage(TcpListener& listener) {
  TcpSocket socket = listener.Accept();
  socket.SendAll("HTTP/1.0 200 OK\r\n\r\n" + std::string(kPageBytes, 'x'));
  socket.ShutdownSending();
  (void)socket.ReceiveToEnd();
}

TEST_P(CaptureFile, TsharkReadsATransferInBothDirections) {
  TcpListener listener;
  auto server = Concurrently([&] { ServePage(listener); });
  const double before = UnixTime();
  const CommandResult run = RunCommand(
      {ProgramPath("penstock"), "run", "--pcap", file_, "--no-offload", "--host-loopback", "--",
       "curl", "--disable", "--silent", "--show-error", "--max-time", "20", "--noproxy", "*",
       "http://" + Sandbox::Gateway(GetParam(), listener.port()).ToString() + "/"});
  const double after = UnixTime();
  EXPECT_EQ(run.status, 0) << run.output.substr(0, 2'000);
  server.get();

  struct stat status {};
  ASSERT_EQ(stat(file_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);

  EXPECT_EQ(Frames(file_,
                   "_ws.malformed || tcp.checksum.status == 0 || ip.checksum.status == 0 || "
                   "_ws.expert.severity == 8388608"),
            std::vector<std::string>());
  const std::string family = GetParam() == Family::kIpv4 ? "ip" : "ipv6";
  const auto count = [&](const std::string& filter) {
    return Frames(file_, family + " && " + filter).size();
  };
  EXPECT_EQ(count("frame.packet_flags_direction == 1 && tcp.flags.syn == 1 && tcp.flags.ack == 0"),
            1u);
  EXPECT_EQ(count("frame.packet_flags_direction == 2 && tcp.flags.syn == 1 && tcp.flags.ack == 1"),
            1u);
  EXPECT_EQ(count("tcp.analysis.lost_segment || tcp.analysis.ack_lost_segment"), 0u);

  uint64_t bytes = 0;
  for (const std::string& line :
       Frames(file_,
              "frame.packet_flags_direction == 2 && tcp.len > 0 && !tcp.analysis.retransmission",
              {"tcp.len"})) {
    bytes += std::stoull(line);
  }
  EXPECT_EQ(bytes, kPageBytes + std::string("HTTP/1.0 200 OK\r\n\r\n").size());
  for (const std::string& line : Frames(file_, "tcp", {"frame.time_epoch"})) {
    const double time = std::stod(line);
    EXPECT_GE(time, before - 0.1);
    EXPECT_LE(time, after + 0.1);
  }
}

// What a killed penstock had written is whole.
TEST_P(CaptureFile, AKilledPenstockLeavesAReadableFile) {
  Sandbox sandbox({.via = Via::kOneThread, .penstock_options = {"--pcap", file_}});
  Sandbox::Connection connection = sandbox.Connect(GetParam());
  TcpSocket &guest = connection.guest, &host = connection.host;
  // Several buffers of the writer, and then the frames that wait for the interval.
  const Stream stream{1, 2'000'000};
  auto sender = Concurrently([&] { Perform(guest, {.send = stream}); });
  Perform(host, {.receive = stream});
  sender.get();
  const auto seen = [&] { return std::filesystem::file_size(file_) > 2'000'000; };
  for (int i = 0; i < 2'000 && !seen(); ++i) usleep(10'000);
  sandbox.KillPenstock();
  EXPECT_EQ(Frames(file_, "_ws.malformed"), std::vector<std::string>());
  EXPECT_GT(Frames(file_, "frame.packet_flags_direction == 1 && tcp").size(), 10u);
}

}  // namespace
}  // namespace penstock::e2e
