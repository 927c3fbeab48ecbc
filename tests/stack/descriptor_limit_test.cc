// Stacks in a process that runs out of descriptors: creation fails with a sentence and
// leaves nothing, and the flow limit fits what there is. Each case lowers the limit in a
// child of its own.
#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <string>

#include "stack/asio_driver.h"
#include "stack/stack.h"
#include "tests/support/memory_link.h"

namespace penstock {
namespace {

namespace asio = boost::asio;

size_t OpenDescriptors() {
  DIR* entries = opendir("/proc/self/fd");
  if (entries == nullptr) _exit(2);
  size_t count = 0;
  while (readdir(entries) != nullptr) ++count;
  closedir(entries);
  return count;
}

void SetDescriptorLimit(rlim_t limit) {
  rlimit limits{};
  if (getrlimit(RLIMIT_NOFILE, &limits) != 0) _exit(2);
  limits.rlim_cur = std::min(limit, limits.rlim_max);
  if (setrlimit(RLIMIT_NOFILE, &limits) != 0) _exit(2);
}

using Creation = std::function<absl::Status(std::unique_ptr<Link>)>;

absl::Status CreateStack(std::unique_ptr<Link> link) {
  return Stack::Create({.relay_threads = 3}, std::move(link)).status();
}
absl::Status CreateDriver(std::unique_ptr<Link> link) {
  // The context makes its descriptors when the driver comes.
  asio::io_context io(1);
  return AsioDriver::Create(io, {.relay_threads = 0}, std::move(link)).status();
}

// UBSan needs descriptors to look at a type that it has not met yet.
void MeetTypes(const Creation& create) {
  if (!create(std::make_unique<MemoryLink>()).ok()) _exit(2);
  try {
    asio::io_context io;
    asio::posix::stream_descriptor(io).assign(-1);
  } catch (const std::exception& error) {
    (void)std::string(error.what());
  }
}

// With no descriptor left, then one, then two, … until it works.
[[noreturn]] void CreateUntilItWorks(const Creation& create) {
  MeetTypes(create);
  rlimit before{};
  if (getrlimit(RLIMIT_NOFILE, &before) != 0) _exit(2);
  int refusals = 0;
  for (rlim_t extra = 0; extra < 100; ++extra) {
    const size_t used = OpenDescriptors();
    auto link = std::make_unique<MemoryLink>();
    // The lowest numbers are in use, with few gaps below this one.
    const int lowest_free = dup(0);
    close(lowest_free);
    SetDescriptorLimit(static_cast<rlim_t>(lowest_free) + extra);
    const absl::Status status = create(std::move(link));
    SetDescriptorLimit(before.rlim_cur);
    if (OpenDescriptors() != used) _exit(3);
    if (status.ok()) _exit(refusals > 3 ? 0 : 4);
    ++refusals;
    if (!absl::IsResourceExhausted(status) || status.message().size() < 20) {
      std::fprintf(stderr, "%s\n", status.ToString().c_str());
      _exit(5);
    }
  }
  _exit(6);
}

TEST(DescriptorLimitDeathTest, StackFailsCleanly) {
  EXPECT_EXIT(CreateUntilItWorks(CreateStack), testing::ExitedWithCode(0), "");
}

TEST(DescriptorLimitDeathTest, AsioDriverFailsCleanly) {
  EXPECT_EXIT(CreateUntilItWorks(CreateDriver), testing::ExitedWithCode(0), "");
}

uint32_t FlowLimit(Config config = {}) {
  return Stack::Create(std::move(config), std::make_unique<MemoryLink>())
      .value()
      ->Snapshot()
      .flow_count_max;
}

[[noreturn]] void ReportFlowLimit(rlim_t descriptors) {
  MeetTypes(CreateStack);
  SetDescriptorLimit(descriptors);
  std::fprintf(stderr, "flows: %u\n", FlowLimit());
  _exit(0);
}

// 64 descriptors stay free for everything else, and an eighth of the others for UDP.
TEST(DescriptorLimitDeathTest, TheFlowLimitFits) {
  EXPECT_EXIT(ReportFlowLimit(1'000), testing::ExitedWithCode(0), "flows: 819\n");
  EXPECT_EXIT(ReportFlowLimit(20'000), testing::ExitedWithCode(0), "flows: 16384\n");
  EXPECT_EXIT(ReportFlowLimit(100), testing::ExitedWithCode(0), "flows: 56\n");
  EXPECT_EQ(
      FlowLimit(
          {.flow_count_max = 10, .half_open_count_max = 10, .half_open_per_destination_max = 10}),
      10u);
}

}  // namespace
}  // namespace penstock
