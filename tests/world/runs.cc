#include "tests/world/runs.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iostream>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "tests/world/child.h"
#include "tests/world/random.h"
#include "tests/world/world.h"

namespace penstock::world {
namespace {

// What processes that are forked from here share.
template <typename T>
class Shared final {
 public:
  Shared() {
    void* memory =
        mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
    value_ = new (memory) T;
  }
  ~Shared() { munmap(value_, sizeof(T)); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  T* operator->() { return value_; }

 private:
  T* value_;
};

uint64_t DigestOf(const WorldResult& result) {
  uint64_t digest = Mix(result.steps) ^ Mix(static_cast<uint64_t>(result.virtual_time.count()));
#define PENSTOCK_X(field, help) digest = Mix(digest ^ result.counters.field);
  PENSTOCK_COUNTERS(PENSTOCK_X)
#undef PENSTOCK_X
  for (const uint64_t drops : result.counters.drops) digest = Mix(digest ^ drops);
  return digest;
}

struct Figures {
  uint64_t steps = 0;
  int64_t virtual_nanoseconds = 0;
  uint64_t digest = 0;
};

void Play(const Scenario& scenario, const RunFiles& files, Figures& figures) {
  Trace trace;
  std::unique_ptr<PcapngWriter> capture;
  if (!files.capture.empty()) {
    auto created = PcapngWriter::Create(files.capture, PcapngWriter::LinkType::kEthernet);
    if (!created.ok()) throw std::runtime_error(created.status().ToString());
    capture = *std::move(created);
  }
  const auto write_trace = [&] {
    if (files.trace.empty()) return;
    std::ofstream file(files.trace);
    file << ToText(scenario);
    for (const std::string& line : trace.lines()) file << line << "\n";
    if (!file.flush()) throw std::runtime_error("cannot write " + files.trace);
  };
  try {
    World world(scenario, files.trace.empty() ? nullptr : &trace, capture.get());
    const WorldResult result = world.Run();
    figures = {.steps = result.steps,
               .virtual_nanoseconds = result.virtual_time.count(),
               .digest = DigestOf(result)};
  } catch (...) {
    write_trace();
    throw;
  }
  write_trace();
}

}  // namespace

RunOutcome RunScenario(const Scenario& scenario, const RunFiles& files) {
  Shared<Figures> figures;
  RunOutcome outcome;
  outcome.violation = RunInChild([&] { Play(scenario, files, *figures.operator->()); }, kRunLimit);
  outcome.steps = figures->steps;
  outcome.virtual_time = std::chrono::nanoseconds(figures->virtual_nanoseconds);
  outcome.digest = figures->digest;
  return outcome;
}

// ---------------------------------------------------------------- many

namespace {

struct Board {
  static constexpr size_t kFailuresMax = 64;
  static constexpr size_t kTextMax = 4000;
  std::atomic<uint64_t> taken{0}, done{0}, green{0}, failed{0}, steps{0};
  std::atomic<int64_t> virtual_nanoseconds{0};
  struct Failure {
    std::atomic<uint64_t> seed{0};
    char text[kTextMax] = {};
  } failures[kFailuresMax];
};

void Note(Board& board, uint64_t seed, const RunOutcome& outcome) {
  if (outcome.violation.empty()) {
    board.green.fetch_add(1);
    board.steps.fetch_add(outcome.steps);
    board.virtual_nanoseconds.fetch_add(outcome.virtual_time.count());
  } else if (const uint64_t place = board.failed.fetch_add(1); place < Board::kFailuresMax) {
    // At once, for the table at the end may be hours away.
    const std::string& violation = outcome.violation;
    std::cout << absl::StrCat("seed ", seed, ": ", violation.substr(0, violation.find('\n')), "\n")
              << std::flush;
    std::strncpy(board.failures[place].text, outcome.violation.c_str(), Board::kTextMax - 1);
    board.failures[place].seed = seed;
  }
  board.done.fetch_add(1);
}

pid_t StartWorker(Board& board, uint64_t first, uint64_t count, uint64_t failures_max) {
  const pid_t worker = fork();
  if (worker < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (worker > 0) return worker;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  while (board.failed < failures_max) {
    const uint64_t number = board.taken.fetch_add(1);
    if (number >= count) break;
    RunOutcome outcome;
    try {
      outcome = RunScenario(DrawScenario(first + number));
    } catch (const std::exception& failure) {
      outcome.violation = failure.what();
    }
    Note(board, first + number, outcome);
  }
  _exit(0);
}

}  // namespace

ManyOutcome RunSeeds(uint64_t first, uint64_t count, unsigned jobs, uint64_t failures_max,
                     const std::function<void(const ManyProgress&)>& progress) {
  Shared<Board> shared;
  Board& board = *shared.operator->();
  std::vector<pid_t> workers;
  for (unsigned i = 0; i < std::max(jobs, 1u); ++i) {
    workers.push_back(StartWorker(board, first, count, failures_max));
  }
  while (!workers.empty()) {
    poll(nullptr, 0, 1000 / 10);
    std::erase_if(workers, [](pid_t worker) { return waitpid(worker, nullptr, WNOHANG) != 0; });
    if (progress) progress({.done = board.done, .failed = board.failed});
  }
  ManyOutcome outcome{.green = board.green,
                      .steps = board.steps,
                      .virtual_time = std::chrono::nanoseconds(board.virtual_nanoseconds.load()),
                      .failed = {},
                      .failed_count = board.failed};
  for (uint64_t i = 0; i < std::min<uint64_t>(board.failed, Board::kFailuresMax); ++i) {
    outcome.failed.push_back({board.failures[i].seed, board.failures[i].text});
  }
  std::sort(outcome.failed.begin(), outcome.failed.end(),
            [](const FailedSeed& a, const FailedSeed& b) { return a.seed < b.seed; });
  return outcome;
}

// ---------------------------------------------------------------- smaller

namespace {

// Tries smaller values of one number: the simplest, then half way to it.
template <typename Try>
bool ShrinkNumber(int64_t& value, int64_t simplest, const Try& still_fails) {
  bool smaller = false;
  const int64_t before = value;
  if (before == simplest) return false;
  value = simplest;
  if (still_fails()) return true;
  value = before;
  for (int64_t distance = (before - simplest) / 2; distance != 0; distance /= 2) {
    const int64_t kept = value;
    value = kept - distance;
    if (still_fails()) {
      smaller = true;
    } else {
      value = kept;
    }
  }
  return smaller;
}

}  // namespace

Scenario Shrink(Scenario scenario, int runs_max, const std::function<bool(const Scenario&)>& fails,
                const std::function<void(const Scenario&)>& progress) {
  int runs = 0;
  const auto still_fails = [&] {
    if (runs++ >= runs_max || !fails(scenario)) return false;
    if (progress) progress(scenario);
    return true;
  };
  for (bool smaller = true; smaller && runs < runs_max;) {
    smaller = false;
    for (size_t i = scenario.flows.size(); i-- > 0 && scenario.flows.size() > 1;) {
      // The others keep their ports, and with them their streams: an empty flow stays.
      const Scenario before = scenario;
      scenario.flows.erase(scenario.flows.begin() + static_cast<ptrdiff_t>(i));
      if (still_fails()) {
        smaller = true;
      } else {
        scenario = before;
      }
    }
    for (const WorldField& field : WorldFields()) {
      smaller |= ShrinkNumber(scenario.*field.member, field.simplest, still_fails);
    }
    for (FlowScript& flow : scenario.flows) {
      for (const FlowField& field : FlowFields()) {
        smaller |= ShrinkNumber(flow.*field.member, field.simplest, still_fails);
      }
    }
  }
  return scenario;
}

}  // namespace penstock::world
