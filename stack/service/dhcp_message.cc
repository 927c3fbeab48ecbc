// All lengths are compared with what is there before a byte is read. Any thread.
#include "stack/service/dhcp_message.h"

#include <algorithm>

#include "relay/check.h"
#include "stack/wire/reader.h"

namespace penstock {
namespace {

constexpr std::array<uint8_t, 4> kMagic{0x63, 0x82, 0x53, 0x63};
constexpr size_t kOptionsAt = DhcpMessage::kFixedBytes + kMagic.size();
constexpr uint8_t kFileHasOptions = 1, kServerNameHasOptions = 2;

// "Kind, length, data", kind 0 a byte of padding, kind 255 the end. Unlike those of IP
// (OptionWalk) the length counts the data only.
class DhcpOptionWalk final {
 public:
  explicit DhcpOptionWalk(std::span<const uint8_t> area) : rest_(area) {}

  struct Found {
    DhcpOption option;
    std::span<const uint8_t> data;
  };
  std::optional<Found> Next() {
    while (!rest_.empty() && rest_[0] == static_cast<uint8_t>(DhcpOption::kPad)) {
      rest_ = rest_.subspan(1);
    }
    if (rest_.empty() || rest_[0] == static_cast<uint8_t>(DhcpOption::kEnd)) return std::nullopt;
    if (rest_.size() < 2 || rest_[1] > rest_.size() - 2) {
      malformed_ = true;
      return std::nullopt;
    }
    const Found found{static_cast<DhcpOption>(rest_[0]), rest_.subspan(2, rest_[1])};
    rest_ = rest_.subspan(2 + found.data.size());
    return found;
  }
  [[nodiscard]] bool malformed() const { return malformed_; }

 private:
  std::span<const uint8_t> rest_;
  bool malformed_ = false;
};

// Of what is read here.
bool LengthIsRight(DhcpOption option, size_t length) {
  switch (option) {
    case DhcpOption::kOverload:
    case DhcpOption::kMessageType:
      return length == 1;
    case DhcpOption::kRequestedAddress:
    case DhcpOption::kServerId:
    case DhcpOption::kLeaseTime:
      return length == 4;
    case DhcpOption::kSizeMax:
      return length == 2;
    case DhcpOption::kClientId:
      return length >= 2;
    default:
      return true;
  }
}

std::optional<std::span<const uint8_t>> FindIn(std::span<const uint8_t> area, DhcpOption option) {
  DhcpOptionWalk walk(area);
  while (const auto found = walk.Next()) {
    if (found->option == option) return found->data;
  }
  return std::nullopt;
}

}  // namespace

std::optional<DhcpMessage> DhcpMessage::Read(std::span<const uint8_t> payload) {
  if (payload.size() < kOptionsAt) return std::nullopt;
  const DhcpMessage message(payload);
  const bool magic = std::ranges::equal(payload.subspan(kFixedBytes, kMagic.size()), kMagic);
  if (!magic || payload[2] > kHardwareAddressBytesMax || !message.OptionsAreSound()) {
    return std::nullopt;
  }
  return message;
}

std::array<std::span<const uint8_t>, 3> DhcpMessage::Areas(uint8_t overload) const {
  const auto options = bytes_.subspan(kOptionsAt), file = bytes_.subspan(108, 128),
             server_name = bytes_.subspan(44, 64);
  const std::span<const uint8_t> none;
  return {options, (overload & kFileHasOptions) != 0 ? file : none,
          (overload & kServerNameHasOptions) != 0 ? server_name : none};
}

bool DhcpMessage::OptionsAreSound() const {
  const auto overload = FindIn(bytes_.subspan(kOptionsAt), DhcpOption::kOverload);
  if (overload && (overload->size() != 1 || (*overload)[0] < 1 || (*overload)[0] > 3)) return false;
  for (const auto& area : Areas(overload ? (*overload)[0] : uint8_t{0})) {
    DhcpOptionWalk walk(area);
    while (const auto found = walk.Next()) {
      if (!LengthIsRight(found->option, found->data.size())) return false;
    }
    if (walk.malformed()) return false;
  }
  return true;
}

std::optional<std::span<const uint8_t>> DhcpMessage::Find(DhcpOption option) const {
  const auto overload = FindIn(bytes_.subspan(kOptionsAt), DhcpOption::kOverload);
  for (const auto& area : Areas(overload ? (*overload)[0] : uint8_t{0})) {
    if (const auto found = FindIn(area, option)) return found;
  }
  return std::nullopt;
}

std::optional<IpAddress> DhcpMessage::FindAddress(DhcpOption option) const {
  const auto found = Find(option);
  if (!found || found->size() < 4) return std::nullopt;
  return IpAddress::From(found->first(4));
}

std::optional<uint32_t> DhcpMessage::FindSeconds(DhcpOption option) const {
  const auto found = Find(option);
  const auto value = found ? Header<4>::At(*found) : std::nullopt;
  if (!value) return std::nullopt;
  return value->U32<0>();
}

std::optional<DhcpType> DhcpMessage::type() const {
  const auto found = Find(DhcpOption::kMessageType);
  if (!found || (*found)[0] < 1 || (*found)[0] > 8) return std::nullopt;
  return static_cast<DhcpType>((*found)[0]);
}

DhcpWriter::DhcpWriter(const DhcpFields& fields, DhcpType type) : used_(kOptionsAt) {
  PENSTOCK_CHECK(fields.transaction.size() == 4);
  PENSTOCK_CHECK(fields.hardware_address.size() <= DhcpMessage::kHardwareAddressBytesMax);
  bytes_[0] = fields.operation;
  bytes_[1] = fields.hardware_type;
  bytes_[2] = static_cast<uint8_t>(fields.hardware_address.size());
  std::ranges::copy(fields.transaction, bytes_.begin() + 4);
  if (fields.broadcast) bytes_[10] = 0x80;
  std::ranges::copy(fields.client.wire(), bytes_.begin() + 12);
  std::ranges::copy(fields.offered.wire(), bytes_.begin() + 16);
  std::ranges::copy(fields.hardware_address, bytes_.begin() + 28);
  std::ranges::copy(kMagic, bytes_.begin() + DhcpMessage::kFixedBytes);
  Put(DhcpOption::kMessageType, std::array{static_cast<uint8_t>(type)});
}

bool DhcpWriter::Put(DhcpOption option, std::span<const uint8_t> data) {
  // One byte more for the end.
  if (data.empty() || data.size() > 255 || used_ + 2 + data.size() + 1 > bytes_.size()) {
    return false;
  }
  bytes_[used_] = static_cast<uint8_t>(option);
  bytes_[used_ + 1] = static_cast<uint8_t>(data.size());
  std::ranges::copy(data, bytes_.begin() + static_cast<ptrdiff_t>(used_) + 2);
  used_ += 2 + data.size();
  return true;
}

bool DhcpWriter::PutU16(DhcpOption option, uint16_t value) {
  return Put(option, std::array{static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value)});
}

bool DhcpWriter::PutU32(DhcpOption option, uint32_t value) {
  return Put(option,
             std::array{static_cast<uint8_t>(value >> 24), static_cast<uint8_t>(value >> 16),
                        static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value)});
}

std::span<const uint8_t> DhcpWriter::Finish() {
  bytes_[used_] = static_cast<uint8_t>(DhcpOption::kEnd);
  return std::span(bytes_).first(std::max(used_ + 1, kBytesMin));
}

}  // namespace penstock
