#include "tests/structure/source_tree.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "tests/support/places.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

const fs::path kRoot = SourcePath("");
// Where ours lives. Anything else at the top is TopLevel()'s business.
constexpr std::string_view kFolders[] = {"relay", "publisher", "stack",      "tools",
                                         "tests", "bench",     "third_party"};

std::vector<std::string> ReadLines(const fs::path& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

bool IsHidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

std::vector<SourceFile> ReadTree() {
  std::vector<SourceFile> files;
  for (std::string_view folder : kFolders) {
    if (!fs::exists(kRoot / folder)) continue;
    fs::recursive_directory_iterator it(kRoot / folder), end;
    for (; it != end; ++it) {
      const fs::path& path = it->path();
      // A fuzzer's corpus is bytes, not text; Python leaves its cache behind.
      if (it->is_directory() &&
          (IsHidden(path) || path.filename() == "corpus" || path.filename() == "__pycache__")) {
        it.disable_recursion_pending();
      } else if (it->is_regular_file() && !IsHidden(path)) {
        files.push_back({fs::relative(path, kRoot).string(), ReadLines(path)});
      }
    }
  }
  std::sort(files.begin(), files.end(),
            [](const SourceFile& a, const SourceFile& b) { return a.path < b.path; });
  return files;
}

}  // namespace

std::string_view SourceFile::top_folder() const {
  return std::string_view(path).substr(0, path.find('/'));
}

bool SourceFile::In(std::string_view folder) const {
  return path.size() > folder.size() && path.starts_with(folder) && path[folder.size()] == '/';
}

bool SourceFile::is_header() const { return path.ends_with(".h"); }

bool SourceFile::is_cpp() const { return is_header() || path.ends_with(".cc"); }

std::vector<std::string> SourceFile::Includes() const {
  std::vector<std::string> includes;
  for (const std::string& line : lines) {
    if (!line.starts_with("#include")) continue;
    const size_t open = line.find_first_of("\"<");
    const size_t close = line.find_first_of("\">", open + 1);
    if (close != std::string::npos) includes.push_back(line.substr(open + 1, close - open - 1));
  }
  return includes;
}

const std::vector<SourceFile>& SourceTree() {
  static const std::vector<SourceFile> tree = ReadTree();
  return tree;
}

std::vector<std::string> SourceFolders() {
  std::set<std::string> folders;
  for (const SourceFile& file : SourceTree()) {
    for (fs::path path = fs::path(file.path).parent_path(); !path.empty();
         path = path.parent_path()) {
      folders.insert(path.string());
    }
  }
  return {folders.begin(), folders.end()};
}

std::vector<std::string> TopLevel() {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(kRoot)) {
    if (!IsHidden(entry.path()) && entry.path().filename() != "build") {
      names.push_back(entry.path().filename().string());
    }
  }
  return names;
}

}  // namespace penstock
