// The program behind `./tools/dev sim`: runs seeds of the simulated world, repeats one
// with a trace and a capture, makes a failing one smaller and keeps it as a test.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <random>
#include <string>
#include <thread>

#include "tests/support/places.h"
#include "tests/world/runs.h"
#include "tests/world/scenario.h"

namespace penstock::world {
namespace {

struct Options {
  std::optional<uint64_t> seed;
  std::string file;
  uint64_t runs = 0;
  bool fresh = false;
  unsigned jobs = std::max(1u, std::thread::hardware_concurrency());
  uint64_t failures_max = 8;
  RunFiles files;
  std::string out;
  bool print = false;
  bool shrink = false;
  int shrink_runs = 600;
  std::string keep;
};

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

int Fail(const std::string& what) {
  std::cerr << "sim: " << what << "\n";
  return 2;
}

Scenario MakeSmaller(const Scenario& scenario, int runs_max) {
  std::cerr << "shrinking, at most " << runs_max << " runs\n";
  size_t steps = 0;
  Scenario small = Shrink(
      scenario, runs_max,
      [](const Scenario& candidate) { return !RunScenario(candidate).violation.empty(); },
      [&](const Scenario& better) {
        if (++steps % 10 == 0)
          std::cerr << "  " << steps << " steps, " << better.flows.size() << " flows\n";
      });
  return small;
}

// Of the first seed that failed: what it takes to fail.
void ShowSmaller(const Options& options, const FailedSeed& failed) {
  const Scenario small = MakeSmaller(DrawScenario(failed.seed), options.shrink_runs);
  const std::string violation = RunScenario(small).violation;
  std::cout << "the smallest that was found of seed " << failed.seed << ":\n"
            << ToText(small) << "FAILED: " << violation
            << "\nto look at it:  --seed=" << failed.seed
            << "   to keep it as a test:  --seed=" << failed.seed << " --shrink --keep=NAME\n";
}

int RunMany(const Options& options) {
  uint64_t first = options.seed.value_or(1);
  if (options.fresh) first = std::random_device{}() * uint64_t{1'000'000};
  const Time begin = Clock::now();
  Time told = begin;
  const ManyOutcome outcome = RunSeeds(
      first, options.runs, options.jobs, options.failures_max, [&](const ManyProgress& progress) {
        const Time now = Clock::now();
        if (now - told < std::chrono::seconds(5)) return;
        told = now;
        std::cerr << progress.done << " of " << options.runs << " seeds, " << progress.failed
                  << " failed, " << static_cast<double>(progress.done) / Seconds(now - begin)
                  << " seeds/s\n";
      });
  for (const FailedSeed& failed : outcome.failed) {
    std::cout << "seed " << failed.seed << ": " << failed.violation << "\n";
  }
  const double took = Seconds(Clock::now() - begin);
  if (!outcome.failed.empty() && options.shrink_runs > 0) ShowSmaller(options, outcome.failed[0]);
  const uint64_t done = outcome.green + outcome.failed_count;
  std::printf(
      "%llu of %llu seeds green (%llu to %llu), %.1f seeds/s, %.1f simulated hours in %.1f s, "
      "%.1f million steps\n",
      static_cast<unsigned long long>(outcome.green), static_cast<unsigned long long>(options.runs),
      static_cast<unsigned long long>(first),
      static_cast<unsigned long long>(first + options.runs - 1), static_cast<double>(done) / took,
      Seconds(outcome.virtual_time) / 3600, took, static_cast<double>(outcome.steps) / 1e6);
  return outcome.green == options.runs ? 0 : 1;
}

absl::StatusOr<Scenario> ReadScenario(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError("cannot read " + path);
  auto scenario = ParseScenario(std::string(std::istreambuf_iterator<char>(file), {}));
  if (!scenario.ok())
    return absl::InvalidArgumentError(path + ": " + std::string(scenario.status().message()));
  return scenario;
}

int Keep(const Options& options, const Scenario& scenario, const std::string& violation) {
  const std::string path = SourcePath("tests/simulation/kept/" + options.keep + ".scenario");
  if (std::filesystem::exists(path)) return Fail(path + " exists already");
  std::ofstream file(path);
  file << "# " << violation.substr(0, violation.find('\n')) << "\n" << ToText(scenario);
  if (!file.flush()) return Fail("cannot write " + path);
  std::cout << "kept as " << path << ": say in its first line what was wrong\n";
  return 1;
}

RunFiles FilesFor(const Options& options, const Scenario& scenario) {
  RunFiles files = options.files;
  if (options.out.empty()) return files;
  std::filesystem::create_directories(options.out);
  const std::string base = options.out + "/seed-" + std::to_string(scenario.seed);
  if (files.trace.empty()) files.trace = base + ".txt";
  if (files.capture.empty()) files.capture = base + ".pcapng";
  return files;
}

int RunOne(const Options& options) {
  Scenario scenario = DrawScenario(options.seed.value_or(1));
  if (!options.file.empty()) {
    auto read = ReadScenario(options.file);
    if (!read.ok()) return Fail(std::string(read.status().message()));
    scenario = *std::move(read);
  }
  if (options.print) {
    std::cout << ToText(scenario);
    return 0;
  }
  const RunFiles files = FilesFor(options, scenario);
  RunOutcome outcome = RunScenario(scenario, files);
  if (!files.trace.empty()) std::cout << "trace: " << files.trace << "\n";
  if (!files.capture.empty()) std::cout << "capture: " << files.capture << "\n";
  if (outcome.violation.empty()) {
    std::printf("green: %llu steps, %.3f virtual seconds, digest %016llx\n",
                static_cast<unsigned long long>(outcome.steps), Seconds(outcome.virtual_time),
                static_cast<unsigned long long>(outcome.digest));
    return 0;
  }
  if (options.shrink) {
    scenario = MakeSmaller(scenario, options.shrink_runs);
    outcome = RunScenario(scenario, files);
  }
  std::cout << ToText(scenario) << "FAILED: " << outcome.violation << "\n";
  if (!options.keep.empty()) return Keep(options, scenario, outcome.violation);
  return 1;
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app{
      "Runs penstock's stack in a simulated world: bad links, scripted hosts, a guest with a TCP\n"
      "of its own, virtual time. The same seed is the same run, on every machine.\n\n"
      "  sim --runs=1000               seeds 1 to 1000, on all cores\n"
      "  sim --seed=17 --trace=t.txt   one seed, with a trace to read\n"
      "  sim --seed=17 --shrink        a smaller scenario that fails as well\n"
      "  sim --seed=17 --shrink --keep=lost_fin   and keep it as a test\n"};
  app.add_option("--seed", options.seed, "the seed, or the first of --runs");
  app.add_option("--scenario", options.file, "a file instead of a seed");
  app.add_option("--runs", options.runs, "how many seeds");
  app.add_flag("--fresh", options.fresh, "with --runs: seeds that nobody has run before");
  app.add_option("--jobs", options.jobs, "runs at a time")->check(CLI::PositiveNumber);
  app.add_option("--failures", options.failures_max, "stop after so many");
  app.add_option("--trace", options.files.trace, "what happened, line by line");
  app.add_option("--pcap", options.files.capture, "the guest's link, for Wireshark (pcapng)");
  app.add_option("--out", options.out,
                 "one seed: a folder for both of them (tools/dev: build/sim)");
  app.add_flag("--print", options.print, "show the scenario, do not run it");
  app.add_flag("--shrink", options.shrink, "make a failing scenario smaller");
  app.add_option("--shrink-runs", options.shrink_runs,
                 "at most so many runs for that; after --runs, too; 0: not");
  app.add_option("--keep", options.keep, "write it to tests/simulation/kept/NAME.scenario");
  CLI11_PARSE(app, argc, argv);
  return options.runs > 0 ? RunMany(options) : RunOne(options);
}

}  // namespace
}  // namespace penstock::world

int main(int argc, char** argv) {
  try {
    return penstock::world::Main(argc, argv);
  } catch (const std::exception& failure) {
    std::cerr << "sim: " << failure.what() << "\n";
    return 2;
  }
}
