// What the tests of FramedTask share: the stack's end of one pipe, played by the test, a
// relay on the test's own io_context, and a real socket at the far end of the stream. Both
// ways to get a socket: connect, and adopt one end of a pair.
#ifndef PENSTOCK_TESTS_RELAY_FRAMED_FIXTURE_H_
#define PENSTOCK_TESTS_RELAY_FRAMED_FIXTURE_H_

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "relay/relay.h"
#include "tests/support/framed.h"
#include "tests/support/host_side.h"

namespace penstock {

enum class Way { kConnect, kAdopt };

// The kernel's sockets; or none, on purpose.
class CountedStreams final : public SocketFactory {
 public:
  SocketResult OpenStream(const SocketRequest& request) override;
  int asked = 0;
  int error = 0;
  Endpoint destination;
};

class FramedFixture : public testing::TestWithParam<Way> {
 protected:
  FramedFixture();
  ~FramedFixture() override;

  [[nodiscard]] static bool connects() { return GetParam() == Way::kConnect; }
  // The stream is there: far() is its other end, which has read whatever it took to connect.
  void Begin();
  [[nodiscard]] HostSocket& far() { return *far_; }

  // The stack's.
  void Give(std::string_view message);
  void SayLastWord();
  // Everything that is held goes back.
  void GiveBack();
  // Handlers that are due, and what came of them.
  void Run();
  void Until(std::string_view what, const std::function<bool()>& done);

  // Every datagram of the relay's pool is somebody else's, then no more.
  void TakeWholePool();
  void GivePoolBack();

  // The far end's.
  void FarWrites(std::string_view bytes);
  // What it read since Begin, once that is so many bytes.
  std::string FarReads(size_t bytes);

  // What the stack heard: messages, and ends in order with how many messages came before.
  struct End {
    DatagramFault fault;
    size_t messages_before = 0;
  };
  std::vector<std::string> messages_;
  std::vector<End> ends_;
  bool hold_ = false;  // nothing goes back but by GiveBack
  [[nodiscard]] size_t held() const { return held_.size(); }

  std::shared_ptr<CountedStreams> streams_ = std::make_shared<CountedStreams>();
  boost::asio::io_context io_;
  Doorbell bell_;
  std::shared_ptr<Relay> relay_;
  std::shared_ptr<DatagramPipe> pipe_ = std::make_shared<DatagramPipe>();
  DatagramPool pool_;
  uint64_t bytes_out_ = 0;  // of the stack's
  bool shut_down_ = false;
  HostListener listener_{Family::kIpv4};
  Endpoint peer_{IpAddress::V4(127, 0, 0, 1), listener_.port()};  // to connect to

 private:
  void Take();
  void Mark() { relay_->pipes_to_relay().Mark(pipe_->for_relay, *pipe_); }

  std::optional<HostSocket> far_;
  size_t far_skipped_ = 0;
  std::vector<Datagram*> held_;
  struct OtherPipe {
    Datagram* datagram = nullptr;
    uint64_t bytes_out = 0;
  };
  std::vector<OtherPipe> others_;
};

inline std::string WayName(const testing::TestParamInfo<Way>& info) {
  return info.param == Way::kConnect ? "Connect" : "Adopt";
}

}  // namespace penstock

#endif  // PENSTOCK_TESTS_RELAY_FRAMED_FIXTURE_H_
