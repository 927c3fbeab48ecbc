// A conversation with the stack's TCP as text: what the guest sends, what must come
// back and when, and what the host behind the stack does. README.md is the language's
// reference; ParseScript makes steps of the text, player.h plays them.
//
// Numbers in a script are expressions over names (`mss`, `mtu`, …) whose values depend on
// the family, so a script is parsed once for each family; everything in a Script is
// plain numbers.
#ifndef PENSTOCK_TESTS_CONFORMANCE_SCRIPT_H_
#define PENSTOCK_TESTS_CONFORMANCE_SCRIPT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "relay/endpoint.h"
#include "relay/time.h"
#include "stack/config.h"
#include "stack/link/frame.h"
#include "tests/support/guest_segment.h"

namespace penstock::conformance {

// A segment as a script writes it. Sequence numbers are relative to the initial ones:
// 0 is the SYN, 1 the first byte.
struct ScriptSegment {
  uint8_t flags = 0;
  uint32_t sequence = 0;
  uint32_t payload_bytes = 0;
  uint32_t acknowledgement = 0;
  // Sent: unset is the script's default. Expected: unset is any.
  std::optional<uint16_t> window{};
  std::optional<uint16_t> mss{};
  std::optional<uint8_t> window_scale{};
  bool sack_permitted = false;
  std::vector<SackBlock> sack{};
  uint16_t gso_segment_bytes = 0;  // 0: no super-segment

  // Of segments that are sent only.
  uint16_t urgent_pointer = 0;
  std::vector<uint8_t> raw_options{};  // behind the options above
  bool junk = false;                   // other bytes than the stream has there
};

// "SA 0:0(0) ack 1 win 65535 <mss 1460,sackOK>", as a script would write it.
[[nodiscard]] std::string ToString(const ScriptSegment& segment);

// ICMP errors by what they mean; types and codes are the family's.
enum class IcmpError : uint8_t { kTooBig, kPort, kHost, kNetwork, kProhibited };

struct Send {
  ScriptSegment segment;
  bool with_next = false;  // on the link together with the next one, for the same pass
};
struct Expect {
  ScriptSegment segment;
};
// About a segment of the stack's with this sequence number; `mtu` of kTooBig.
struct SendIcmp {
  IcmpError error = IcmpError::kTooBig;
  uint32_t mtu = 0;
  uint32_t sequence = 0;
};
// About the guest's SYN.
struct ExpectIcmp {
  IcmpError error = IcmpError::kHost;
};
// Nothing has left, and nothing does while this time goes by.
struct ExpectNothing {
  Duration during{};
};
// SYN with these options, the host accepts, SYN-ACK, ACK.
struct Connect {
  ScriptSegment syn;
};
// The guest begins anew on the same ports, with an initial sequence number that is so
// much higher. Relative numbers start again.
struct Again {
  uint32_t sequence_step = 0;
};

enum class HostVerb : uint8_t {
  // The answer to the dial that waits, or to the next ones.
  kAccept,
  kRefuse,
  kUnreachable,
  kSilent,
  kSlow,  // accepts after `delay`
  // The connection.
  kWrite,  // `count` bytes
  kRead,   // `count` bytes, which must be there
  kStopReading,
  kReadOn,  // takes everything again, as at the beginning
  kBuffer,  // of the socket, between stack and reader: `count` bytes
  kFin,
  kClose,
  kReset,
  // What it saw since it was last asked.
  kGot,  // `count` bytes
  kSawEof,
  kSawReset,
};
struct HostStep {
  HostVerb verb = HostVerb::kAccept;
  uint32_t count = 0;
  Duration delay{};
};

using Action =
    std::variant<Send, Expect, SendIcmp, ExpectIcmp, ExpectNothing, Connect, Again, HostStep>;

// When a step happens, counted from the step before it. An expected segment may come
// at any time between; everything else has earliest == latest.
struct When {
  Duration earliest{};
  Duration latest{};
};

struct Step {
  int line = 0;
  std::string text;  // the line, for messages
  When when;
  Action action;
};

struct Section {
  int rfc = 0;
  std::string number;  // "3.10.7.4"

  friend auto operator<=>(const Section&, const Section&) = default;
};

struct Script {
  std::string name;  // the file's, for messages
  Family family = Family::kIpv4;
  std::vector<Section> sections;
  std::string deviation;  // the sentence, if the script shows one

  Config config;
  bool offload = false;
  uint16_t window = 65'535;  // of the guest's segments that name none
  uint32_t guest_isn = 0xffff'fe00;
  // Unset: whatever it comes to be.
  std::optional<uint32_t> stack_isn{};

  std::vector<Step> steps;
};

// Throws ScriptError "name:line:column: what is wrong".
[[nodiscard]] Script ParseScript(std::string_view name, std::string_view text, Family family);

}  // namespace penstock::conformance

#endif  // PENSTOCK_TESTS_CONFORMANCE_SCRIPT_H_
