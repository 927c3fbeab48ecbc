// Questions of DNS that the guest asks by UDP, and their answers as datagrams from the
// address that was asked. Who asks again what is not answered yet (the same bytes, from
// the same port, to the same address) is answered once. Poll thread only.
#ifndef PENSTOCK_STACK_DNS_DNS_DATAGRAMS_H_
#define PENSTOCK_STACK_DNS_DNS_DATAGRAMS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/container/flat_hash_map.h"
#include "stack/counters.h"
#include "stack/dns/dns_service.h"
#include "stack/flow/datagrams_to_guest.h"
#include "stack/tcpip/siphash.h"
#include "stack/wire/packet.h"

namespace penstock {

class DnsDatagrams final : public DnsAsker {
 public:
  // All outlive this.
  DnsDatagrams(DnsService& service, DatagramsToGuest& to_guest, Counters& counters)
      : service_(service), to_guest_(to_guest), counters_(counters) {}
  DnsDatagrams(const DnsDatagrams&) = delete;
  DnsDatagrams& operator=(const DnsDatagrams&) = delete;

  // A UDP packet to port 53. Counts it.
  void FromGuest(const Packet& packet, Time now);

 private:
  struct Ends {
    Endpoint guest;
    Endpoint asked;
  };
  void Answer(uint64_t token, std::span<const uint8_t> message) override;
  void AskOne(const Ends& ends, std::span<const uint8_t> message, Time now);
  [[nodiscard]] uint64_t TokenOf(const Ends& ends, std::span<const uint8_t> message) const;

  DnsService& service_;
  DatagramsToGuest& to_guest_;
  Counters& counters_;
  // A token is a keyed hash of who asks whom what: the same again is known by it, and
  // nobody can make two that are the same.
  const SipKey key_ = RandomSipKey();
  absl::flat_hash_map<uint64_t, Ends> asked_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_DNS_DNS_DATAGRAMS_H_
