#include "tests/conformance/script_files.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

#include "tests/support/places.h"

namespace penstock::conformance {
namespace {

namespace fs = std::filesystem;

const fs::path kFolder = SourcePath("tests/conformance");

std::string Read(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

std::vector<ScriptFile> ReadScriptFiles() {
  std::vector<ScriptFile> files;
  std::error_code none;
  for (const fs::directory_entry& entry : fs::directory_iterator(kFolder / "scripts", none)) {
    if (entry.path().extension() != ".script") continue;
    files.push_back({entry.path().stem().string(), Read(entry.path())});
  }
  std::ranges::sort(files, {}, &ScriptFile::name);
  return files;
}

std::string ReadConformanceReadme() { return Read(kFolder / "README.md"); }

}  // namespace penstock::conformance
