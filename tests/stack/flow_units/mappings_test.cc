// Mappings of the guest's sockets and their conversations: who may answer, for how long, who
// gives way.
#include "stack/flow/mappings.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <utility>
#include <vector>

namespace penstock {
namespace {

using namespace std::chrono_literals;

Endpoint Guest(uint16_t port) { return {IpAddress::V4(10, 0, 2, 15), port}; }
Endpoint Host(uint32_t number, uint16_t port = 1'000) {
  return {IpAddress::V4(198, 51, static_cast<uint8_t>(number >> 8), static_cast<uint8_t>(number)),
          port};
}

class MappingsTest : public testing::Test {
 protected:
  void Make(MappingLimits limits = {}) {
    limits.timeout = 120s;
    limits.answered_timeout = 300s;
    limits.name_timeout = 30s;
    mappings_.emplace(limits);
  }
  void SetUp() override { Make(); }
  Mapping& Of(uint16_t port) {
    Mapping* found = mappings_->Find(Guest(port));
    return found != nullptr ? *found : mappings_->Add(Guest(port), now_);
  }
  void Sends(uint16_t port, const Endpoint& host) { mappings_->Sends(Of(port), host, now_); }
  bool Hears(uint16_t port, const Endpoint& host) {
    Mapping* mapping = mappings_->Find(Guest(port));
    return mapping != nullptr && mappings_->Hears(*mapping, host, now_);
  }
  // As the owner does at the beginning of each pass.
  size_t Expire() {
    size_t count = 0;
    for (; Mapping* mapping = mappings_->TakeExpired(now_); ++count) {
      gone_.push_back(mappings_->Remove(*mapping));
    }
    return count;
  }

  std::optional<Mappings> mappings_;
  std::vector<std::unique_ptr<Mapping>> gone_;
  Time now_{1h};
};

TEST_F(MappingsTest, OneForEachPortWhomeverItTalksTo) {
  Sends(5, Host(1));
  Sends(5, Host(2));
  Sends(6, Host(1));
  EXPECT_EQ(mappings_->count(), 2u);
  EXPECT_EQ(mappings_->conversation_count(), 3u);
  EXPECT_EQ(mappings_->Find(Guest(7)), nullptr);
}

TEST_F(MappingsTest, OnlyWhomItSentToMayAnswer) {
  Sends(5, Host(1));
  EXPECT_TRUE(Hears(5, Host(1)));
  EXPECT_FALSE(Hears(5, Host(1, 1'001)));
  EXPECT_FALSE(Hears(5, Host(2)));
  EXPECT_FALSE(Hears(6, Host(1)));
}

TEST_F(MappingsTest, OtherFilterings) {
  Make({.filtering = UdpFiltering::kAddress});
  Sends(5, Host(1));
  EXPECT_TRUE(Hears(5, Host(1, 1'001)));
  EXPECT_FALSE(Hears(5, Host(2)));
  Make({.filtering = UdpFiltering::kNone});
  Sends(5, Host(1));
  EXPECT_TRUE(Hears(5, Host(2, 7)));
  EXPECT_EQ(mappings_->next_expiry(), now_ + 301s);
}

TEST_F(MappingsTest, UnansweredAnsweredAndNames) {
  Sends(5, Host(1));
  EXPECT_EQ(mappings_->next_expiry(), now_ + 121s);
  now_ += 10s;
  EXPECT_TRUE(Hears(5, Host(1)));
  EXPECT_EQ(mappings_->next_expiry(), now_ + 301s);
  now_ += 299s;
  EXPECT_EQ(Expire(), 0u);
  Sends(5, Host(1));  // refreshed by this direction, too
  EXPECT_EQ(mappings_->next_expiry(), now_ + 301s);
  now_ += 300s;
  EXPECT_FALSE(Hears(5, Host(1))) << "its time is up, expired or not";
  now_ += 1s;
  EXPECT_EQ(Expire(), 1u);
  EXPECT_EQ(mappings_->conversation_count(), 0u);

  Sends(6, Host(1, 53));
  EXPECT_EQ(mappings_->next_expiry(), now_ + 31s);
  EXPECT_TRUE(Hears(6, Host(1, 53)));
  EXPECT_EQ(mappings_->next_expiry(), now_ + 31s);
}

// Each conversation is remembered for itself; the mapping as long as the last of them.
TEST_F(MappingsTest, AShortConversationBesideALongOne) {
  Sends(5, Host(1, 53));
  Sends(5, Host(2));
  EXPECT_EQ(mappings_->next_expiry(), now_ + 121s);
  now_ += 31s;
  EXPECT_FALSE(Hears(5, Host(1, 53)));
  EXPECT_TRUE(Hears(5, Host(2)));
  Sends(5, Host(1, 53));
  EXPECT_TRUE(Hears(5, Host(1, 53)));
  EXPECT_EQ(mappings_->next_expiry(), now_ + 301s) << "a name's refresh does not shorten it";
}

TEST_F(MappingsTest, TheOneUsedLeastRecentlyIsTheOldest) {
  for (uint16_t port = 1; port <= 4; ++port) Sends(port, Host(port));
  EXPECT_EQ(mappings_->oldest()->guest, Guest(1));
  now_ += 1s;
  Sends(1, Host(9));
  EXPECT_EQ(mappings_->oldest()->guest, Guest(2));
  EXPECT_TRUE(Hears(2, Host(2)));
  EXPECT_EQ(mappings_->oldest()->guest, Guest(3));
  EXPECT_FALSE(Hears(3, Host(1)));
  EXPECT_EQ(mappings_->oldest()->guest, Guest(3)) << "strangers refresh nothing";
}

TEST_F(MappingsTest, ConversationsGiveWayInTheirOrder) {
  Make({.conversation_count_max = 3});
  Sends(1, Host(1));
  Sends(1, Host(2));
  Sends(2, Host(3));
  now_ += 1s;
  Sends(1, Host(1));
  Sends(2, Host(4));
  EXPECT_EQ(mappings_->conversation_count(), 3u);
  EXPECT_FALSE(Hears(1, Host(2)));
  EXPECT_TRUE(Hears(1, Host(1)));
  EXPECT_TRUE(Hears(2, Host(3)));
}

// Against a slow model, over an hour of random traffic.
TEST_F(MappingsTest, AgreesWithAModel) {
  struct Known {
    Time until{};
    bool answered = false;
  };
  std::map<std::pair<uint16_t, uint32_t>, Known> model;
  std::mt19937 random(7);
  for (int step = 0; step < 50'000; ++step) {
    now_ += std::chrono::milliseconds(random() % 1'500);
    (void)Expire();
    const auto port = static_cast<uint16_t>(1 + random() % 20);
    const uint32_t host = random() % 10;
    Known& known = model[{port, host}];
    const bool live = known.until > now_;
    if (random() % 2 == 0) {
      Sends(port, Host(host));
      if (!live) known.answered = false;
    } else {
      ASSERT_EQ(Hears(port, Host(host)), live) << step;
      if (!live) continue;
      known.answered = true;
    }
    known.until = now_ + (known.answered ? 300s : 120s);
    std::set<uint16_t> answering, open;
    for (const auto& [who, entry] : model) {
      if (entry.until > now_) answering.insert(who.first);
      if (entry.until + 1s > now_) open.insert(who.first);
    }
    ASSERT_GE(mappings_->count(), answering.size()) << step;
    ASSERT_LE(mappings_->count(), open.size()) << step;
  }
}

}  // namespace
}  // namespace penstock
