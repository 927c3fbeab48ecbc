// What passes between guest and host while something fails. It ends in any case, and then
// says whether its ends were told the truth. One thread.
#ifndef PENSTOCK_TESTS_FAULTS_TALK_H_
#define PENSTOCK_TESTS_FAULTS_TALK_H_

#include <stdexcept>
#include <string>

namespace penstock::faults {

class Talk {
 public:
  Talk() = default;
  Talk(const Talk&) = delete;
  Talk& operator=(const Talk&) = delete;
  virtual ~Talk() = default;

  // Both ends do what they can do now; true if that was something.
  virtual bool Step() = 0;
  // Nothing more will come.
  virtual bool Over() = 0;
  // All of it arrived. Once it is over.
  virtual bool Complete() = 0;
  // Throws if an end was told something that is not so. Once it is over.
  virtual void Judge() = 0;
};

inline void Require(bool holds, const std::string& otherwise) {
  if (!holds) throw std::runtime_error(otherwise);
}

}  // namespace penstock::faults

#endif  // PENSTOCK_TESTS_FAULTS_TALK_H_
