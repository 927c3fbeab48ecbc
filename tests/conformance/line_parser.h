// One line of a script and how far it was read: words, numbers as expressions over
// names, durations. Every complaint names line and column.
#ifndef PENSTOCK_TESTS_CONFORMANCE_LINE_PARSER_H_
#define PENSTOCK_TESTS_CONFORMANCE_LINE_PARSER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "relay/time.h"

namespace penstock::conformance {

// What names stand for in expressions.
using Names = std::map<std::string, int64_t, std::less<>>;

class LineParser {
 public:
  // `where` is "name:line". The text ends at a '#'. All outlive this.
  LineParser(std::string_view where, std::string_view text, const Names& names);

  [[nodiscard]] bool AtEnd();
  // Takes `symbol` if it stands next; spaces before it do not count.
  bool Accept(std::string_view symbol);
  void Expect(std::string_view symbol);
  // Takes `word` if it stands next and ends there.
  bool AcceptWord(std::string_view word);
  // True if `symbol` stands next; it is left there.
  [[nodiscard]] bool Sees(std::string_view symbol);
  // A word: letters, digits, '_' and '-', starting with a letter. `what` is for the
  // complaint.
  std::string Word(std::string_view what);
  // The run of characters of `alphabet` that stands next; may be empty.
  std::string Run(std::string_view alphabet);
  // The rest of the line.
  std::string Rest();
  // Sums and products of whole numbers and names, without spaces: 1+2*mss.
  int64_t Number();
  // The same, within bounds.
  uint32_t Number(int64_t least, int64_t most);
  // As a sequence number, modulo 2^32; may be negative.
  uint32_t SequenceNumber();
  // "0.3s"; us, ms, s, min, h. Whole microseconds.
  Duration Time();
  void ExpectEnd();

  // Complains about what stands next, or about where MarkHere() was.
  [[noreturn]] void Fail(std::string_view what);
  [[nodiscard]] size_t MarkHere();
  [[noreturn]] void FailAt(size_t mark, std::string_view what) const;

 private:
  void SkipSpaces();
  [[nodiscard]] bool Digit() const;
  int64_t Product();
  int64_t Factor();

  const std::string_view where_;
  const std::string_view text_;
  const Names& names_;
  size_t at_ = 0;
};

}  // namespace penstock::conformance

#endif  // PENSTOCK_TESTS_CONFORMANCE_LINE_PARSER_H_
