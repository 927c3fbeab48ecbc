// One case for each script and family, made from the files that are there; and the
// tables in README.md, which must say what the scripts say.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <ostream>
#include <set>
#include <sstream>

#include "tests/conformance/player.h"
#include "tests/conformance/script.h"
#include "tests/conformance/script_files.h"

namespace penstock::conformance {
namespace {

struct Case {
  ScriptFile file;
  Family family;
};

// What GoogleTest calls the case in its report.
void PrintTo(const Case& value, std::ostream* out) { *out << value.file.name; }

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const ScriptFile& file : ReadScriptFiles()) {
    for (const Family family : {Family::kIpv4, Family::kIpv6}) cases.push_back({file, family});
  }
  return cases;
}

// "Rfc9293_3_5_three_way_handshake_Ipv4": letters, digits and '_' are all that
// GoogleTest allows.
std::string CaseName(const testing::TestParamInfo<Case>& info) {
  std::string name = info.param.file.name;
  std::ranges::replace_if(
      name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
  return name + (info.param.family == Family::kIpv4 ? "_Ipv4" : "_Ipv6");
}

class ConformanceTest : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Script, ConformanceTest, testing::ValuesIn(Cases()), CaseName);

TEST_P(ConformanceTest, Plays) {
  const auto& [file, family] = GetParam();
  try {
    Play(ParseScript(file.name + ".script", file.text, family));
  } catch (const std::exception& error) {
    FAIL() << error.what();
  }
}

// ---------------------------------------------------------------- what surrounds them

constexpr size_t kScriptsMin = 45;

TEST(ConformanceScripts, AreThere) { EXPECT_GE(ReadScriptFiles().size(), kScriptsMin); }

// A script is found by the rule that it shows: its first section is in its name.
TEST(ConformanceScripts, AreNamedAfterTheirRule) {
  for (const ScriptFile& file : ReadScriptFiles()) {
    const Script script = ParseScript(file.name, file.text, Family::kIpv4);
    const Section& first = script.sections.front();
    EXPECT_TRUE(file.name.starts_with("rfc" + std::to_string(first.rfc) + "_" + first.number + "_"))
        << file.name;
  }
}

// What stands in README.md between <!-- name --> and <!-- /name -->.
std::string ReadmePart(const std::string& name) {
  const std::string readme = ReadConformanceReadme();
  const std::string begin = "<!-- " + name + " -->\n", end = "<!-- /" + name + " -->";
  const size_t from = readme.find(begin), to = readme.find(end);
  if (from == std::string::npos || to == std::string::npos) return "";
  return readme.substr(from + begin.size(), to - from - begin.size());
}

// By number, not by letter: 3.10 comes after 3.9.
std::vector<int> NumbersOf(const std::string& section) {
  std::vector<int> numbers;
  std::istringstream parts(section);
  for (std::string part; std::getline(parts, part, '.');) numbers.push_back(std::stoi(part));
  return numbers;
}

// "| RFC 9293 3.5 | `three_way_handshake`, `...` |": the scripts that show each section.
std::string SectionTable() {
  std::map<std::pair<int, std::vector<int>>, std::pair<std::string, std::set<std::string>>> rows;
  for (const ScriptFile& file : ReadScriptFiles()) {
    for (const Section& section : ParseScript(file.name, file.text, Family::kIpv4).sections) {
      auto& [title, scripts] = rows[{section.rfc, NumbersOf(section.number)}];
      title = "RFC " + std::to_string(section.rfc) + " " + section.number;
      scripts.insert(file.name.substr(file.name.find('_', file.name.find('_') + 1) + 1));
    }
  }
  std::string table = "| section | scripts |\n| --- | --- |\n";
  for (const auto& [key, row] : rows) {
    table += "| " + row.first + " | ";
    for (const std::string& script : row.second) {
      table += (script == *row.second.begin() ? "`" : ", `") + script + "`";
    }
    table += " |\n";
  }
  return table;
}

TEST(ConformanceReadme, ListsTheSectionsOfTheScripts) {
  EXPECT_EQ(ReadmePart("sections"), SectionTable()) << "README.md must say:\n" << SectionTable();
}

// Each deviation stands in the table under its script's name, with the script's own
// sentence, and nothing else stands there.
TEST(ConformanceReadme, ListsTheDeviationsOfTheScripts) {
  std::istringstream lines(ReadmePart("deviations"));
  std::set<std::string> rows, expected;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("| `")) continue;
    // Script and sentence: the first two columns.
    const size_t second = line.find(" | ");
    rows.insert(line.substr(0, line.find(" | ", second + 3)));
  }
  for (const ScriptFile& file : ReadScriptFiles()) {
    const Script script = ParseScript(file.name, file.text, Family::kIpv4);
    if (script.deviation.empty()) continue;
    expected.insert("| `" + file.name + "` | " + script.deviation);
  }
  EXPECT_EQ(rows, expected);
}

}  // namespace
}  // namespace penstock::conformance
