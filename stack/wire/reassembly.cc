// Each fragment is first held against itself, then against the parts that came before;
// only what agrees with all of them is copied. Poll thread.
#include "stack/wire/reassembly.h"

#include <algorithm>
#include <array>
#include <utility>

#include "stack/wire/emit.h"
#include "stack/wire/ip.h"
#include "stack/wire/protocols.h"
#include "stack/wire/writer.h"

namespace penstock {
namespace {

using Drop = std::optional<DropCause>;

// Before the parts, in each buffer: IPv4's header with all its options has 60 bytes.
constexpr size_t kHeaderRoom = kIpv6HeaderBytes + kExtensionBytesBeforeFragmentMax;
static_assert(kHeaderRoom >= 60 && kHeaderRoom + kIpPacketBytesMax <= kFrameBytesMax);

// Bytes of the datagram behind its IP headers.
struct Piece {
  uint32_t begin;
  uint32_t end;

  bool operator==(const Piece&) const = default;
};

Piece PieceOf(const Fragment& fragment) {
  const uint32_t begin = fragment.position.offset;
  return {begin, begin + static_cast<uint32_t>(fragment.payload.size())};
}

// What headers add to the length field: of IPv6 the extension headers alone.
uint32_t CountedHeaderBytes(const Fragment& fragment, uint32_t header_bytes) {
  return fragment.source.is_v4() ? header_bytes : header_bytes - uint32_t{kIpv6HeaderBytes};
}

// Bytes that the header of a transport protocol has at least.
size_t TransportHeaderBytes(uint8_t protocol) {
  switch (protocol) {
    case kIpProtocolTcp:
      return kTcpHeaderBytes;
    case kIpProtocolUdp:
      return kUdpHeaderBytes;
    case kIpProtocolIcmpv6:
      return kIcmpHeaderBytes;
    default:
      return 0;
  }
}

// RFC 7112: all headers stand in IPv6's first fragment.
Drop CheckFirstFragment(const Fragment& fragment) {
  if (fragment.source.is_v4() || fragment.position.offset != 0) return std::nullopt;
  const ExtensionWalk walk = WalkExtensions(fragment.protocol, fragment.payload);
  if (walk.drop) return walk.drop;
  const size_t left = fragment.payload.size() - walk.header_bytes;
  return left < TransportHeaderBytes(walk.protocol) ? Drop(DropCause::kFragmentMalformed) : Drop();
}

Drop CheckAlone(const Fragment& fragment) {
  const size_t bytes = fragment.payload.size();
  if (bytes == 0 || (fragment.position.more && bytes % 8 != 0)) {
    return DropCause::kFragmentMalformed;
  }
  return CheckFirstFragment(fragment);
}

// Where the header that names the datagram's transport protocol does so. `headers` is an
// IPv6 header and whole extension headers.
size_t NextHeaderAt(std::span<const uint8_t> headers) {
  size_t at = 6;
  for (size_t next = kIpv6HeaderBytes; next < headers.size();) {
    at = next;
    next += (size_t{headers[next + 1]} + 1) * 8;
  }
  return at;
}

// The first fragment's headers, as they would be had nobody cut the datagram.
void MendHeaders(std::span<uint8_t> headers, uint32_t payload_bytes, uint8_t protocol) {
  const auto put16 = [&](size_t at, size_t value) {
    Writer(headers.subspan(at, 2)).U16(static_cast<uint16_t>(value));
  };
  if (headers[0] >> 4 == 4) {
    put16(2, headers.size() + payload_bytes);
    put16(6, 0);   // flags and offset
    put16(10, 0);  // checksum
    put16(10, ChecksumFinish(ChecksumAdd(headers, 0)));
  } else {
    put16(4, headers.size() - kIpv6HeaderBytes + payload_bytes);
    headers[NextHeaderAt(headers)] = protocol;
  }
}

}  // namespace

struct Reassembly::Set {
  // What tells datagrams apart. The protocol is a part of it for IPv4 alone.
  IpAddress source;
  IpAddress destination;
  uint32_t identification = 0;
  uint8_t protocol = 0;

