// Who may include whom: relay <- publisher <- stack <- tools, bench, tests; lwIP in
// stack/tcpip only; Asio where host sockets or a loop are, and in no installed header
// but asio_driver.h.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/structure/source_tree.h"

namespace penstock {
namespace {

const std::set<std::string, std::less<>> kOurFolders = {"relay", "publisher", "stack",      "tools",
                                                        "bench", "tests",     "third_party"};

// Folder -> our folders that its files may include. Folders not named: anything.
const std::map<std::string, std::set<std::string, std::less<>>, std::less<>> kMayInclude = {
    {"third_party", {}},
    {"relay", {"relay"}},
    {"publisher", {"publisher", "relay"}},
    {"stack", {"stack", "publisher", "relay"}},
};

// Each violation of `file` under the rules above, as a sentence.
std::vector<std::string> DirectionFaults(const SourceFile& file) {
  std::vector<std::string> faults;
  const auto rule = kMayInclude.find(file.top_folder());
  if (rule == kMayInclude.end()) return faults;
  for (const std::string& include : file.Includes()) {
    const std::string_view folder = std::string_view(include).substr(0, include.find('/'));
    if (kOurFolders.contains(folder) && !rule->second.contains(folder)) {
      faults.push_back(file.path + " must not include " + include);
    }
  }
  return faults;
}

bool MayIncludeAsio(const SourceFile& file) {
  return file.In("relay") || file.In("publisher") || file.In("third_party/asio") ||
         file.path.starts_with("stack/asio_driver.") || file.In("tools") || file.In("bench") ||
         file.In("tests");
}

bool MayIncludeLwip(const SourceFile& file) { return file.In("stack/tcpip"); }

std::vector<std::string> ForeignFaults(const SourceFile& file) {
  std::vector<std::string> faults;
  for (const std::string& include : file.Includes()) {
    const bool lwip = include.starts_with("lwip/") || include == "lwipopts.h";
    if (lwip && !MayIncludeLwip(file)) faults.push_back(file.path + " must not see lwIP");
    if (include.starts_with("boost/asio") && !MayIncludeAsio(file)) {
      faults.push_back(file.path + " must not see Asio");
    }
    if (include.find("..") != std::string::npos) {
      faults.push_back(file.path + ": include paths start at the top, not at " + include);
    }
  }
  return faults;
}

TEST(IncludeDirection, OneWayBetweenFolders) {
  for (const SourceFile& file : SourceTree()) {
    if (!file.is_cpp()) continue;
    for (const std::string& fault : DirectionFaults(file)) ADD_FAILURE() << fault;
  }
}

TEST(IncludeDirection, LwipAndAsioStayWhereTheyBelong) {
  for (const SourceFile& file : SourceTree()) {
    if (!file.is_cpp()) continue;
    for (const std::string& fault : ForeignFaults(file)) ADD_FAILURE() << fault;
  }
}

// The headers that an embedder includes, and whatever they include in turn, show the
// standard library, ours and Abseil only; asio_driver.h shows Asio, as its name says.
TEST(IncludeDirection, InstalledHeadersShowNeitherAsioNorLwip) {
  std::map<std::string, const SourceFile*, std::less<>> by_path;
  for (const SourceFile& file : SourceTree()) by_path[file.path] = &file;
  ASSERT_TRUE(by_path.contains("stack/stack.h"));

  std::set<std::string> seen;
  std::vector<std::string> open = {"stack/stack.h"};
  while (!open.empty()) {
    const std::string path = open.back();
    open.pop_back();
    if (!seen.insert(path).second) continue;
    for (const std::string& include : by_path.at(path)->Includes()) {
      EXPECT_FALSE(include.starts_with("boost/") || include.starts_with("lwip/"))
          << path << " is reached from stack/stack.h and includes " << include;
      if (by_path.contains(include)) open.push_back(include);
    }
  }
  EXPECT_GT(seen.size(), 3u) << "stack/stack.h includes nothing of ours: wrong include paths?";
}

// The rules themselves: each kind of violation is seen.
TEST(IncludeDirection, RulesFindViolations) {
  const auto faults = [](std::string path, std::string include) {
    const SourceFile file{std::move(path), {"#include " + include}};
    return DirectionFaults(file).size() + ForeignFaults(file).size();
  };
  EXPECT_EQ(faults("relay/a.cc", "\"stack/stack.h\""), 1u);
  EXPECT_EQ(faults("relay/a.cc", "\"tools/a.h\""), 1u);
  EXPECT_EQ(faults("publisher/a.cc", "\"stack/stack.h\""), 1u);
  EXPECT_EQ(faults("stack/a.cc", "\"tests/a.h\""), 1u);
  EXPECT_EQ(faults("stack/flow/a.cc", "\"lwip/tcp.h\""), 1u);
  EXPECT_EQ(faults("stack/flow/a.cc", "<boost/asio.hpp>"), 1u);
  EXPECT_EQ(faults("stack/a.cc", "\"../relay/time.h\""), 1u);
  EXPECT_EQ(faults("stack/tcpip/a.cc", "\"lwip/tcp.h\""), 0u);
  EXPECT_EQ(faults("stack/asio_driver.cc", "<boost/asio.hpp>"), 0u);
  EXPECT_EQ(faults("relay/a.cc", "\"relay/time.h\""), 0u);
  EXPECT_EQ(faults("tools/a.cc", "\"stack/stack.h\""), 0u);
}

}  // namespace
}  // namespace penstock
