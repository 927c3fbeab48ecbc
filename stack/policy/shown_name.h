// Which host the first bytes of a connection name: TLS by the server name of its
// ClientHello, HTTP/1 by its request. For rules with names (policy.h).
//
// Read first: RFC 8446 4.1.2 and 5.1 (ClientHello, records), RFC 6066 3 (server_name), RFC
// 9112 2 and 3 (request line, target, Host).
//
// Whoever is asked has to believe what the server behind the connection will believe, so
// everything that servers are known to read in more than one way shows no name that one
// could trust (kUnreadable), and everything that a lenient server takes for HTTP (empty
// lines in front, a method that nobody has heard of) is read as HTTP.
//
// What shows no name, TLS without a server name or any other protocol, is as far as pins
// say whom it is for. So is HTTP whose host is an address: it asks for no other host than
// the one at the address, as TLS without a name does.
//
// What this cannot see: the later requests of a connection, what is encrypted (a Host inside
// TLS, an encrypted ClientHello, whose outer name is what counts here).
//
// Pure functions without memory: the same bytes and more of them are read from their start
// again. Any thread.
#ifndef PENSTOCK_STACK_POLICY_SHOWN_NAME_H_
#define PENSTOCK_STACK_POLICY_SHOWN_NAME_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace penstock {

// So many are looked at. A ClientHello has 200 to 2,000, a request's head rarely more.
inline constexpr size_t kShownBytesMax = size_t{16} * 1024;

struct ShownName {
  enum class Kind : uint8_t {
    kNeedMore,    // cannot be told yet
    kNone,        // these bytes name nobody
    kName,        // `name`
    kUnreadable,  // malformed, HTTP/2 without TLS, longer than kShownBytesMax: not to be trusted
  };
  enum class Protocol : uint8_t { kOther, kTls, kHttp };  // as far as it can be told

  Kind kind = Kind::kNeedMore;
  Protocol protocol = Protocol::kOther;
  std::string name;  // canonical: lower case, no last dot

  friend bool operator==(const ShownName&, const ShownName&) = default;
};

// `first_bytes` are all that the guest has sent, from the first one, or kShownBytesMax of
// them at least. Never kNeedMore for so many.
[[nodiscard]] ShownName FindShownName(std::span<const uint8_t> first_bytes);
// The same for bytes in pieces, in their order.
[[nodiscard]] ShownName FindShownName(std::span<const std::span<const uint8_t>> pieces);

// Nothing more will come, or the time for it is over: kNeedMore becomes kUnreadable, or
// kNone where there was no byte at all.
[[nodiscard]] ShownName EndedName(ShownName found, size_t bytes);

}  // namespace penstock

#endif  // PENSTOCK_STACK_POLICY_SHOWN_NAME_H_
