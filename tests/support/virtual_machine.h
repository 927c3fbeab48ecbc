// A virtual machine for the end-to-end tests: QEMU, without the host's help for virtualisation
// (that there is any is no given), Debian's kernel and a small system made of Debian's packages
// (tests/vm). Its console takes commands; its network is whatever the test gives it.
//
// Nothing is waited for without a limit, and it ends with its owner.
#ifndef PENSTOCK_TESTS_SUPPORT_VIRTUAL_MACHINE_H_
#define PENSTOCK_TESTS_SUPPORT_VIRTUAL_MACHINE_H_

#include <chrono>
#include <string>
#include <vector>

#include "relay/time.h"
#include "tests/support/sandbox.h"
#include "tests/support/sandbox_process.h"

namespace penstock::e2e {

class VirtualMachine final {
 public:
  // What the slowest step may take on a machine that does much else.
  static constexpr auto kLimit = std::chrono::seconds(60);

  // Boots. `netdev`: QEMU's -netdev, with the id "n". Returns when the network card is up and the
  // console takes commands.
  explicit VirtualMachine(const std::string& netdev);

  // Runs a line of shell inside; what it said. Throws if its status is not 0.
  std::string Run(const std::string& line);
  // The two halves of it: Begin returns at once.
  void Begin(const std::string& line);
  std::string End();

  // The machine stands still, and its clock with it; it goes on.
  void Stop();
  void Continue();

 private:
  // One end of a pair; QEMU's is kept open under its number.
  struct Line {
    Line();
    Descriptor own;
    Descriptor qemus;
    std::string read;  // and not looked at yet
  };
  // What stands before `mark`, which goes, too.
  static std::string ReadTo(Line& line, const std::string& mark);
  static void Write(const Line& line, const std::string& text);
  void Order(const std::string& order, const std::string& event);

  TemporaryFolder folder_;
  Line console_;
  Line monitor_;
  std::string line_;  // that runs inside
  Process qemu_;
};

}  // namespace penstock::e2e

#endif  // PENSTOCK_TESTS_SUPPORT_VIRTUAL_MACHINE_H_
