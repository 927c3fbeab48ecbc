// Lines: from a text to its rules. What follows the direction of a rule is read by
// policy_target.cc.
#include "stack/policy/policy_text.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "publisher/ascii.h"
#include "publisher/text_fault.h"
#include "stack/policy/policy_target.h"

namespace penstock {
namespace {

// Words are views into the line, so that each knows where it stands.
class LineReader final {
 public:
  explicit LineReader(std::string_view line) : line_(line) {
    rest_ = line_.substr(0, line_.find('#'));
    SkipSpace();
  }

  [[nodiscard]] bool at_end() const { return rest_.empty(); }
  // The next word; where there is none, what is empty behind the last one.
  [[nodiscard]] std::string_view Take() {
    const auto end = std::find_if(rest_.begin(), rest_.end(), IsBlank);
    const std::string_view word = rest_.substr(0, static_cast<size_t>(end - rest_.begin()));
    if (word.empty()) return line_.substr(behind_, 0);
    rest_.remove_prefix(word.size());
    behind_ = ColumnOf(word) + word.size();
    words_ += words_.empty() ? "" : " ";
    words_ += word;
    SkipSpace();
    return word;
  }
  [[nodiscard]] size_t ColumnOf(std::string_view part) const {
    return static_cast<size_t>(part.data() - line_.data());
  }
  // Those taken, one space between them.
  [[nodiscard]] const std::string& words() const { return words_; }

 private:
  void SkipSpace() {
    while (!rest_.empty() && IsBlank(rest_[0])) rest_.remove_prefix(1);
  }

  const std::string_view line_;
  std::string_view rest_;
  size_t behind_ = 0;  // the last word taken
  std::string words_;
};

class TextReader final {
 public:
  explicit TextReader(std::string_view source) : source_(source) {}

  [[nodiscard]] absl::StatusOr<ParsedPolicy> Read(std::string_view text);

 private:
  [[nodiscard]] absl::Status Wrong(size_t column, std::string_view sentence) const;
  [[nodiscard]] absl::Status Wrong(const LineReader& words, std::string_view word,
                                   std::string_view sentence) const {
    return Wrong(words.ColumnOf(word), sentence);
  }
  [[nodiscard]] std::string Place(size_t column) const {
    return Sentence(source_, ":", std::to_string(number_), ":", std::to_string(column + 1), ": ");
  }

  [[nodiscard]] absl::Status ReadLine();
  [[nodiscard]] absl::Status CheckCharacters() const;
  [[nodiscard]] absl::Status ReadRule(LineReader& words, bool allow);
  [[nodiscard]] absl::Status ReadDefault(LineReader& words);
  [[nodiscard]] absl::StatusOr<Direction> ReadDirection(LineReader& words) const;
  [[nodiscard]] absl::Status CheckEnd(LineReader& words, std::string_view what) const;

  const std::string_view source_;
  std::string_view line_;
  uint32_t number_ = 0;
  std::array<uint32_t, 2> default_line_{};  // 0: none yet
  ParsedPolicy read_;
};

absl::StatusOr<ParsedPolicy> TextReader::Read(std::string_view text) {
  if (text.size() > kPolicyTextBytesMax) {
    return absl::InvalidArgumentError(Sentence(source_, ": the text has ",
                                               std::to_string(text.size()), " bytes: at most ",
                                               std::to_string(kPolicyTextBytesMax), " are read"));
  }
  while (!text.empty()) {
    line_ = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line_.size() + 1));
    if (line_.ends_with('\r')) line_.remove_suffix(1);
    ++number_;
    if (absl::Status s = ReadLine(); !s.ok()) return s;
  }
  return std::move(read_);
}

absl::Status TextReader::Wrong(size_t column, std::string_view sentence) const {
  std::string shown(line_);
  std::replace(shown.begin(), shown.end(), '\t', ' ');
  return WrongText(shown, column, Sentence(Place(column), sentence));
}

absl::Status TextReader::ReadLine() {
  if (absl::Status s = CheckCharacters(); !s.ok()) return s;
  LineReader words(line_);
  if (words.at_end()) return absl::OkStatus();
  const std::string_view first = words.Take();
  if (first == "default") return ReadDefault(words);
  if (first == "allow" || first == "deny") return ReadRule(words, first == "allow");
  return Wrong(words, first,
               Sentence("a line begins with allow, deny or default, not with \"", first,
                        "\": write such as allow egress example.test:443"));
}

