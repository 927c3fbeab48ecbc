// third_party/lwip/thread_local.py guards every build against a global of lwIP that
// engines would share. Here it is shown what it has to refuse.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/places.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

class LwipThreadLocal : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "penstock-").string() + std::string(6, 'X');
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }

  struct Outcome {
    int status;
    std::string text;
  };

  // Runs a shell command in the test's folder.
  Outcome Run(const std::string& command) const {
    const fs::path log = folder_ / "log";
    const std::string line =
        "cd " + folder_.string() + " && (" + command + ") > " + log.string() + " 2>&1";
    const int status = std::system(line.c_str());
    std::ifstream file(log);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1,
            {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()}};
  }

  static std::string Script() {
    return "python3 " + SourcePath("third_party/lwip/thread_local.py ");
  }

  // Compiles `source`, together with enough thread-local variables to be taken for lwIP,
  // and checks the object.
  Outcome Check(const std::string& source) const {
    std::ofstream file(folder_ / "a.c");
    for (int i = 0; i < 30; ++i) file << "__thread int t" << i << ";\n";
    file << source << "\n";
    file.close();
    const Outcome compiled = Run("gcc -fPIC -c a.c");
    EXPECT_EQ(compiled.status, 0) << compiled.text;
    return Run(Script() + "check a.o");
  }

  // A copy of lwIP with one text of one file replaced, and what generate says to it.
  Outcome Generate(const std::string& path, const std::string& old_text,
                   const std::string& new_text) const {
    const Outcome copied =
        Run("mkdir lwip && cp -r " + LwipSourcePath("src") + " lwip/ && chmod -R u+w lwip");
    EXPECT_EQ(copied.status, 0) << copied.text;
    const fs::path file = folder_ / "lwip/src" / path;
    std::ifstream source(file);
    std::string text{std::istreambuf_iterator<char>(source), std::istreambuf_iterator<char>()};
    const size_t position = text.find(old_text);
    EXPECT_NE(position, std::string::npos) << path << " has no '" << old_text << "'";
    if (position != std::string::npos) text.replace(position, old_text.size(), new_text);
    std::ofstream(file) << text;
    return Run(Script() + "generate lwip copy");
  }

  fs::path folder_;
};

TEST_F(LwipThreadLocal, CheckAcceptsConstantsAndThreadLocals) {
  // A constant table of addresses is writable by section (.data.rel.ro), and that only.
  const Outcome outcome = Check(
      "const int table[2] = {1, 2}; static int F(void) { return 1; } "
      "int (*const addresses[])(void) = {F};");
  EXPECT_EQ(outcome.status, 0) << outcome.text;
}

TEST_F(LwipThreadLocal, CheckNamesEachKindOfSharedGlobal) {
  const Outcome outcome = Check(
      "int zeroed; int set = 7; static int hidden; int* F(void) { static int local = 1; "
      "return &hidden + local++; }");
  EXPECT_EQ(outcome.status, 1);
  for (const char* name : {"zeroed", "set", "hidden", "local"}) {
    EXPECT_NE(outcome.text.find(name), std::string::npos) << name << " is missing:\n"
                                                          << outcome.text;
  }
}

TEST_F(LwipThreadLocal, CheckRefusesObjectsWithoutThreadLocals) {
  std::ofstream(folder_ / "a.c") << "int F(void) { return 1; }\n";
  EXPECT_EQ(Run("gcc -c a.c").status, 0);
  EXPECT_EQ(Run(Script() + "check a.o").status, 1);
}

TEST_F(LwipThreadLocal, GenerateRefusesADefinitionThatIsGone) {
  const Outcome outcome = Generate("core/tcp.c", "u32_t tcp_ticks;", "u32_t tcp_clock;");
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.text.find("tcp_ticks"), std::string::npos) << outcome.text;
}

TEST_F(LwipThreadLocal, GenerateRefusesADefinitionThatIsThereTwice) {
  const Outcome outcome =
      Generate("core/tcp_in.c", "static u8_t flags;", "static u8_t flags;\nstatic u8_t flags;");
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.text.find("2 times"), std::string::npos) << outcome.text;
}

TEST_F(LwipThreadLocal, GenerateRefusesAnotherVersion) {
  const Outcome outcome = Generate("include/lwip/init.h", "#define LWIP_VERSION_REVISION   1",
                                   "#define LWIP_VERSION_REVISION   0");
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.text.find("2.2.0"), std::string::npos) << outcome.text;
}

}  // namespace
}  // namespace penstock
