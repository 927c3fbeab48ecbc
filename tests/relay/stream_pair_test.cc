// The kernel's stream pairs: what an end does that is not adopted, what descriptors there
// are, and what is told where there are none. What goes through one: framed_task_test.cc
// and tests/stack/flow/local_test.cc.
#include "relay/stream_pair.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cerrno>

#include "relay/kernel_socket.h"
#include "tests/relay/played_stack.h"
#include "tests/support/host_side.h"

namespace penstock {
namespace {

int Release(AcceptedSocket& end) { return static_cast<KernelAccepted&>(end).Release(); }

TEST(StreamPairTest, EndsAreJoinedNonBlockingAndClosedOnExec) {
  StreamPair pair = MakeStreamPair(*DefaultSocketFactory());
  ASSERT_EQ(pair.error, 0);
  const int a = Release(*pair.flow_end), b = Release(*pair.own_end);
  for (const int end : {a, b}) {
    EXPECT_NE(fcntl(end, F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_NE(fcntl(end, F_GETFL) & O_NONBLOCK, 0);
  }
  HostSocket flow(a), own(b);
  flow.Write("question");
  own.Write("answer");
  flow.Read();
  own.Read();
  EXPECT_EQ(own.received(), "question");
  EXPECT_EQ(flow.received(), "answer");
  flow.ShutdownWrite();
  own.Read();
  EXPECT_TRUE(own.ended());
  own.Write(" and more");
  flow.Read();
  EXPECT_EQ(flow.received(), "answer and more");
  EXPECT_FALSE(flow.ended());
}

TEST(StreamPairTest, AnEndThatNobodyAdoptsEndsTheOther) {
  const size_t before = OpenDescriptorCount();
  {
    StreamPair pair = MakeStreamPair(*DefaultSocketFactory());
    HostSocket flow(Release(*pair.flow_end));
    pair.own_end.reset();
    flow.Read();
    EXPECT_TRUE(flow.ended());
    EXPECT_EQ(flow.error(), 0);
  }
  {
    StreamPair pair = MakeStreamPair(*DefaultSocketFactory());
    HostSocket flow(Release(*pair.flow_end));
    flow.Write("never read");
    pair.own_end.reset();
    flow.Read();
    EXPECT_EQ(flow.error(), ECONNRESET);
  }
  EXPECT_EQ(OpenDescriptorCount(), before);
}

TEST(StreamPairTest, WithoutDescriptorsTheErrnoSaysSo) {
  // UBSan wants a descriptor when it meets a class for the first time.
  { const StreamPair first = MakeStreamPair(*DefaultSocketFactory()); }
  const size_t before = OpenDescriptorCount();
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const StreamPair pair = MakeStreamPair(*DefaultSocketFactory());
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
  EXPECT_EQ(pair.error, EMFILE);
  EXPECT_EQ(pair.flow_end, nullptr);
  EXPECT_EQ(pair.own_end, nullptr);
  EXPECT_EQ(OpenDescriptorCount(), before);
}

}  // namespace
}  // namespace penstock
