// What a reader relies on and a reviewer would have to look for by hand: names, header
// guards, a README in each folder, files of a size that one can read, nothing left for
// later, and what may lie at the top.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <regex>
#include <set>

#include "tests/structure/source_tree.h"

namespace penstock {
namespace {

constexpr size_t kLineCountMax = 600;
constexpr size_t kFunctionLineCountMax = 70;
// Files over that, each with its reason.
const std::map<std::string, std::string, std::less<>> kLongFiles = {};

// Files whose names a foreign build dictates.
bool IsNamedByOthers(const SourceFile& file) { return file.In("stack/tcpip/port"); }

std::string GuardOf(std::string path) {
  std::string guard = "PENSTOCK_";
  for (char c : path)
    guard += std::isalnum(static_cast<unsigned char>(c)) != 0
                 ? static_cast<char>(std::toupper(static_cast<unsigned char>(c)))
                 : '_';
  return guard + "_";
}

// "" if the first two directives and the last line make the guard, else what is wrong.
std::string GuardFault(const SourceFile& file) {
  const std::string guard = GuardOf(file.path);
  std::vector<std::string> directives;
  for (const std::string& line : file.lines) {
    if (line.starts_with('#')) directives.push_back(line);
  }
  if (directives.size() < 3) return "has no header guard, expected " + guard;
  if (directives[0] != "#ifndef " + guard || directives[1] != "#define " + guard) {
    return "starts with '" + directives[0] + "', expected the header guard " + guard;
  }
  if (directives.back() != "#endif  // " + guard) return "ends without #endif  // " + guard;
  return "";
}

// Spelt apart, so that this file passes its own test.
const std::regex kLeftForLater(
    "\\b(TO"
    "DO|FIX"
    "ME|X"
    "XX)\\b");

TEST(Style, FileAndFolderNamesAreSnakeCase) {
  const std::regex file_name("[a-z][a-z0-9_]*\\.(h|cc|py|sh)");
  const std::regex folder_name("[a-z][a-z0-9_]*");
  for (const SourceFile& file : SourceTree()) {
    const std::string name = file.path.substr(file.path.rfind('/') + 1);
    if (!file.is_cpp() && !name.ends_with(".py") && !name.ends_with(".sh")) continue;
    EXPECT_TRUE(std::regex_match(name, file_name)) << file.path;
  }
  for (const std::string& folder : SourceFolders()) {
    EXPECT_TRUE(std::regex_match(folder.substr(folder.rfind('/') + 1), folder_name)) << folder;
  }
}

TEST(Style, TestsAreNamedAfterWhatTheyTest) {
  for (const SourceFile& file : SourceTree()) {
    const bool holds_cases =
        std::any_of(file.lines.begin(), file.lines.end(), [](const std::string& line) {
          return line.starts_with("TEST(") || line.starts_with("TEST_F(") ||
                 line.starts_with("TEST_P(");
        });
    if (holds_cases) {
      EXPECT_TRUE(file.In("tests")) << file.path << ": tests live in tests/";
      EXPECT_TRUE(file.path.ends_with("_test.cc")) << file.path;
    }
  }
}

TEST(Style, HeadersHaveGuardsAfterTheirPath) {
  for (const SourceFile& file : SourceTree()) {
    if (!file.is_header() || IsNamedByOthers(file)) continue;
    EXPECT_EQ(GuardFault(file), "") << file.path;
  }
}

// True for the line that includes the header which explains `file`: relay/a.cc and
// tests/relay/a_test.cc may open with #include "relay/a.h".
bool IncludesItsHeader(const SourceFile& file, const std::string& line) {
  std::string name = file.path.substr(file.path.rfind('/') + 1);
  name = std::regex_replace(name, std::regex("(_test)?\\.cc$"), ".h");
  return !file.is_header() && line.starts_with("#include \"") && line.ends_with("/" + name + "\"");
}

TEST(Style, FilesOpenWithWhatTheyAreFor) {
  for (const SourceFile& file : SourceTree()) {
    if (!file.is_cpp()) continue;
    ASSERT_FALSE(file.lines.empty()) << file.path;
    const std::string& first = file.lines[0];
    EXPECT_TRUE(first.starts_with("//") || first.starts_with("/*") ||
                IncludesItsHeader(file, first))
        << file.path << " opens with '" << first << "' and not with a comment";
  }
}

TEST(Style, FilesCanBeReadInOneSitting) {
  for (const SourceFile& file : SourceTree()) {
    if (!file.is_cpp() || kLongFiles.contains(file.path)) continue;
    EXPECT_LE(file.lines.size(), kLineCountMax)
        << file.path << ": split it, or add it to kLongFiles with the reason";
  }
  for (const auto& [path, reason] : kLongFiles) {
    const auto found = std::find_if(SourceTree().begin(), SourceTree().end(),
                                    [&](const SourceFile& file) { return file.path == path; });
    ASSERT_NE(found, SourceTree().end()) << path << " is excused and does not exist";
    EXPECT_GT(found->lines.size(), kLineCountMax) << path << " no longer needs its excuse";
    EXPECT_FALSE(reason.empty()) << path;
  }
}

// The first line of each function at the top level of `file` that is too long: from an
// unindented line that ends with an opening brace to the unindented closing one.
std::vector<size_t> LongFunctions(const SourceFile& file) {
  static const std::regex kOther("^(namespace|class|struct|enum|union|extern \"C\"|#)");
  std::vector<size_t> found;
  size_t start = 0;
  for (size_t i = 0; i < file.lines.size(); ++i) {
    const std::string& line = file.lines[i];
    if (line.empty() || line[0] == ' ') continue;
    if (line.starts_with('}') && start != 0) {
      if (i + 2 - start > kFunctionLineCountMax) found.push_back(start);
      start = 0;
    } else if (line.ends_with('{') && !std::regex_search(line, kOther)) {
      start = i + 1;
    }
  }
  return found;
}

TEST(Style, FunctionsFitAScreen) {
  for (const SourceFile& file : SourceTree()) {
    if (!file.is_cpp()) continue;
    for (size_t line : LongFunctions(file)) {
      ADD_FAILURE() << file.path << ":" << line << ": over " << kFunctionLineCountMax << " lines";
    }
  }
}

TEST(Style, NothingIsLeftForLater) {
  for (const SourceFile& file : SourceTree()) {
    for (size_t i = 0; i < file.lines.size(); ++i) {
      EXPECT_FALSE(std::regex_search(file.lines[i], kLeftForLater))
          << file.path << ":" << i + 1 << ": " << file.lines[i];
    }
  }
}

TEST(Style, LinesFitAndEndCleanly) {
  for (const SourceFile& file : SourceTree()) {
    if (!file.is_cpp()) continue;
    for (size_t i = 0; i < file.lines.size(); ++i) {
      const std::string& line = file.lines[i];
      // Characters, not bytes: the bytes that continue one in UTF-8 do not count.
      const auto columns =
          std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xc0) != 0x80; });
      EXPECT_LE(columns, 100) << file.path << ":" << i + 1;
      EXPECT_EQ(line.find('\t'), std::string::npos) << file.path << ":" << i + 1 << ": tab";
      EXPECT_FALSE(line.ends_with(' ') || line.ends_with('\r')) << file.path << ":" << i + 1;
    }
  }
}

