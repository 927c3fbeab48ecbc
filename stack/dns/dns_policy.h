// What DNS asks of policy, and tells of what it did: a seam, so that DNS knows no rules,
// pins or events. Poll thread.
//
// Names are text as DnsName::ToString makes it: lower case, no dot at the end, every dot
// between two labels.
#ifndef PENSTOCK_STACK_DNS_DNS_POLICY_H_
#define PENSTOCK_STACK_DNS_DNS_POLICY_H_

#include <cstdint>
#include <string_view>

#include "relay/endpoint.h"
#include "relay/time.h"

namespace penstock {

// How the guest asks; its upstream is asked the same way.
enum class DnsTransport : uint8_t { kUdp, kTcp };

// What became of a question.
enum class DnsOutcome : uint8_t {
  kAnswered,    // by an upstream, with whatever it said
  kLocal,       // by the stack: its own names, static hosts and zones
  kNoFamily,    // with no record: the host has no way out in that family
  kDenied,      // by policy: there is no such name
  kRebinding,   // with no record: the policy denies an address that is not public
  kNoUpstream,  // by nobody
};

// "answered", "local", "no family", "denied", "rebinding", "no upstream"; in static storage.
[[nodiscard]] std::string_view Name(DnsOutcome outcome);

// A question, as far as others need to know of it. Lives for one call.
struct DnsSubject {
  std::string_view name;
  uint16_t type = 0;
  DnsTransport transport = DnsTransport::kUdp;
  Endpoint guest;
  Endpoint asked;  // whom the guest spoke to
};

class DnsPolicy {
 public:
  // May the guest ask for `name`, of which nobody knows an address yet?
  [[nodiscard]] virtual bool MayAsk(std::string_view name, Time now) = 0;
  // May it reach `name` at `address`? Asked for what is not public, and for names that the
  // stack knows itself. Has no effect.
  [[nodiscard]] virtual bool MayAnswer(std::string_view name, const IpAddress& address,
                                       Time now) = 0;
  // The guest is about to be told that `name` is at `address`. `ttl` is a second at least.
  virtual void Pin(std::string_view name, const IpAddress& address, Duration ttl, Time now) = 0;
  // Once for each question that is one, as it is answered. `refused` is the address that
  // kRebinding is about, else nullptr.
  virtual void OnOutcome(const DnsSubject& subject, DnsOutcome outcome, const IpAddress* refused,
                         Time now) = 0;

 protected:
  ~DnsPolicy() = default;
};

// Anything goes, nobody hears.
class OpenDnsPolicy final : public DnsPolicy {
 public:
  [[nodiscard]] bool MayAsk(std::string_view, Time) override { return true; }
  [[nodiscard]] bool MayAnswer(std::string_view, const IpAddress&, Time) override { return true; }
  void Pin(std::string_view, const IpAddress&, Duration, Time) override {}
  void OnOutcome(const DnsSubject&, DnsOutcome, const IpAddress*, Time) override {}
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_DNS_DNS_POLICY_H_
