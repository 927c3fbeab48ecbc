// The grammar, one function for each kind of line.
#include "tests/conformance/script.h"

#include <chrono>
#include <functional>
#include <map>
#include <utility>

#include "stack/wire/packet.h"
#include "tests/conformance/line_parser.h"

namespace penstock::conformance {
namespace {

constexpr int64_t kAny16 = 65'535;
constexpr int64_t kAny31 = 0x7fff'ffff;
constexpr size_t kOptionBytesMax = 40, kSackBlocksMax = 4;

struct FlagLetter {
  char letter;
  uint8_t flag;
};
// In the order of ToString.
constexpr FlagLetter kFlagLetters[] = {{'S', kTcpSyn}, {'F', kTcpFin}, {'R', kTcpRst},
                                       {'P', kTcpPsh}, {'U', kTcpUrg}, {'E', kTcpEce},
                                       {'W', kTcpCwr}, {'A', kTcpAck}};
constexpr std::string_view kFlagAlphabet = "SFRPUEWA.-";

std::string FlagsOf(uint8_t flags) {
  if (flags == 0) return "-";
  if (flags == kTcpAck) return ".";
  std::string text;
  for (const auto& [letter, flag] : kFlagLetters) {
    if ((flags & flag) != 0) text += letter;
  }
  return text;
}

std::string OptionsOf(const ScriptSegment& segment) {
  std::string text;
  const auto add = [&](const std::string& option) { text += (text.empty() ? "" : ",") + option; };
  if (segment.mss) add("mss " + std::to_string(*segment.mss));
  if (segment.sack_permitted) add("sackOK");
  if (segment.window_scale) add("wscale " + std::to_string(*segment.window_scale));
  if (!segment.sack.empty()) {
    std::string blocks = "sack";
    for (const SackBlock& block : segment.sack) {
      blocks += ' ' + std::to_string(static_cast<int32_t>(block.begin)) + ':' +
                std::to_string(static_cast<int32_t>(block.end));
    }
    add(blocks);
  }
  if (!segment.raw_options.empty()) add("raw ...");
  return text.empty() ? text : " <" + text + ">";
}

}  // namespace

std::string ToString(const ScriptSegment& segment) {
  // Numbers before the initial one read better as negative ones.
  const auto relative = [](uint32_t number) {
    return std::to_string(static_cast<int32_t>(number));
  };
  std::string text = FlagsOf(segment.flags) + ' ' + relative(segment.sequence) + ':' +
                     relative(segment.sequence + segment.payload_bytes) + '(' +
                     std::to_string(segment.payload_bytes) + ')';
  if ((segment.flags & kTcpAck) != 0) text += " ack " + relative(segment.acknowledgement);
  if (segment.window) text += " win " + std::to_string(*segment.window);
  if (segment.urgent_pointer != 0) text += " urg " + std::to_string(segment.urgent_pointer);
  text += OptionsOf(segment);
  if (segment.gso_segment_bytes != 0) text += " gso " + std::to_string(segment.gso_segment_bytes);
  if (segment.junk) text += " junk";
  return text;
}

namespace {

class ScriptParser {
 public:
  ScriptParser(std::string_view name, Family family) : name_(name) {
    script_.name = name;
    script_.family = family;
    DefineSizes();
  }

  Script Parse(std::string_view text) {
    int number = 0;
    while (!text.empty()) {
      const size_t end = text.find('\n');
      ParseLine(text.substr(0, end), ++number);
      text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    }
    if (script_.sections.empty()) Complain(1, "no 'rfc' line says what this script shows");
    if (script_.steps.empty()) Complain(number, "a script without a step");
    return std::move(script_);
  }

 private:
  [[noreturn]] void Complain(int line, std::string_view what) const {
    throw ScriptError(name_ + ":" + std::to_string(line) + ":1: " + std::string(what));
  }

  // What the family and the MTU make of the names that every script may use.
  void DefineSizes() {
    const bool v4 = script_.family == Family::kIpv4;
    names_["mtu"] = script_.config.mtu;
    names_["mss"] = script_.config.mtu - (v4 ? 40 : 60);
    names_["headers"] = v4 ? 40 : 60;
    names_["default_mss"] = v4 ? 536 : 1'220;  // RFC 9293 3.7.1
    names_["super"] = v4 ? 65'495 : 65'475;    // the payload of the largest super-segment
  }