// The theory of operation of each folder with code of ours.
TEST(Style, FoldersHaveReadmes) {
  std::set<std::string> readmes;
  for (const SourceFile& file : SourceTree()) {
    if (file.path.ends_with("/README.md")) {
      EXPECT_GT(file.lines.size(), 3u) << file.path << " explains nothing";
      readmes.insert(file.path);
    }
  }
  for (const std::string& folder : SourceFolders()) {
    const bool top = folder.find('/') == std::string::npos;
    const bool in_stack = folder.starts_with("stack/") && folder.find('/', 6) == std::string::npos;
    if (top || in_stack) {
      EXPECT_TRUE(readmes.contains(folder + "/README.md")) << folder << " has no README.md";
    }
  }
}

TEST(Style, TheTopHoldsOnlyWhatItMay) {
  const std::set<std::string> allowed = {
      "CMakeLists.txt", "CMakePresets.json", "LICENSE", "README.md", "third_party", "stack",
      "relay",          "publisher",         "bench",   "tests",     "tools"};
  const std::vector<std::string> names = TopLevel();
  for (const std::string& name : names) EXPECT_TRUE(allowed.contains(name)) << name;
  for (const char* name : {"CMakeLists.txt", "LICENSE", "README.md", "stack", "relay"}) {
    EXPECT_NE(std::find(names.begin(), names.end(), name), names.end()) << name << " is missing";
  }
}

// The rules themselves: each sees what it is for.
TEST(Style, RulesFindViolations) {
  SourceFile header{"relay/a.h",
                    {"#ifndef PENSTOCK_RELAY_A_H_", "#define PENSTOCK_RELAY_A_H_",
                     "#endif  // PENSTOCK_RELAY_A_H_"}};
  EXPECT_EQ(GuardFault(header), "");
  header.path = "relay/b.h";
  EXPECT_NE(GuardFault(header), "");
  EXPECT_NE(GuardFault({"relay/a.h", {"// nothing"}}), "");
  EXPECT_TRUE(std::regex_search(std::string("// TO") + "DO: later", kLeftForLater));
  EXPECT_FALSE(std::regex_search(std::string("// to do it"), kLeftForLater));

  SourceFile function{"relay/a.cc", {"namespace penstock {", "void F() {"}};
  function.lines.insert(function.lines.end(), kFunctionLineCountMax - 2, "  G();");
  function.lines.push_back("}");
  EXPECT_TRUE(LongFunctions(function).empty());
  function.lines.insert(function.lines.begin() + 2, "  G();");
  EXPECT_EQ(LongFunctions(function), std::vector<size_t>{2});
}

}  // namespace
}  // namespace penstock
