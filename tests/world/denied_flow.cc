// What the policy of a world says, and flows that it denies: the part of WorldFlow that
// knows whom it denies, when, and what both ends must then have seen.
//
// Three ways to be denied: at the SYN, by a rule for the flow's port (answer 5, or deny_later
// once the second policy is there); by the name that the guest's first bytes show (`says`);
// and in the middle, when the second policy comes.
#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "publisher/proxy_header.h"
#include "tests/world/world_flow.h"

namespace penstock::world {
namespace {

using std::chrono::milliseconds;

constexpr uint16_t kHttpPort = 80;
// A request that is written in so much time is read within the 5 s that a guest has.
constexpr Duration kPrompt = std::chrono::seconds(3);

std::string Rule(const Scenario& scenario, size_t index) {
  const FlowScript& flow = scenario.flows[index];
  Endpoint who = DestinationOf(scenario, index);
  if (flow.inbound != 0) who.address = ClientAddressOf(flow);
  return absl::StrCat("deny ", flow.inbound != 0 ? "ingress " : "egress ", who.ToString(),
                      "/tcp\n");
}

}  // namespace

Endpoint DestinationOf(const Scenario& scenario, size_t index) {
  const FlowScript& flow = scenario.flows[index];
  const bool page = flow.answer == kDeniedByPolicy && flow.inbound == 0 &&
                    static_cast<DenialAnswer>(scenario.denial_answer) == DenialAnswer::kPage;
  return {
      .address = flow.ipv6 != 0 ? *IpAddress::Parse("2001:db8::80") : IpAddress::V4(192, 0, 2, 80),
      .port = page ? kHttpPort : static_cast<uint16_t>(kFirstPort + index)};
}

std::string PolicyText(const Scenario& scenario, bool second) {
  std::string text;
  if (scenario.policy != 0) text = "deny egress ads.test\n";
  for (size_t i = 0; i < scenario.flows.size(); ++i) {
    const FlowScript& flow = scenario.flows[i];
    const bool later = second && flow.deny_later != 0;
    if (flow.answer == kDeniedByPolicy || later) text += Rule(scenario, i);
  }
  if (text.empty()) return text;
  // The host's loopback is there for the guest's datagrams, as without a policy.
  return absl::StrCat(text, "default egress allow\n");
}

std::string WorldFlow::GuestSaysFirst() const {
  if (script_.says != 0) {
    return absl::StrCat("GET / HTTP/1.1\r\nHost: ", script_.says == 1 ? "www" : "ads",
                        ".test\r\n\r\n");
  }
  return looked_at_ ? "\xfd" : "";  // neither TLS nor HTTP
}

bool WorldFlow::HostBroke() const {
  return std::any_of(ends_.begin(), ends_.end(),
                     [](const HostEnd& end) { return end.talker->reset() || end.talker->left(); });
}

bool WorldFlow::HostSawReset() const {
  return std::any_of(ends_.begin(), ends_.end(),
                     [](const HostEnd& end) { return end.peer->saw_reset(); });
}

bool WorldFlow::GuestBroke() const { return guest_talker_->reset() || guest_talker_->left(); }

bool WorldFlow::GuestIsThrough() const {
  return guest_talker_->finished() && guest_talker_->at_end();
}

// ---------------------------------------------------------------- at the SYN

bool WorldFlow::DeniedAtOnce(const LinkFacts& facts) const {
  return script_.answer == kDeniedByPolicy ||
         (script_.deny_later != 0 && connects_at_ > facts.second_policy_at);
}

std::string WorldFlow::VerifyDenied(const LinkFacts& facts) const {
  if (inbound()) return VerifyDeniedClient(facts);
  if (!ends_.empty()) return "the host was dialled for what the policy denies";
  const int error = connection_->error();
  if (connection_->connected()) {
    if (destination_.port != kHttpPort) return "connected to what the policy denies";
    if (GuestBroke()) return "";
    if (!page_.empty()) return VerifyPage();
    const bool prompt = facts.good && script_.guest_write_ms == 0;
    if (script_.says != 0 && SaysAll() && prompt) return "a denied request got no page";
    return error != 0 || facts.lossy ? "" : "denied, and the guest was not told";
  }
  if (denial_answer_ == DenialAnswer::kSilence) {
    const bool told = error == ECONNREFUSED || error == ECONNRESET;
    return told ? "what is denied in silence was told to the guest" : "";
  }
  return error == ECONNREFUSED || !facts.good ? "" : "denied, and the guest was not refused";
}

std::string WorldFlow::VerifyDeniedClient(const LinkFacts& facts) const {
  if (connection_ != nullptr) return "the guest has seen a client that the policy denies";
  if (ends_.empty()) return facts.unpublished ? "" : "nobody listened to a published port";
  const bool told = HostBroke() || ends_.front().peer->saw_reset();
  return told ? "" : "a client that the policy denies was not reset";
}

// ---------------------------------------------------------------- by its name

bool WorldFlow::SaysAll() const {
  const auto most = static_cast<uint64_t>(script_.guest_bytes);
  return GuestSaysFirst().size() <= (GuestBroke() ? guest_talker_->sent() : most);
}

bool WorldFlow::MayBeDeniedByName(const LinkFacts& facts) const {
  if (!looked_at_ || script_.says == 0) return false;
  if (script_.says == 2 || !SaysAll() || !facts.good) return true;
  const auto writes =
      static_cast<int64_t>(GuestSaysFirst().size()) / std::max<int64_t>(script_.guest_write, 1) + 1;
  return milliseconds(writes * script_.guest_write_ms) > kPrompt;
}

// The host says nothing and does not end before the guest does: no byte may come through.
bool WorldFlow::MustBeDeniedByName() const {
  return looked_at_ && script_.says == 2 && script_.host_bytes == 0 && script_.host_end == 2;
}

bool WorldFlow::HostHadBytes() const {
  return std::any_of(ends_.begin(), ends_.end(),
                     [](const HostEnd& end) { return end.peer->bytes_written() > 0; });
}

// All or nothing: the host had no byte.
std::string WorldFlow::VerifyDeniedByName(const LinkFacts& facts) const {
  if (guest_talker_->sent() == 0) return GuestBroke() || HostBroke() ? "" : VerifyWhole(facts);
  if (GuestBroke()) return "";
  const bool reset = std::any_of(ends_.begin(), ends_.end(),
                                 [](const HostEnd& end) { return end.peer->saw_reset(); });
  if (!reset && !HostBroke()) return "denied by its name, and the host was not reset";
  if (!page_.empty()) return VerifyPage();
  // The host had said its end, and the last bytes came with the guest's: nothing is left to
  // reset.
  if (connection_->error() != 0 || HostBroke() || facts.lossy || GuestIsThrough()) return "";
  return "denied by its name, and the guest was not told";
}

// A page that the guest read to its end is whole.
std::string WorldFlow::VerifyPage() const {
  if (!page_.starts_with("HTTP/1.1 403 Forbidden\r\n")) {
    return absl::StrCat("what the guest read is no page: ", page_);
  }
  const size_t head = page_.find("\r\n\r\n");
  const size_t body = head == std::string::npos ? 0 : page_.size() - head - 4;
  const bool whole =
      page_.find(absl::StrCat("Content-Length: ", body, "\r\n")) != std::string::npos;
  return whole || !guest_talker_->at_end() ? "" : "the guest read a part of a page";
}

// ---------------------------------------------------------------- in the middle

std::string WorldFlow::VerifyCutByPolicy(const LinkFacts& facts) const {
  if (!ends_.empty() && !HostBroke()) {
    const HostPeer& peer = *ends_.back().peer;
    if (peer.connected() && !peer.saw_reset()) return "cut by a policy, and the host was not reset";
  }
  if (connection_ == nullptr || GuestBroke() || gave_up_ || facts.lossy) return "";
  const bool told = connection_->error() != 0 || GuestIsThrough();
  return told ? "" : "cut by a policy, and the guest was not reset";
}

// ---------------------------------------------------------------- what was told of it

// Nothing was lost, and all of it arrived: then its last event says so.
std::string WorldFlow::VerifyEvents() const {
  const bool header = inbound() && script_.identity == 2;
  const size_t header_bytes = header ? ProxyHeader(PortProtocol::kTcp, client_, bound_).size() : 0;
  const auto to_host = static_cast<uint64_t>(script_.guest_bytes);
  const auto to_guest = static_cast<uint64_t>(script_.host_bytes) + header_bytes;
  const bool told =
      std::any_of(closed_events_.begin(), closed_events_.end(), [&](const Event& event) {
        return event.reason == "closed" && event.bytes_to_host == to_host &&
               event.bytes_to_guest == to_guest;
      });
  return told ? "" : "no event says that it ended, or of how many bytes";
}

}  // namespace penstock::world
