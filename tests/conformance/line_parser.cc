#include "tests/conformance/line_parser.h"

#include <chrono>
#include <limits>

#include "tests/support/guest_segment.h"

namespace penstock::conformance {
namespace {

// Enough for 4 GiB of sequence numbers and years of microseconds, and no product of two
// overflows.
constexpr int64_t kNumberMax = int64_t{1} << 40;
constexpr size_t kDigitsMax = 12;
constexpr int64_t kMicrosecondDigits = 6;

bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

std::string_view WithoutComment(std::string_view text) { return text.substr(0, text.find('#')); }

}  // namespace

LineParser::LineParser(std::string_view where, std::string_view text, const Names& names)
    : where_(where), text_(WithoutComment(text)), names_(names) {}

void LineParser::SkipSpaces() {
  while (at_ < text_.size() && text_[at_] == ' ') ++at_;
}

bool LineParser::Digit() const { return at_ < text_.size() && IsDigit(text_[at_]); }

bool LineParser::AtEnd() {
  SkipSpaces();
  return at_ == text_.size();
}

bool LineParser::Sees(std::string_view symbol) {
  SkipSpaces();
  return text_.substr(at_).starts_with(symbol);
}

bool LineParser::Accept(std::string_view symbol) {
  if (!Sees(symbol)) return false;
  at_ += symbol.size();
  return true;
}

void LineParser::Expect(std::string_view symbol) {
  if (!Accept(symbol)) Fail("expected '" + std::string(symbol) + "'");
}

bool LineParser::AcceptWord(std::string_view word) {
  SkipSpaces();
  const size_t end = at_ + word.size();
  if (!text_.substr(at_).starts_with(word)) return false;
  if (end < text_.size() && (IsLetter(text_[end]) || IsDigit(text_[end]))) return false;
  at_ = end;
  return true;
}

std::string LineParser::Word(std::string_view what) {
  SkipSpaces();
  const size_t begin = at_;
  if (at_ < text_.size() && IsLetter(text_[at_])) {
    while (at_ < text_.size() &&
           (IsLetter(text_[at_]) || IsDigit(text_[at_]) || text_[at_] == '-')) {
      ++at_;
    }
  }
  if (at_ == begin) Fail("expected " + std::string(what));
  return std::string(text_.substr(begin, at_ - begin));
}

std::string LineParser::Run(std::string_view alphabet) {
  SkipSpaces();
  const size_t begin = at_;
  while (at_ < text_.size() && alphabet.find(text_[at_]) != std::string_view::npos) ++at_;
  return std::string(text_.substr(begin, at_ - begin));
}

std::string LineParser::Rest() {
  SkipSpaces();
  std::string_view rest = text_.substr(at_);
  while (rest.ends_with(' ')) rest.remove_suffix(1);
  at_ = text_.size();
  return std::string(rest);
}

int64_t LineParser::Number() {
  SkipSpaces();
  const size_t begin = at_;
  const bool negative = at_ < text_.size() && text_[at_] == '-';
  if (negative) ++at_;
  int64_t value = Product();
  if (negative) value = -value;
  while (at_ < text_.size() && (text_[at_] == '+' || text_[at_] == '-')) {
    const bool minus = text_[at_++] == '-';
    const int64_t other = Product();
    value += minus ? -other : other;
  }
  if (value > kNumberMax || value < -kNumberMax) FailAt(begin, "a number beyond all bounds");
  return value;
}

int64_t LineParser::Product() {
  const size_t begin = at_;
  int64_t value = Factor();
  while (at_ < text_.size() && text_[at_] == '*') {
    ++at_;
    if (__builtin_mul_overflow(value, Factor(), &value)) {
      FailAt(begin, "a number beyond all bounds");
    }
  }
  if (value > kNumberMax || value < -kNumberMax) FailAt(begin, "a number beyond all bounds");
  return value;
}

int64_t LineParser::Factor() {
  const size_t begin = at_;
  if (Digit()) {
    int64_t value = 0;
    for (; Digit(); ++at_) {
      if (at_ - begin >= kDigitsMax) FailAt(begin, "a number beyond all bounds");
      value = value * 10 + (text_[at_] - '0');
    }
    return value;
  }
  while (at_ < text_.size() && IsLetter(text_[at_])) ++at_;
  const std::string_view name = text_.substr(begin, at_ - begin);
  if (name.empty()) FailAt(begin, "expected a number");
  const auto found = names_.find(name);
  if (found == names_.end()) FailAt(begin, "nothing is called '" + std::string(name) + "'");
  return found->second;
}

uint32_t LineParser::Number(int64_t least, int64_t most) {
  SkipSpaces();
  const size_t begin = at_;
  const int64_t value = Number();
  if (value < least || value > most) {
    FailAt(begin, std::to_string(value) + " is not within " + std::to_string(least) + " and " +
                      std::to_string(most));
  }
  return static_cast<uint32_t>(value);
}

uint32_t LineParser::SequenceNumber() { return static_cast<uint32_t>(Number()); }

Duration LineParser::Time() {
  SkipSpaces();
  const size_t begin = at_;
  if (!Digit()) Fail("expected a duration such as 0.3s");
  // Digits behind the point are counted down to the unit's microseconds.
  int64_t value = 0, fraction = 0, fraction_digits = 0;
  for (; Digit(); ++at_) value = value * 10 + (text_[at_] - '0');
  const bool point = at_ + 1 < text_.size() && text_[at_] == '.' && IsDigit(text_[at_ + 1]);
  if (point) {
    for (++at_; Digit(); ++at_) {
      fraction = fraction * 10 + (text_[at_] - '0');
      ++fraction_digits;
    }
  }
  if (at_ - begin > kDigitsMax || fraction_digits > kMicrosecondDigits) {
    FailAt(begin, "a duration with too many digits");
  }
  static const std::map<std::string, int64_t, std::less<>> kUnits = {
      {"us", 1}, {"ms", 1'000}, {"s", 1'000'000}, {"min", 60'000'000}, {"h", 3'600'000'000}};
  const size_t unit_at = at_;
  while (at_ < text_.size() && IsLetter(text_[at_])) ++at_;
  const auto unit = kUnits.find(text_.substr(unit_at, at_ - unit_at));
  if (unit == kUnits.end()) FailAt(unit_at, "expected us, ms, s, min or h");
  int64_t scale = 1;
  for (int64_t i = 0; i < fraction_digits; ++i) scale *= 10;
  if (value > kNumberMax / 1'000 || fraction * unit->second % scale != 0) {
    FailAt(begin, "not a whole number of microseconds");
  }
  return std::chrono::microseconds(value * unit->second + fraction * unit->second / scale);
}

void LineParser::ExpectEnd() {
  if (!AtEnd()) Fail("nothing more was expected on this line");
}

void LineParser::Fail(std::string_view what) {
  SkipSpaces();
  FailAt(at_, what);
}

size_t LineParser::MarkHere() {
  SkipSpaces();
  return at_;
}

void LineParser::FailAt(size_t mark, std::string_view what) const {
  throw ScriptError(std::string(where_) + ":" + std::to_string(mark + 1) + ": " +
                    std::string(what));
}

}  // namespace penstock::conformance
