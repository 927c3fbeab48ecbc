#include "relay/reactor_check.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <filesystem>
#include <map>
#include <set>
#include <string>

namespace penstock {
namespace {

// The descriptors that are open, by what they are.
std::map<std::string, std::set<int>> Descriptors() {
  std::map<std::string, std::set<int>> open;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const std::string what = std::filesystem::read_symlink(entry, gone);
    if (!gone) open[what].insert(std::stoi(entry.path().filename()));
  }
  return open;
}

TEST(ReactorCheckTest, OneWhoseTimersWorkCanBeUsedAfterwards) {
  boost::asio::io_context io(1);
  EXPECT_TRUE(CheckTimers(io).ok());
  bool ended = false;
  boost::asio::steady_timer timer(io, std::chrono::milliseconds(1));
  timer.async_wait([&](boost::system::error_code error) { ended = !error; });
  EXPECT_EQ(io.run(), 1u);
  EXPECT_TRUE(ended);
}

// As where epoll did not take it, of which Asio says nothing.
TEST(ReactorCheckTest, ATimerThatNobodyWatchesIsSeen) {
  auto before = Descriptors();
  boost::asio::io_context io(1);
  const boost::asio::steady_timer first(io);  // makes the reactor
  auto made = [&, after = Descriptors()](const std::string& what) mutable {
    for (const int descriptor : after[what]) {
      if (!before[what].contains(descriptor)) return descriptor;
    }
    return -1;
  };
  ASSERT_EQ(epoll_ctl(made("anon_inode:[eventpoll]"), EPOLL_CTL_DEL, made("anon_inode:[timerfd]"),
                      nullptr),
            0);
  EXPECT_EQ(CheckTimers(io).code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace penstock
