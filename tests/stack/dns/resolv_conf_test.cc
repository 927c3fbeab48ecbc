// resolv.conf(5), read and followed, with real files.
#include "stack/dns/resolv_conf.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace penstock {
namespace {

namespace fs = std::filesystem;

std::string Parsed(std::string_view text) {
  std::string all;
  for (const NameServer& server : ParseResolvConf(text)) {
    all += server.address.ToString() + (server.zone.empty() ? "" : "%" + server.zone) + " ";
  }
  return all;
}

TEST(ResolvConfTest, NameServers) {
  EXPECT_EQ(Parsed("nameserver 192.0.2.1\nnameserver\t2001:db8::1 \r\n"), "192.0.2.1 2001:db8::1 ");
  EXPECT_EQ(Parsed("nameserver fe80::1%eth0"), "fe80::1%eth0 ") << "the last line has no end";
  EXPECT_EQ(Parsed("nameserver 0.0.0.0\nnameserver ::\n"), "127.0.0.1 ::1 ");
  EXPECT_EQ(Parsed("nameserver 192.0.2.1 # trailing\nnameserver 192.0.2.1\n"),
            "192.0.2.1 192.0.2.1 ");
}

TEST(ResolvConfTest, TheFirstThree) {
  EXPECT_EQ(
      Parsed("nameserver 1.0.0.1\nnameserver 1.0.0.2\nnameserver 1.0.0.3\nnameserver 1.0.0.4\n"),
      "1.0.0.1 1.0.0.2 1.0.0.3 ");
}

TEST(ResolvConfTest, WhatIsPassedOver) {
  EXPECT_EQ(Parsed("# nameserver 1.0.0.1\n; nameserver 1.0.0.2\nsearch corp.test\ndomain test\n"
                   "options timeout:1 attempts:3 edns0 trust-ad\nsortlist 10.0.0.0\n"),
            "");
  EXPECT_EQ(Parsed("nameserver\nnameserver \nnameserver x\nnameserver 1.0.0\nnameserver 1.0.0.1.1\n"
                   "nameserver 224.0.0.1\nnameserverr 1.0.0.1\n nameserver 1.0.0.2\n"),
            "");
  EXPECT_EQ(Parsed(std::string("\0\xff nameserver 1.0.0.1\nnameserver 1.0.0.2\n", 41)), "1.0.0.2 ");
  EXPECT_EQ(Parsed(""), "");
}

// ---------------------------------------------------------------- following

class ResolvConfFollowTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "penstock-").string() + std::string(6, 'X');
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    fs::create_directory(folder_ / "etc");
    path_ = folder_ / "etc/resolv.conf";
  }
  void TearDown() override { fs::remove_all(folder_); }

  static void Write(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }
  static std::string Server(int last) {
    return "nameserver 192.0.2." + std::to_string(last) + "\n";
  }
  // What it follows to, now. Readable exactly if there was something to look at.
  static std::string Now(ResolvConf& conf) {
    pollfd readable{.fd = conf.descriptor(), .events = POLLIN, .revents = 0};
    const bool something = poll(&readable, 1, 0) == 1;
    const bool changed = conf.Update();
    EXPECT_TRUE(something || !changed);
    // Watches that ended say so once more.
    for (int i = 0; i < 3 && poll(&readable, 1, 0) == 1; ++i) (void)conf.Update();
    EXPECT_EQ(poll(&readable, 1, 0), 0) << "quiet afterwards";
    return Text(conf);
  }
  static std::string Text(const ResolvConf& conf) {
    std::string all;
    for (const DnsUpstream& upstream : conf.upstreams()) {
      all += (all.empty() ? "" : " ") + upstream.endpoint.ToString();
    }
    return all;
  }

  fs::path folder_, path_;
};

TEST_F(ResolvConfFollowTest, RewrittenInPlace) {
  Write(path_, Server(1));
  ResolvConf conf(path_);
  EXPECT_EQ(Text(conf), "192.0.2.1:53");
  EXPECT_FALSE(conf.Update());
  Write(path_, Server(2) + Server(3));
  EXPECT_EQ(Now(conf), "192.0.2.2:53 192.0.2.3:53");
}

TEST_F(ResolvConfFollowTest, WhileItIsWrittenTheOldOnesStay) {
  Write(path_, Server(1));
  ResolvConf conf(path_);
  std::ofstream file(path_);  // empty now
  EXPECT_EQ(Now(conf), "192.0.2.1:53");
  file << Server(2);
  file.close();
  EXPECT_EQ(Now(conf), "192.0.2.2:53");
}

