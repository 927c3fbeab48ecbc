// The scripts of this folder, as they lie on the disk.
#ifndef PENSTOCK_TESTS_CONFORMANCE_SCRIPT_FILES_H_
#define PENSTOCK_TESTS_CONFORMANCE_SCRIPT_FILES_H_

#include <string>
#include <vector>

namespace penstock::conformance {

struct ScriptFile {
  std::string name;  // "rfc9293_3.5_three_way_handshake"
  std::string text;
};

// All of scripts/*.script, by name; none if the folder is not there.
[[nodiscard]] std::vector<ScriptFile> ReadScriptFiles();
// The README beside them.
[[nodiscard]] std::string ReadConformanceReadme();

}  // namespace penstock::conformance

#endif  // PENSTOCK_TESTS_CONFORMANCE_SCRIPT_FILES_H_
