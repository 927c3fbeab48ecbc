// DHCP for IPv4 as bytes: reading what may be anything, writing what fits. The server
// (dhcp.h) and the client of `penstock run` share it. Pure; any thread.
//
// Read first: RFC 2131 2, RFC 2132, RFC 3396 (long options; here only the first part of
// one is read).
#ifndef PENSTOCK_STACK_SERVICE_DHCP_MESSAGE_H_
#define PENSTOCK_STACK_SERVICE_DHCP_MESSAGE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "relay/endpoint.h"

namespace penstock {

inline constexpr uint16_t kDhcpServerPort = 67, kDhcpClientPort = 68;

inline constexpr uint8_t kBootRequest = 1, kBootReply = 2;

enum class DhcpType : uint8_t {
  kDiscover = 1,
  kOffer = 2,
  kRequest = 3,
  kDecline = 4,
  kAck = 5,
  kNak = 6,
  kRelease = 7,
  kInform = 8,
};

enum class DhcpOption : uint8_t {
  kPad = 0,
  kSubnetMask = 1,
  kRouter = 3,
  kDnsServer = 6,
  kHostName = 12,
  kDomainName = 15,
  kMtu = 26,
  kRequestedAddress = 50,
  kLeaseTime = 51,
  kOverload = 52,
  kMessageType = 53,
  kServerId = 54,
  kParameterList = 55,
  kSizeMax = 57,
  kRenewalTime = 58,
  kRebindingTime = 59,
  kClientId = 61,
  kSearchDomains = 119,
  kEnd = 255,
};

// A view of a message; lives as long as its bytes.
class DhcpMessage final {
 public:
  static constexpr size_t kFixedBytes = 236, kHardwareAddressBytesMax = 16;

  // nullopt unless the fixed part and the magic number are there, the hardware address is
  // no longer than its field, every option ends inside its area, and those with a fixed
  // length have it. A missing end option is no error; what is behind one is not looked at.
  [[nodiscard]] static std::optional<DhcpMessage> Read(std::span<const uint8_t> payload);

  [[nodiscard]] uint8_t operation() const { return bytes_[0]; }
  [[nodiscard]] uint8_t hardware_type() const { return bytes_[1]; }
  [[nodiscard]] std::span<const uint8_t> transaction() const { return bytes_.subspan(4, 4); }
  [[nodiscard]] bool wants_broadcast() const { return (bytes_[10] & 0x80) != 0; }
  [[nodiscard]] IpAddress client() const { return AddressAt(12); }   // ciaddr
  [[nodiscard]] IpAddress offered() const { return AddressAt(16); }  // yiaddr
  [[nodiscard]] IpAddress relay() const { return AddressAt(24); }    // giaddr
  [[nodiscard]] std::span<const uint8_t> hardware_address() const {  // 0 to 16 bytes
    return bytes_.subspan(28, bytes_[2]);
  }

  // What the first option of this kind holds; nullopt if there is none. Options stand in
  // the file and server name fields, too, if the message says so.
  [[nodiscard]] std::optional<std::span<const uint8_t>> Find(DhcpOption option) const;
  [[nodiscard]] std::optional<IpAddress> FindAddress(DhcpOption option) const;
  [[nodiscard]] std::optional<uint32_t> FindSeconds(DhcpOption option) const;
  // nullopt for BOOTP and for types that are none.
  [[nodiscard]] std::optional<DhcpType> type() const;

 private:
  explicit DhcpMessage(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  [[nodiscard]] IpAddress AddressAt(size_t at) const {
    return IpAddress::From(bytes_.subspan(at, 4));
  }
  // Where options may stand, the option field first; the others as `overload` says.
  [[nodiscard]] std::array<std::span<const uint8_t>, 3> Areas(uint8_t overload) const;
  [[nodiscard]] bool OptionsAreSound() const;

  std::span<const uint8_t> bytes_;
};

// The fixed part of a message that is written; what is not here is 0.
struct DhcpFields {
  uint8_t operation = kBootReply;
  uint8_t hardware_type = 1;
  std::span<const uint8_t> transaction;  // 4 bytes
  bool broadcast = false;
  IpAddress client;
  IpAddress offered;
  std::span<const uint8_t> hardware_address;  // up to 16 bytes
};

// Writes front to back, and never behind the smallest message that every host takes: an
// option for which there is no room is left out whole.
class DhcpWriter final {
 public:
  // With the IP and UDP header 576 bytes (RFC 2131 2).
  static constexpr size_t kBytesMax = 548;
  // What BOOTP relays and old clients want at least.
  static constexpr size_t kBytesMin = 300;

  DhcpWriter(const DhcpFields& fields, DhcpType type);

  // False if it was left out. `data` of 1 to 255 bytes.
  bool Put(DhcpOption option, std::span<const uint8_t> data);
  bool Put(DhcpOption option, const IpAddress& address) { return Put(option, address.wire()); }
  bool PutU16(DhcpOption option, uint16_t value);
  bool PutU32(DhcpOption option, uint32_t value);

  // The message; lives as long as the writer.
  [[nodiscard]] std::span<const uint8_t> Finish();

 private:
  std::array<uint8_t, kBytesMax> bytes_{};
  size_t used_ = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_SERVICE_DHCP_MESSAGE_H_