// A comment may hold other letters than those of ASCII, but nothing that moves a cursor.
absl::Status TextReader::CheckCharacters() const {
  if (line_.size() > kPolicyLineBytesMax) {
    return absl::InvalidArgumentError(Sentence(
        Place(kPolicyLineBytesMax), "the line has ", std::to_string(line_.size()),
        " bytes: at most ", std::to_string(kPolicyLineBytesMax), " are read, divide the rule"));
  }
  bool in_comment = false;
  for (size_t i = 0; i < line_.size(); ++i) {
    const char c = line_[i];
    in_comment = in_comment || c == '#';
    const bool is_control = (c >= 0 && c < ' ' && c != '\t') || c == 127;
    if (is_control) return Wrong(i, "there is a control character: leave it out");
    if (c >= 0 || in_comment) continue;
    return Wrong(i,
                 "there is a character that is not of ASCII: write a name with other letters in "
                 "its xn-- form");
  }
  return absl::OkStatus();
}

absl::StatusOr<Direction> TextReader::ReadDirection(LineReader& words) const {
  const std::string_view word = words.Take();
  if (word == "egress") return Direction::kEgress;
  if (word == "ingress") return Direction::kIngress;
  if (word.empty()) {
    return Wrong(words, word, "the direction is missing: write egress or ingress here");
  }
  return Wrong(words, word,
               Sentence("the direction is \"", word, "\": it must be egress or ingress"));
}

absl::Status TextReader::CheckEnd(LineReader& words, std::string_view what) const {
  if (words.at_end()) return absl::OkStatus();
  return Wrong(words, words.Take(),
               Sentence("nothing may follow ", what,
                        ": write one rule in a line, and comments "
                        "behind a #"));
}

absl::Status TextReader::ReadRule(LineReader& words, bool allow) {
  if (read_.rules.size() == kPolicyRuleCountMax) {
    return Wrong(0, Sentence("this is one rule too many: a policy has at most ",
                             std::to_string(kPolicyRuleCountMax)));
  }
  const absl::StatusOr<Direction> direction = ReadDirection(words);
  if (!direction.ok()) return direction.status();
  const std::string_view word = words.Take();
  if (word.empty()) {
    return Wrong(words, word,
                 "the destination is missing: write such as any, @public, 192.0.2.0/24 or "
                 "example.test here");
  }
  TargetFault fault;
  std::optional<PolicyTarget> target = ReadTarget(word, fault);
  if (!target) return Wrong(words.ColumnOf(word) + fault.column, fault.sentence);
  if (target->is_name() && *direction == Direction::kIngress) {
    return Wrong(words, word,
                 "a name is for egress only: an ingress rule is about the client's address, write "
                 "any, a group or a network");
  }
  if (absl::Status s = CheckEnd(words, "the destination"); !s.ok()) return s;
  read_.rules.push_back({.direction = *direction,
                         .allow = allow,
                         .target = *std::move(target),
                         .written = {.text = words.words(), .line = number_}});
  return absl::OkStatus();
}

absl::Status TextReader::ReadDefault(LineReader& words) {
  const absl::StatusOr<Direction> direction = ReadDirection(words);
  if (!direction.ok()) return direction.status();
  const std::string_view word = words.Take();
  if (word != "allow" && word != "deny") {
    return Wrong(words, word,
                 Sentence("behind default ", Name(*direction), " stands allow or deny",
                          word.empty() ? "" : ", not \"", word, word.empty() ? "" : "\""));
  }
  if (absl::Status s = CheckEnd(words, "a default"); !s.ok()) return s;
  uint32_t& line = default_line_[static_cast<size_t>(*direction)];
  if (line != 0) {
    return Wrong(0, Sentence("the default of ", Name(*direction), " is in line ",
                             std::to_string(line), " already: leave one of them"));
  }
  line = number_;
  read_.allow_by_default[static_cast<size_t>(*direction)] = word == "allow";
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ParsedPolicy> ParsePolicyText(std::string_view text, std::string_view source) {
  return TextReader(source).Read(text);
}

absl::StatusOr<PolicyTarget> ParsePolicyTarget(std::string_view text, std::string_view source) {
  TargetFault fault;
  std::optional<PolicyTarget> target = ReadTarget(text, fault);
  if (target) return *std::move(target);
  const std::string where = Sentence(source, ":", std::to_string(fault.column + 1), ": ");
  // No longer than a line may be: nobody looks for a caret behind that.
  if (text.size() > kPolicyLineBytesMax) {
    return absl::InvalidArgumentError(Sentence(where, fault.sentence));
  }
  return WrongText(text, fault.column, Sentence(where, fault.sentence));
}

}  // namespace penstock
