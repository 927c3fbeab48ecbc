// Any bytes as what comes to the DHCP client of `penstock run`, over virtual time. Most would
// be for somebody else: on demand a message has the transaction and the hardware address of
// the client's last one.
//
// An input is messages of "time and repair, length / 4" and so many bytes.
#include <algorithm>

#include "relay/check.h"
#include "tests/support/packet_builder.h"
#include "tools/penstock/dhcp_client.h"

namespace penstock {
namespace {

class Run {
 public:
  // Seconds; whatever the client wants to say in between, it says.
  void Wait(uint32_t seconds) {
    const Time until = now_ + std::chrono::seconds(seconds);
    for (int said = 0; client_.NextDeadline() <= until && said < 64; ++said) {
      now_ = std::max(now_, client_.NextDeadline());
      Say();
    }
    now_ = until;
    Say();
  }

  void Hear(Bytes message, bool repair) {
    if (repair && message.size() >= DhcpMessage::kFixedBytes && !said_.empty()) {
      message[0] = kBootReply;
      message[2] = said_[2];
      std::copy_n(said_.begin() + 4, 4, message.begin() + 4);
      std::copy_n(said_.begin() + 28, 16, message.begin() + 28);
    }
    const std::optional<tool::DhcpLease> before = client_.lease();
    const bool changed = client_.Receive(message, now_);
    PENSTOCK_CHECK(changed || before.has_value() == client_.lease().has_value());
    PENSTOCK_CHECK(client_.lease() || !client_.idle());
    if (!client_.lease()) return;
    const tool::DhcpLease& lease = *client_.lease();
    PENSTOCK_CHECK(lease.address.is_v4() && lease.prefix_length >= 0 && lease.prefix_length <= 32);
    for (const std::string& domain : lease.search) {
      // They become a line of resolv.conf.
      PENSTOCK_CHECK(!domain.empty() &&
                     domain.find_first_of(std::string_view("\n\r\0 #;", 6)) == std::string::npos);
    }
    for (const IpAddress& server : lease.nameservers) PENSTOCK_CHECK(server.is_v4());
  }

 private:
  void Say() {
    const auto outgoing = client_.Tick(now_);
    if (!outgoing) return;
    const auto message = DhcpMessage::Read(outgoing->bytes);
    PENSTOCK_CHECK(message && message->operation() == kBootRequest && message->type().has_value());
    said_ = outgoing->bytes;
  }

  Time now_{std::chrono::hours(1)};
  tool::DhcpClient client_{kGuestMac, 7};
  Bytes said_;
};

}  // namespace
}  // namespace penstock

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  Run run;
  run.Wait(0);
  std::span<const uint8_t> rest(data, size);
  while (rest.size() >= 2) {
    const uint8_t head = rest[0];
    const size_t length = std::min(size_t{rest[1]} * 4, rest.size() - 2);
    run.Hear(Bytes(rest.begin() + 2, rest.begin() + 2 + static_cast<ptrdiff_t>(length)),
             (head & 1) != 0);
    run.Wait(uint32_t{1} << (head / 2 % 20));
    rest = rest.subspan(2 + length);
  }
  return 0;
}
