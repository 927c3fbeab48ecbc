// RFC 8446 4.1.2, 4.2, 5.1; RFC 6066 3. What is checked is what decides where the name
// stands; that the server will refuse the rest is its business.
#include "stack/policy/shown_tls.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "relay/endpoint.h"
#include "stack/policy/canonical_name.h"
#include "stack/wire/reader.h"

namespace penstock {
namespace {

using Bytes = std::span<const uint8_t>;
using ShownKind = ShownName::Kind;

constexpr uint8_t kHandshake = 22, kMajorVersion = 3;
constexpr size_t kRecordHeaderBytes = 5, kHandshakeHeaderBytes = 4;
constexpr size_t kFragmentBytesMax = 16'384;
constexpr uint8_t kClientHello = 1;
constexpr size_t kVersionAndRandomBytes = 2 + 32;
constexpr uint16_t kServerName = 0;
constexpr uint8_t kHostName = 0;

ShownName TlsShows(ShownKind kind, std::string name = {}) {
  return {.kind = kind, .protocol = ShownName::Protocol::kTls, .name = std::move(name)};
}

// Takes the front of `rest`; nullopt if it is not there.
std::optional<Bytes> Take(Bytes& rest, size_t count) {
  if (rest.size() < count) return std::nullopt;
  const Bytes front = rest.first(count);
  rest = rest.subspan(count);
  return front;
}

// A vector of RFC 8446 3.4: `kLengthBytes` say how many bytes follow.
template <size_t kLengthBytes>
std::optional<Bytes> TakeVector(Bytes& rest) {
  const auto length = Take(rest, kLengthBytes);
  if (!length) return std::nullopt;
  size_t count = 0;
  for (const uint8_t byte : *length) count = count << 8 | byte;
  return Take(rest, count);
}

std::optional<uint16_t> TakeU16(Bytes& rest) {
  const auto bytes = Take(rest, 2);
  if (!bytes) return std::nullopt;
  return Header<2>::At(*bytes)->U16<0>();
}

// The content of server_name. One name of one kind: a list of several is read in more than
// one way, and no other kind has been defined.
ShownName FromServerName(Bytes extension) {
  const auto list = TakeVector<2>(extension);
  if (!list || !extension.empty()) return TlsShows(ShownKind::kUnreadable);
  Bytes rest = *list;
  const auto type = Take(rest, 1);
  if (!type || (*type)[0] != kHostName) return TlsShows(ShownKind::kUnreadable);
  const auto host = TakeVector<2>(rest);
  if (!host || !rest.empty()) return TlsShows(ShownKind::kUnreadable);
  const std::string_view text(reinterpret_cast<const char*>(host->data()), host->size());
  std::optional<std::string> name = CanonicalName(text);
  // "Literal IPv4 and IPv6 addresses are not permitted."
  if (!name || LooksLikeIpv4(*name)) return TlsShows(ShownKind::kUnreadable);
  return TlsShows(ShownKind::kName, *std::move(name));
}

// All extensions; more than one server_name is forbidden (RFC 8446 4.2).
ShownName FromExtensions(Bytes extensions) {
  std::optional<Bytes> server_name;
  while (!extensions.empty()) {
    const auto type = TakeU16(extensions);
    const auto content = TakeVector<2>(extensions);
    if (!type || !content) return TlsShows(ShownKind::kUnreadable);
    if (*type != kServerName) continue;
    if (server_name) return TlsShows(ShownKind::kUnreadable);
    server_name = *content;
  }
  return server_name ? FromServerName(*server_name) : TlsShows(ShownKind::kNone);
}

// The body of a ClientHello.
ShownName FromHello(Bytes hello) {
  const bool has_front = Take(hello, kVersionAndRandomBytes) && TakeVector<1>(hello) &&
                         TakeVector<2>(hello) && TakeVector<1>(hello);
  if (!has_front) return TlsShows(ShownKind::kUnreadable);
  if (hello.empty()) return TlsShows(ShownKind::kNone);  // TLS 1.2 may end here
  const auto extensions = TakeVector<2>(hello);
  if (!extensions || !hello.empty()) return TlsShows(ShownKind::kUnreadable);
  return FromExtensions(*extensions);
}

// How long the ClientHello is of which `handshake` is the front, header included; nullopt
// while that is not known. `is_other`: it is none, or longer than what is looked at.
std::optional<size_t> HelloBytes(Bytes handshake, bool& is_other) {
  is_other = !handshake.empty() && handshake[0] != kClientHello;
  const auto header = Header<kHandshakeHeaderBytes>::At(handshake);
  if (!header) return std::nullopt;
  const size_t bytes = kHandshakeHeaderBytes + (header->U32<0>() & 0xffffff);
  is_other = is_other || bytes + kRecordHeaderBytes > kShownBytesMax;
  return bytes;
}

}  // namespace

bool MayBeTls(Bytes bytes) {
  return bytes[0] == kHandshake && (bytes.size() < 2 || bytes[1] == kMajorVersion);
}

ShownName ShownByTls(Bytes bytes) {
  std::vector<uint8_t> handshake;  // what the records hold, in one piece
  while (bytes.size() >= kRecordHeaderBytes) {
    const auto header = Header<kRecordHeaderBytes>::At(bytes);
    const size_t length = header->U16<3>();
    if (header->U8<0>() != kHandshake || header->U8<1>() != kMajorVersion || length == 0 ||
        length > kFragmentBytesMax) {
      return TlsShows(ShownKind::kUnreadable);
    }
    bytes = bytes.subspan(kRecordHeaderBytes);
    const Bytes fragment = bytes.first(std::min(length, bytes.size()));
    bytes = bytes.subspan(fragment.size());
    handshake.insert(handshake.end(), fragment.begin(), fragment.end());
    bool is_other = false;
    const std::optional<size_t> hello = HelloBytes(handshake, is_other);
    if (is_other) return TlsShows(ShownKind::kUnreadable);
    if (hello && handshake.size() >= *hello) {
      return FromHello(
          Bytes(handshake).subspan(kHandshakeHeaderBytes, *hello - kHandshakeHeaderBytes));
    }
    if (fragment.size() < length) break;
  }
  // The front of the next record's header: nothing but a handshake may be there.
  if (!bytes.empty() && bytes[0] != kHandshake) return TlsShows(ShownKind::kUnreadable);
  return TlsShows(ShownKind::kNeedMore);
}

}  // namespace penstock