TEST_F(ResolvConfFollowTest, ReplacedByRename) {
  Write(path_, Server(1));
  ResolvConf conf(path_);
  for (int i = 2; i < 5; ++i) {
    Write(folder_ / "etc/resolv.conf.new", Server(i));
    EXPECT_EQ(Now(conf), "192.0.2." + std::to_string(i - 1) + ":53") << "another file's name";
    fs::rename(folder_ / "etc/resolv.conf.new", path_);
    EXPECT_EQ(Now(conf), "192.0.2." + std::to_string(i) + ":53");
  }
}

TEST_F(ResolvConfFollowTest, RemovedAndThereAgain) {
  ResolvConf conf(path_);
  EXPECT_EQ(Text(conf), "127.0.0.1:53") << "as the C library";
  Write(path_, Server(1));
  EXPECT_EQ(Now(conf), "192.0.2.1:53");
  fs::remove(path_);
  EXPECT_EQ(Now(conf), "127.0.0.1:53");
  Write(path_, "# none\n");
  EXPECT_EQ(Now(conf), "127.0.0.1:53");
  Write(path_, Server(2));
  EXPECT_EQ(Now(conf), "192.0.2.2:53");
}

TEST_F(ResolvConfFollowTest, BehindLinks) {
  fs::create_directories(folder_ / "run/resolve");
  Write(folder_ / "run/resolve/stub.conf", Server(1));
  fs::create_symlink("../run/resolve/stub.conf", path_);
  ResolvConf conf(path_);
  EXPECT_EQ(Text(conf), "192.0.2.1:53");
  Write(folder_ / "run/resolve/stub.conf", Server(2));
  EXPECT_EQ(Now(conf), "192.0.2.2:53");
  Write(folder_ / "run/resolve/new", Server(3));
  fs::rename(folder_ / "run/resolve/new", folder_ / "run/resolve/stub.conf");
  EXPECT_EQ(Now(conf), "192.0.2.3:53");
  // The link itself, to elsewhere; what it led to is not followed any more.
  Write(folder_ / "run/other.conf", Server(4));
  fs::create_symlink("../run/other.conf", folder_ / "etc/new");
  fs::rename(folder_ / "etc/new", path_);
  EXPECT_EQ(Now(conf), "192.0.2.4:53");
  Write(folder_ / "run/resolve/stub.conf", Server(5));
  pollfd readable{.fd = conf.descriptor(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&readable, 1, 0), 0);
  Write(folder_ / "run/other.conf", Server(6));
  EXPECT_EQ(Now(conf), "192.0.2.6:53");
}

TEST_F(ResolvConfFollowTest, AFolderThatComesAndGoes) {
  fs::create_directory(folder_ / "run");
  fs::create_symlink(folder_ / "run/a/b/stub.conf", path_);
  ResolvConf conf(path_);
  EXPECT_EQ(Text(conf), "127.0.0.1:53");
  for (int i = 1; i < 4; ++i) {
    fs::create_directory(folder_ / "run/a");
    EXPECT_EQ(Now(conf), "127.0.0.1:53");
    fs::create_directory(folder_ / "run/a/b");
    EXPECT_EQ(Now(conf), "127.0.0.1:53");
    Write(folder_ / "run/a/b/stub.conf", Server(i));
    EXPECT_EQ(Now(conf), "192.0.2." + std::to_string(i) + ":53");
    fs::remove_all(folder_ / "run/a");
    EXPECT_EQ(Now(conf), "127.0.0.1:53");
  }
}

TEST_F(ResolvConfFollowTest, LinkLocalServersNeedTheirInterface) {
  Write(path_, "nameserver fe80::1%lo\nnameserver fe80::2\nnameserver fe80::3%no-such\n");
  const ResolvConf conf(path_);
  ASSERT_EQ(conf.upstreams().size(), 1u);
  EXPECT_EQ(conf.upstreams()[0].endpoint.ToString(), "[fe80::1]:53");
  EXPECT_EQ(conf.upstreams()[0].interface, 1u);
}

TEST_F(ResolvConfFollowTest, NoFileButSomethingElse) {
  fs::create_directory(path_);
  EXPECT_EQ(Text(ResolvConf(path_)), "127.0.0.1:53");
  EXPECT_EQ(Text(ResolvConf("/dev/zero")), "127.0.0.1:53") << "without an end";
  fs::remove(path_);
  fs::create_symlink("resolv.conf", path_);
  EXPECT_EQ(Text(ResolvConf(path_)), "127.0.0.1:53") << "a link to itself";
}

}  // namespace
}  // namespace penstock
