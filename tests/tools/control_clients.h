// A control server without a stack behind it, and its clients. For tests of control.h.
#ifndef PENSTOCK_TESTS_TOOLS_CONTROL_CLIENTS_H_
#define PENSTOCK_TESTS_TOOLS_CONTROL_CLIENTS_H_

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

#include "tests/tools/program.h"
#include "tools/penstock/control.h"

namespace penstock::tool {

inline constexpr Time kControlStart{std::chrono::hours(1)};

// A server whose answer to a request is the request in brackets; clients are sockets of
// the test. Time is the test's.
class ControlClients : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = ControlServer::Open(path());
    ASSERT_TRUE(opened.ok()) << opened.status();
    server_ = *std::move(opened);
  }

  [[nodiscard]] std::string path() const { return folder_ / "c"; }

  [[nodiscard]] Descriptor Connect() const {
    auto client = ConnectToControl(path(), std::chrono::seconds(kLimitSeconds));
    if (!client.ok()) throw std::runtime_error(client.status().ToString());
    return *std::move(client);
  }

  static void Send(const Descriptor& client, std::string_view text) {
    ASSERT_EQ(send(client.get(), text.data(), text.size(), MSG_NOSIGNAL), ssize_t(text.size()));
  }

  void Serve(Time now = kControlStart) {
    server_->Serve(now, [this](std::string_view request) {
      ++requests_;
      return ControlServer::Reply{.text = "[" + std::string(request) + "]\n" + padding_,
                                  .subscribe = request == kSubscribe};
    });
  }

  [[nodiscard]] bool readable() const {
    pollfd watched{.fd = server_->descriptor(), .events = POLLIN, .revents = 0};
    return poll(&watched, 1, 0) == 1;
  }

  // What has come so far, and whether that was all.
  struct Received {
    std::string text;
    bool ended = false;
  };
  static Received Receive(const Descriptor& client) {
    Received received;
    std::array<char, 65'536> bytes;
    for (;;) {
      const ssize_t length = recv(client.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (length > 0) received.text.append(bytes.data(), size_t(length));
      received.ended = length == 0 || (length < 0 && errno == ECONNRESET);
      if (length <= 0) return received;
    }
  }

  // The sentence of an error that ended a connection.
  static std::string ErrorOf(const Descriptor& client) {
    const Received received = Receive(client);
    EXPECT_TRUE(received.ended);
    const auto answer = nlohmann::json::parse(received.text, nullptr, false);
    EXPECT_TRUE(answer.is_object()) << received.text;
    return answer.is_object() ? answer["error"]["desc"].get<std::string>() : received.text;
  }

  // Asked for, it makes the client a subscriber.
  static constexpr std::string_view kSubscribe = "{\"s\":1}";

  TemporaryFolder folder_;
  std::unique_ptr<ControlServer> server_;
  std::string padding_;
  int requests_ = 0;
};

}  // namespace penstock::tool

#endif  // PENSTOCK_TESTS_TOOLS_CONTROL_CLIENTS_H_
