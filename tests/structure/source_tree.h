// The source files of this repository, for tests about its shape.
#ifndef PENSTOCK_TESTS_STRUCTURE_SOURCE_TREE_H_
#define PENSTOCK_TESTS_STRUCTURE_SOURCE_TREE_H_

#include <string>
#include <string_view>
#include <vector>

namespace penstock {

struct SourceFile {
  std::string path;  // from the top of the repository: "relay/time.h"
  std::vector<std::string> lines;

  // "relay" for relay/time.h, "stack/tcpip" for stack/tcpip/port/lwipopts.h.
  [[nodiscard]] std::string_view top_folder() const;
  [[nodiscard]] bool In(std::string_view folder) const;
  [[nodiscard]] bool is_header() const;
  [[nodiscard]] bool is_cpp() const;  // .h or .cc

  // What it includes, without quotes or brackets, in order.
  [[nodiscard]] std::vector<std::string> Includes() const;
};

// Every file of ours with text in it, folders that hold builds or hidden files left
// out. Read once.
[[nodiscard]] const std::vector<SourceFile>& SourceTree();

// The folders of those files and their parents, from the top: "stack", "stack/wire".
[[nodiscard]] std::vector<std::string> SourceFolders();

// What lies at the top, hidden entries and build/ left out.
[[nodiscard]] std::vector<std::string> TopLevel();

}  // namespace penstock

#endif  // PENSTOCK_TESTS_STRUCTURE_SOURCE_TREE_H_