  void ParseLine(std::string_view text, int number);
  bool ParseHeader(LineParser& line);
  void ParseOption(LineParser& line);
  When ParseWhen(LineParser& line);
  Action ParseAction(LineParser& line);
  Action ParseSend(LineParser& line);
  Action ParseExpect(LineParser& line);
  Action ParseHost(LineParser& line);
  Action ParseConnect(LineParser& line);
  uint8_t ParseFlags(LineParser& line);
  ScriptSegment ParseSegment(LineParser& line, bool sent);
  void ParseOptions(LineParser& line, ScriptSegment& segment, bool sent);
  void ParseSackBlocks(LineParser& line, ScriptSegment& segment);
  void ParseRawOptions(LineParser& line, ScriptSegment& segment);

  const std::string name_;
  Script script_;
  Names names_;
};

void ScriptParser::ParseLine(std::string_view text, int number) {
  const std::string where = name_ + ":" + std::to_string(number);
  LineParser line(where, text, names_);
  if (line.AtEnd()) return;
  if (ParseHeader(line)) return line.ExpectEnd();
  Step step{.line = number};
  LineParser whole(where, text, names_);
  step.text = whole.Rest();
  const size_t begin = line.MarkHere();
  if (line.Accept("+")) step.when = ParseWhen(line);
  step.action = ParseAction(line);
  line.ExpectEnd();
  const bool exact = step.when.earliest == step.when.latest;
  if (!exact && !std::holds_alternative<Expect>(step.action)) {
    line.FailAt(begin, "only an expected segment may come between two times");
  }
  script_.steps.push_back(std::move(step));
}

// True if the line was one of those that stand before the first step.
bool ScriptParser::ParseHeader(LineParser& line) {
  const size_t begin = line.MarkHere();
  const auto is = [&](std::string_view word) {
    if (!line.AcceptWord(word)) return false;
    if (!script_.steps.empty()) line.FailAt(begin, "this line belongs before the first step");
    return true;
  };
  if (is("rfc")) {
    const int rfc = static_cast<int>(line.Number(1, 99'999));
    const std::string number = line.Run("0123456789.");
    if (number.empty()) line.Fail("expected the number of a section");
    script_.sections.push_back({.rfc = rfc, .number = number});
    return true;
  }
  if (is("deviation")) {
    if (!script_.deviation.empty()) line.FailAt(begin, "a script shows one deviation");
    script_.deviation = line.Rest();
    if (script_.deviation.empty()) line.Fail("expected a sentence");
    return true;
  }
  if (is("let")) {
    const std::string name = line.Word("a name");
    line.Expect("=");
    const int64_t value = line.Number();
    if (!names_.emplace(name, value).second) line.FailAt(begin, "'" + name + "' is taken");
    return true;
  }
  if (is("option")) {
    ParseOption(line);
    DefineSizes();
    return true;
  }
  return false;
}

void ScriptParser::ParseOption(LineParser& line) {
  Config& config = script_.config;
  const std::map<std::string, Duration*, std::less<>> durations = {
      {"dial_timeout", &config.dial_timeout},
      {"handshake_timeout", &config.handshake_timeout},
      {"silent_timeout", &config.silent_timeout},
      {"stall_timeout", &config.stall_timeout},
      {"keepalive_idle", &config.keepalive_idle},
      {"keepalive_interval", &config.keepalive_interval},
      {"time_wait", &config.time_wait}};
  const size_t begin = line.MarkHere();
  const std::string name = line.Word("an option's name");
  if (const auto found = durations.find(name); found != durations.end()) {
    *found->second = line.Time();
  } else if (name == "keepalive_probes") {
    config.keepalive_probes = static_cast<int>(line.Number(1, 100));
  } else if (name == "mtu") {
    config.mtu = line.Number(576, kAny16);
  } else if (name == "window") {
    script_.window = static_cast<uint16_t>(line.Number(0, kAny16));
  } else if (name == "guest_isn") {
    script_.guest_isn = line.SequenceNumber();
  } else if (name == "stack_isn") {
    script_.stack_isn = line.SequenceNumber();
  } else if (name == "offload") {
    script_.offload = line.AcceptWord("on");
    if (!script_.offload && !line.AcceptWord("off")) line.Fail("expected on or off");
  } else {
    line.FailAt(begin, "there is no option '" + name + "'");
  }
}

// Behind the '+'.
When ScriptParser::ParseWhen(LineParser& line) {
  if (line.Accept("<=")) return {.latest = line.Time()};
  const size_t begin = line.MarkHere();
  When when;
  when.earliest = when.latest = line.Time();
  if (line.Accept("..")) when.latest = line.Time();
  if (when.latest < when.earliest) line.FailAt(begin, "the later time stands first");
  return when;
}

Action ScriptParser::ParseAction(LineParser& line) {
  if (line.Accept(">")) return ParseSend(line);
  if (line.Accept("<")) return ParseExpect(line);
  if (line.AcceptWord("host")) return ParseHost(line);
  if (line.AcceptWord("nothing")) {
    return line.AtEnd() ? ExpectNothing{} : ExpectNothing{.during = line.Time()};
  }
  if (line.AcceptWord("connect")) return ParseConnect(line);
  if (line.AcceptWord("again")) {
    line.Expect("+");
    return Again{.sequence_step = line.SequenceNumber()};
  }
  line.Fail("expected '>', '<', 'host', 'nothing', 'connect' or 'again'");
}

const std::map<std::string, IcmpError, std::less<>> kIcmpErrors = {
    {"port", IcmpError::kPort},
    {"host", IcmpError::kHost},
    {"network", IcmpError::kNetwork},
    {"prohibited", IcmpError::kProhibited}};

IcmpError ParseIcmpError(LineParser& line) {
  const size_t begin = line.MarkHere();
  const auto found = kIcmpErrors.find(line.Word("port, host, network or prohibited"));
  if (found == kIcmpErrors.end()) line.FailAt(begin, "expected port, host, network or prohibited");
  return found->second;
}

Action ScriptParser::ParseSend(LineParser& line) {
  if (line.AcceptWord("icmp")) {
    SendIcmp icmp;
    if (line.AcceptWord("too-big")) {
      icmp.mtu = line.Number(0, kAny31);
    } else {
      icmp.error = ParseIcmpError(line);
    }
    line.Expect("seq");
    icmp.sequence = line.SequenceNumber();
    return icmp;
  }
  const bool with_next = line.Accept(">");
  return Send{.segment = ParseSegment(line, true), .with_next = with_next};
}

Action ScriptParser::ParseExpect(LineParser& line) {
  if (line.AcceptWord("icmp")) return ExpectIcmp{.error = ParseIcmpError(line)};
  return Expect{.segment = ParseSegment(line, false)};
}

Action ScriptParser::ParseConnect(LineParser& line) {
  Connect connect{.syn = {.flags = kTcpSyn, .window = script_.window}};
  if (line.AcceptWord("win")) connect.syn.window = static_cast<uint16_t>(line.Number(0, kAny16));
  if (line.Accept("<")) {
    ParseOptions(line, connect.syn, true);
  } else {
    connect.syn.mss = static_cast<uint16_t>(names_["mss"]);
    connect.syn.sack_permitted = true;
  }
  return connect;
}

Action ScriptParser::ParseHost(LineParser& line) {
  const size_t begin = line.MarkHere();
  const std::string word = line.Word("what the host does");
  static const std::map<std::string, HostVerb, std::less<>> kPlain = {
      {"accept", HostVerb::kAccept},
      {"refuse", HostVerb::kRefuse},
      {"unreachable", HostVerb::kUnreachable},
      {"silent", HostVerb::kSilent},
      {"fin", HostVerb::kFin},
      {"close", HostVerb::kClose},
      {"eof", HostVerb::kSawEof}};
  static const std::map<std::string, HostVerb, std::less<>> kCounted = {
      {"write", HostVerb::kWrite}, {"got", HostVerb::kGot}, {"buffer", HostVerb::kBuffer}};
  if (const auto found = kPlain.find(word); found != kPlain.end()) return HostStep{found->second};
  if (const auto found = kCounted.find(word); found != kCounted.end()) {
    return HostStep{.verb = found->second, .count = line.Number(0, kAny31)};
  }
  if (word == "slow") return HostStep{.verb = HostVerb::kSlow, .delay = line.Time()};
  if (word == "stop") {
    line.Expect("reading");
    return HostStep{HostVerb::kStopReading};
  }
  if (word == "read") {
    if (line.AcceptWord("on")) return HostStep{HostVerb::kReadOn};
    return HostStep{.verb = HostVerb::kRead, .count = line.Number(1, kAny31)};
  }
  if (word == "reset") {
    return HostStep{line.AcceptWord("seen") ? HostVerb::kSawReset : HostVerb::kReset};
  }
  line.FailAt(begin, "the host knows no '" + word + "'");
}

uint8_t ScriptParser::ParseFlags(LineParser& line) {
  const size_t begin = line.MarkHere();
  const std::string letters = line.Run(kFlagAlphabet);
  if (letters == ".") return kTcpAck;
  if (letters == "-") return 0;
  uint8_t flags = 0;
  for (const char letter : letters) {
    uint8_t flag = 0;
    for (const FlagLetter& known : kFlagLetters) {
      if (known.letter == letter) flag = known.flag;
    }
    if (flag == 0 || (flags & flag) != 0) line.FailAt(begin, "these are no flags");
    flags |= flag;
  }
  if (flags == 0) line.FailAt(begin, "expected flags such as S, SA, F or '.'");
  return flags;
}

ScriptSegment ScriptParser::ParseSegment(LineParser& line, bool sent) {
  ScriptSegment segment{.flags = ParseFlags(line)};
  const size_t begin = line.MarkHere();
  segment.sequence = line.SequenceNumber();
  line.Expect(":");
  const uint32_t end = line.SequenceNumber();
  line.Expect("(");
  segment.payload_bytes = line.Number(0, kAny16);
  line.Expect(")");
  if (segment.sequence + segment.payload_bytes != end) line.FailAt(begin, "this does not add up");
  const bool has_ack = (segment.flags & kTcpAck) != 0;
  if (has_ack) {
    line.Expect("ack");
    segment.acknowledgement = line.SequenceNumber();
  }
  if (line.AcceptWord("win")) segment.window = static_cast<uint16_t>(line.Number(0, kAny16));
  if (sent && line.AcceptWord("urg")) {
    segment.urgent_pointer = static_cast<uint16_t>(line.Number(0, kAny16));
  }
  if (line.Accept("<")) ParseOptions(line, segment, sent);
  if (line.AcceptWord("gso")) {
    segment.gso_segment_bytes = static_cast<uint16_t>(line.Number(1, kAny16));
  }
  if (sent && line.AcceptWord("junk")) segment.junk = true;
  return segment;
}

// Behind the '<'.
void ScriptParser::ParseOptions(LineParser& line, ScriptSegment& segment, bool sent) {
  do {
    const size_t begin = line.MarkHere();
    const std::string name = line.Word("a TCP option");
    if (name == "mss") {
      segment.mss = static_cast<uint16_t>(line.Number(0, kAny16));
    } else if (name == "wscale") {
      segment.window_scale = static_cast<uint8_t>(line.Number(0, 255));
    } else if (name == "sackOK") {
      segment.sack_permitted = true;
    } else if (name == "sack") {
      ParseSackBlocks(line, segment);
    } else if (name == "raw" && sent) {
      ParseRawOptions(line, segment);
    } else {
      line.FailAt(begin, "'" + name + "' is no TCP option that is known here");
    }
  } while (line.Accept(","));
  line.Expect(">");
}

void ScriptParser::ParseSackBlocks(LineParser& line, ScriptSegment& segment) {
  do {
    SackBlock block{.begin = line.SequenceNumber()};
    line.Expect(":");
    block.end = line.SequenceNumber();
    segment.sack.push_back(block);
    if (segment.sack.size() > kSackBlocksMax) line.Fail("four blocks fit at most");
  } while (!line.Sees(">") && !line.Sees(","));
}

// Pairs of hexadecimal digits.
void ScriptParser::ParseRawOptions(LineParser& line, ScriptSegment& segment) {
  const size_t begin = line.MarkHere();
  const std::string digits = line.Run("0123456789abcdef");
  if (digits.empty() || digits.size() % 8 != 0 || digits.size() > 2 * kOptionBytesMax) {
    line.FailAt(begin, "expected hexadecimal digits of 4, 8, ... bytes");
  }
  for (size_t i = 0; i < digits.size(); i += 2) {
    segment.raw_options.push_back(
        static_cast<uint8_t>(std::stoi(digits.substr(i, 2), nullptr, 16)));
  }
}

}  // namespace

Script ParseScript(std::string_view name, std::string_view text, Family family) {
  return ScriptParser(name, family).Parse(text);
}

}  // namespace penstock::conformance