  Time expires{};
  Drop refused = std::nullopt;    // set: no buffer, no pieces; it only swallows
  GuestBuffer* buffer = nullptr;  // the datagram's first byte is at kHeaderRoom
  uint32_t header_bytes = 0;      // 0 until the first fragment came
  uint32_t total_bytes = 0;       // 0 until the last fragment came
  uint32_t end_bytes = 0;         // of the piece that lies farthest
  uint32_t received_bytes = 0;    // of all pieces
  uint32_t piece_count = 0;       // frames held
  std::array<Piece, kFragmentsPerSetMax> pieces;

  [[nodiscard]] bool complete() const { return total_bytes != 0 && received_bytes == total_bytes; }
  [[nodiscard]] uint8_t* payload() const { return buffer->data + kHeaderRoom; }

  // Against what came before: nothing is wrong, or what is. kFragmentDuplicate: it is
  // here already.
  [[nodiscard]] Drop Check(const Fragment& fragment) const;
  // The set that the fragment would make agrees with what its length fields can say.
  [[nodiscard]] bool Fits(const Fragment& fragment, uint32_t end) const;
};

Drop Reassembly::Set::Check(const Fragment& fragment) const {
  const Piece piece = PieceOf(fragment);
  const bool last = !fragment.position.more;
  for (const Piece& other : std::span(pieces).first(piece_count)) {
    if (piece == other && last == (piece.end == total_bytes) &&
        std::equal(fragment.payload.begin(), fragment.payload.end(), payload() + piece.begin)) {
      return DropCause::kFragmentDuplicate;
    }
    if (piece.begin < other.end && other.begin < piece.end) return DropCause::kFragmentOverlap;
  }
  if (!Fits(fragment, std::max(end_bytes, piece.end))) return DropCause::kFragmentOversized;
  // Where the datagram ends is said once, and nothing lies behind.
  const bool contradicts_end = last ? total_bytes != 0 || piece.end < end_bytes
                                    : total_bytes != 0 && piece.end > total_bytes;
  if (contradicts_end) return DropCause::kFragmentMalformed;
  if (piece_count == kFragmentsPerSetMax) return DropCause::kFragmentLimit;
  return std::nullopt;
}

bool Reassembly::Set::Fits(const Fragment& fragment, uint32_t end) const {
  // The header that counts is the first fragment's; until it is here, any other's is less.
  const bool first = fragment.position.offset == 0;
  const auto own = static_cast<uint32_t>(fragment.headers.size());
  const uint32_t header = first || header_bytes == 0 ? own : header_bytes;
  return CountedHeaderBytes(fragment, header) + end <= kIpPacketBytesMax;
}

Reassembly::Reassembly(GuestBufferPool& pool, Counters& counters)
    : pool_(pool), counters_(counters) {}

Reassembly::~Reassembly() {
  while (!sets_.empty()) End(*sets_.back(), DropCause::kShutdown);
}

std::optional<Reassembly::Datagram> Reassembly::Add(const Fragment& fragment, Time now) {
  Expire(now);
  Set* set = Find(fragment);
  if (set == nullptr) set = Begin(fragment, now);
  if (set == nullptr) {
    counters_.Drop(DropCause::kNoBuffer);
    return std::nullopt;
  }
  if (set->refused) {
    counters_.Drop(*set->refused);
    return std::nullopt;
  }
  Drop drop = CheckAlone(fragment);
  if (!drop) drop = set->Check(fragment);
  if (drop) {
    counters_.Drop(*drop);
    if (*drop != DropCause::kFragmentDuplicate) Refuse(*set, *drop);
    return std::nullopt;
  }
  Store(*set, fragment);
  if (!set->complete()) return std::nullopt;
  return Finish(*set);
}

Reassembly::Set* Reassembly::Find(const Fragment& fragment) {
  const auto found = std::ranges::find_if(sets_, [&](const auto& set) {
    return set->identification == fragment.identification && set->source == fragment.source &&
           set->destination == fragment.destination &&
           (fragment.source.is_v6() || set->protocol == fragment.protocol);
  });
  return found == sets_.end() ? nullptr : found->get();
}

Reassembly::Set* Reassembly::Begin(const Fragment& fragment, Time now) {
  if (sets_.size() == kSetsMax) End(*sets_.front(), DropCause::kFragmentLimit);
  GuestBuffer* buffer = pool_.Take(kFrameBytesMax);
  if (buffer == nullptr) return nullptr;
  if (spare_.empty()) spare_.push_back(std::make_unique<Set>());
  sets_.push_back(std::move(spare_.back()));
  spare_.pop_back();
  Set& set = *sets_.back();
  set.source = fragment.source;
  set.destination = fragment.destination;
  set.identification = fragment.identification;
  set.protocol = fragment.protocol;
  set.expires = now + kLifetime;
  set.refused.reset();
  set.buffer = buffer;
  set.header_bytes = set.total_bytes = set.end_bytes = set.received_bytes = set.piece_count = 0;
  return &set;
}

void Reassembly::Store(Set& set, const Fragment& fragment) {
  const Piece piece = PieceOf(fragment);
  std::copy(fragment.payload.begin(), fragment.payload.end(), set.payload() + piece.begin);
  if (piece.begin == 0) {
    set.header_bytes = static_cast<uint32_t>(fragment.headers.size());
    set.protocol = fragment.protocol;
    std::ranges::copy(fragment.headers, set.payload() - set.header_bytes);
  }
  if (!fragment.position.more) set.total_bytes = piece.end;
  set.end_bytes = std::max(set.end_bytes, piece.end);
  set.received_bytes += piece.end - piece.begin;
  set.pieces[set.piece_count++] = piece;
  counters_.fragments_held.Add(1);
}

// The pieces do not overlap, none lies behind the end, and together they are as long as
// the whole: so the first one is among them, and with it the headers.
Reassembly::Datagram Reassembly::Finish(Set& set) {
  const std::span<uint8_t> bytes{set.payload() - set.header_bytes,
                                 set.header_bytes + set.total_bytes};
  MendHeaders(bytes.first(set.header_bytes), set.total_bytes, set.protocol);
  const Datagram datagram{std::exchange(set.buffer, nullptr), bytes, set.piece_count};
  counters_.fragments_held.Set(counters_.fragments_held.value() - set.piece_count);
  Forget(set);
  return datagram;
}

void Reassembly::Refuse(Set& set, DropCause cause) {
  DropHeld(set, cause);
  set.refused = cause;
}

void Reassembly::End(Set& set, DropCause cause) {
  DropHeld(set, cause);
  Forget(set);
}

void Reassembly::DropHeld(Set& set, DropCause cause) {
  counters_.Drop(cause, set.piece_count);
  counters_.fragments_held.Set(counters_.fragments_held.value() - set.piece_count);
  set.piece_count = 0;
  if (set.buffer != nullptr) pool_.Give(set.buffer);
  set.buffer = nullptr;
}

void Reassembly::Forget(Set& set) {
  const auto found =
      std::ranges::find_if(sets_, [&](const auto& other) { return other.get() == &set; });
  spare_.push_back(std::move(*found));
  sets_.erase(found);
}

void Reassembly::Expire(Time now) {
  while (!sets_.empty() && sets_.front()->expires <= now) {
    End(*sets_.front(), DropCause::kFragmentTimeout);
  }
}

Time Reassembly::NextDeadline() const { return sets_.empty() ? kNever : sets_.front()->expires; }

uint64_t Reassembly::bytes_held() const {
  uint64_t bytes = 0;
  for (const auto& set : sets_) bytes += set->buffer != nullptr ? set->buffer->capacity : 0;
  return bytes;
}

}  // namespace penstock
