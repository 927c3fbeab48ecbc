// The guest's questions of DNS: what the stack knows itself is answered at once, the rest
// is asked of an upstream, and what comes back from there is looked at before it is passed
// on. Poll thread only.
#ifndef PENSTOCK_STACK_DNS_DNS_SERVICE_H_
#define PENSTOCK_STACK_DNS_DNS_SERVICE_H_

#include <cstdint>
#include <span>

#include "relay/endpoint.h"
#include "relay/time.h"

namespace penstock {

// How the guest asks; its upstream is asked the same way.
enum class DnsTransport : uint8_t { kUdp, kTcp };

// Who passed a question on, and takes the answer to the guest. Each question gets exactly
// one answer, perhaps before Ask returns, unless it is forgotten before.
class DnsAsker {
 public:
  // `message` lives until this returns. Empty: nothing is to be answered (what was asked is
  // no question, or there is no room for it and the guest will repeat it).
  virtual void Answer(uint64_t token, std::span<const uint8_t> message) = 0;

 protected:
  ~DnsAsker() = default;
};

struct DnsQuery {
  std::span<const uint8_t> message;  // of any bytes; without the length of a stream
  DnsTransport transport = DnsTransport::kUdp;
  Endpoint guest;
  Endpoint asked;  // the address that the guest spoke to
  DnsAsker* asker = nullptr;
  uint64_t token = 0;  // the asker's own, another one for each question that is not answered
};

class DnsService final {
 public:
  void Ask(const DnsQuery& query, Time now);
  // No answer is wanted any more for `asker`'s question. Does nothing if it is not there.
  void Forget(DnsAsker& asker, uint64_t token);
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_DNS_DNS_SERVICE_H_
