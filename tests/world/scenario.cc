#include "tests/world/scenario.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/world/random.h"

namespace penstock::world {

const std::vector<WorldField>& WorldFields() {
  static const std::vector<WorldField> fields{
#define PENSTOCK_X(field, simplest, largest, help) \
  {{#field, simplest, largest, help}, &Scenario::field},
      PENSTOCK_WORLD_FIELDS(PENSTOCK_X)
#undef PENSTOCK_X
  };
  return fields;
}

const std::vector<FlowField>& FlowFields() {
  static const std::vector<FlowField> fields{
#define PENSTOCK_X(field, simplest, largest, help) \
  {{#field, simplest, largest, help}, &FlowScript::field},
      PENSTOCK_FLOW_FIELDS(PENSTOCK_X)
#undef PENSTOCK_X
  };
  return fields;
}

// ---------------------------------------------------------------- from a seed

namespace {

// Where sizes meet sizes of the stack and the relay: the first read, blocks, segments,
// windows.
constexpr int64_t kEdges[] = {1,     2,     127,    128,    129,    1'023,  1'024,  1'025,
                              1'460, 4'096, 65'480, 65'495, 65'496, 65'535, 65'536, 131'072};

// Small numbers often, large ones seldom: evenly by magnitude; one in five at an edge.
int64_t Magnitude(Dice& dice, int64_t largest) {
  if (dice.PerMille(200)) return std::min(largest, dice.OneOf(kEdges) + dice.From(0, 1) * 128);
  int bits = 0;
  while ((int64_t{1} << bits) < largest) ++bits;
  return std::min<int64_t>(largest, dice.From(0, int64_t{1} << dice.From(0, bits)));
}

void DrawLink(Dice& dice, Scenario& world) {
  world.mtu = dice.OneOf<int64_t>({1280, 1500, 1500, 1500, 4000, 9000, 65520});
  world.offload = dice.From(0, 1);
  if (dice.PerMille(100)) world.path_mtu = dice.From(1280, world.mtu);
  if (dice.PerMille(400)) world.delay_us = Magnitude(dice, 100'000);
  if (dice.PerMille(200)) world.jitter_us = Magnitude(dice, 50'000);
  // One run in three has a good link: everything must then be quick.
  if (dice.PerMille(333)) return;
  if (dice.PerMille(500)) world.drop = dice.From(1, 60);
  if (dice.PerMille(300)) world.segment_drop = dice.From(1, 60);
  if (dice.PerMille(300)) world.duplicate = dice.From(1, 100);
  if (dice.PerMille(300)) world.reorder = dice.From(1, 100);
  if (dice.PerMille(300)) world.corrupt = dice.From(1, 60);
  if (dice.PerMille(100)) world.drop = dice.From(100, 400);
  if (world.drop > 60 || dice.PerMille(300)) world.bad_until_ms = dice.From(100, 30'000);
}

void DrawWorld(Dice& dice, Scenario& world) {
  world.form = dice.From(0, 2);
  if (dice.PerMille(500)) world.mid_pass = dice.From(1, 500);
  if (dice.PerMille(200)) world.relay_lag = dice.From(500, 995);
  if (dice.PerMille(200)) world.stack_lag = dice.From(500, 995);
  DrawLink(dice, world);
  if (dice.PerMille(250)) world.refuse = dice.From(1, 500);
  if (dice.PerMille(250)) world.buffer_kib = dice.OneOf<int64_t>({1024, 2048, 8192});
  if (dice.PerMille(100)) world.flow_max = dice.From(2, 8);
  if (dice.PerMille(100)) world.half_open_max = dice.From(1, 4);
  if (dice.PerMille(200)) world.guest_window_kib = dice.OneOf<int64_t>({2, 4, 16, 64});
  if (dice.PerMille(150)) {
    world.pause_at_ms = Magnitude(dice, 20'000);
    world.pause_ms = Magnitude(dice, 100'000);
  }
  if (dice.PerMille(300)) {
    world.strays = dice.From(1, 200);
    world.stray_gap_us = Magnitude(dice, 100'000) + 1;
  }
  if (dice.PerMille(200)) world.mac_unknown = 1;
  if (dice.PerMille(100)) {
    world.unpublish_at_ms = Magnitude(dice, 20'000) + 1;
    world.unpublish_reset = dice.From(0, 1);
  }
  if (dice.PerMille(50)) world.cut_at_ms = Magnitude(dice, 20'000) + 1;
}

void DrawEnds(Dice& dice, FlowScript& flow) {
  const auto end = [&](int64_t& kind, int64_t& at, int64_t bytes, int64_t other) {
    if (dice.PerMille(150)) kind = 1;
    if (dice.PerMille(200)) kind = 2;
    if (dice.PerMille(100)) kind = 3;
    if (kind == 1 || kind == 3) at = Magnitude(dice, std::max(bytes, other));
  };
  end(flow.guest_end, flow.guest_end_at, flow.guest_bytes, flow.host_bytes);
  end(flow.host_end, flow.host_end_at, flow.host_bytes, flow.guest_bytes);
}

void DrawPace(Dice& dice, FlowScript& flow) {
  for (int64_t* size : {&flow.guest_write, &flow.guest_read, &flow.host_write, &flow.host_read}) {
    if (dice.PerMille(300)) *size = Magnitude(dice, 65'535) + 1;
  }
  for (int64_t* pause :
       {&flow.guest_write_ms, &flow.guest_read_ms, &flow.host_write_ms, &flow.host_read_ms}) {
    if (dice.PerMille(200)) *pause = Magnitude(dice, 500);
  }
  if (dice.PerMille(200)) {
    flow.guest_stall_at = Magnitude(dice, flow.host_bytes);
    flow.guest_stall_ms = Magnitude(dice, 100'000);
  }
  if (dice.PerMille(200)) {
    flow.host_stall_at = Magnitude(dice, flow.guest_bytes);
    flow.host_stall_ms = Magnitude(dice, 100'000);
  }
}

void DrawInbound(Dice& dice, FlowScript& flow) {
  flow.inbound = 1;
  flow.answer_ms = 0;
  if (flow.answer > 0) flow.answer = dice.OneOf<int64_t>({1, 3, 4});
  flow.client_away = dice.From(0, 1);
  flow.identity = dice.From(0, 2);
  if (dice.PerMille(200)) flow.accept_errors = dice.From(1, 20);
}

void DrawUdp(Dice& dice, Scenario& world) {
  world.udp_ports = dice.From(1, 4);
  world.udp_peers = dice.PerMille(200) ? dice.From(1, 50) : dice.From(1, 5);
  world.udp_datagrams = dice.From(1, 20);
  world.udp_bytes = dice.PerMille(200) ? Magnitude(dice, 65'507 - 64) + 64 : dice.From(64, 4'000);
  world.udp_gap_us = Magnitude(dice, 5'000'000) + 1;
  if (dice.PerMille(200)) world.udp_burst = dice.From(2, 200);
  // Some thousand frames at most, so that a run stays short.
  const int64_t frames = world.udp_bytes / 1'000 + 1;
  const auto too_many = [&] {
    return world.udp_ports * world.udp_peers * world.udp_datagrams * world.udp_burst * frames >
           3'000;
  };
  while (too_many() && world.udp_datagrams > 1) world.udp_datagrams = (world.udp_datagrams + 1) / 2;
  while (too_many() && world.udp_burst > 1) world.udp_burst = (world.udp_burst + 1) / 2;
  while (too_many() && world.udp_peers > 1) world.udp_peers = (world.udp_peers + 1) / 2;
  if (dice.PerMille(500)) world.udp_answer_ms = Magnitude(dice, 10'000);
  world.udp_identity = dice.From(0, 2);
  world.udp_away = dice.From(0, 1);
  if (dice.PerMille(300)) world.udp_peer_max = dice.From(1, 8);
  if (dice.PerMille(400)) world.udp_timeout_ms = Magnitude(dice, 10'000) + 1;
  if (dice.PerMille(200)) world.udp_errors = dice.From(1, 300);
  if (dice.PerMille(200)) world.udp_full = dice.From(1, 500);
  if (dice.PerMille(200)) world.udp_batch = dice.From(1, 40);
}

void DrawGuest(Dice& dice, Scenario& world) {
  world.guest_asks = dice.PerMille(200) ? dice.From(1, 16) : dice.From(1, 5);
  world.guest_hosts = dice.From(1, 4);
  world.guest_questions = dice.From(1, 20);
  if (dice.PerMille(300)) world.guest_burst = dice.From(2, 100);
  world.guest_bytes = dice.PerMille(200) ? Magnitude(dice, 60'000 - 64) + 64 : dice.From(64, 2'000);
  world.guest_gap_us = Magnitude(dice, 5'000'000) + 1;
  const int64_t frames = world.guest_bytes / 1'000 + 1;
  const auto too_many = [&] {
    return world.guest_asks * world.guest_questions * world.guest_burst * frames > 2'000;
  };
  while (too_many() && world.guest_questions > 1) {
    world.guest_questions = (world.guest_questions + 1) / 2;
  }
  while (too_many() && world.guest_burst > 1) world.guest_burst = (world.guest_burst + 1) / 2;
  while (too_many() && world.guest_asks > 1) world.guest_asks = (world.guest_asks + 1) / 2;
  if (dice.PerMille(600)) world.guest_answer_ms = Magnitude(dice, 20'000);
  if (dice.PerMille(400)) world.guest_timeout_ms = Magnitude(dice, 10'000) + 1;
  if (dice.PerMille(300)) world.guest_mapping_max = dice.From(1, 4);
  if (dice.PerMille(400)) world.guest_filtering = dice.From(1, 2);
  if (dice.PerMille(400)) world.guest_faults = dice.From(1, 500);
  if (dice.PerMille(200)) world.guest_errors = dice.From(1, 300);
  if (dice.PerMille(200)) world.guest_no_socket = dice.From(1, 500);
  if (dice.PerMille(200)) world.guest_full = dice.From(1, 500);
  if (dice.PerMille(200)) world.guest_batch = dice.From(1, 40);
  if (dice.PerMille(500)) world.guest_join = dice.From(2, 64);
}

void DrawDns(Dice& dice, Scenario& world) {
  world.dns_clients = dice.PerMille(150) ? dice.From(60, 90) : dice.From(1, 8);
  world.dns_questions = dice.PerMille(200) ? dice.From(100, 400) : dice.From(1, 20);
  if (dice.PerMille(500)) world.dns_burst = dice.From(2, 200);
  const bool flood = dice.PerMille(200);  // of more short questions than are ever taken at once
  if (flood) {
    world.dns_questions = dice.From(150, 600);
    world.dns_burst = 200;
  }
  world.dns_gap_us = Magnitude(dice, 5'000'000) + 1;
  world.dns_bytes = dice.PerMille(200) ? Magnitude(dice, 65'535 - 64) + 64 : dice.From(64, 1'000);
  if (flood) world.dns_bytes = dice.From(6, 20);
  const auto too_many = [&] {
    return world.dns_clients * world.dns_questions * (world.dns_bytes / 1'000 + 1) > 2'000;
  };
  while (too_many() && world.dns_questions > 1) world.dns_questions = (world.dns_questions + 1) / 2;
  if (dice.PerMille(600)) world.dns_answer_ms = Magnitude(dice, 20'000);
  if (dice.PerMille(300)) world.dns_silent = dice.From(1, 300);
  if (dice.PerMille(400)) world.dns_rude = dice.From(1, 500);
  if (dice.PerMille(300)) world.dns_buffer = Magnitude(dice, 20'000) + 1;
  if (dice.PerMille(300)) world.dns_call = Magnitude(dice, 5'000) + 1;
  if (dice.PerMille(150)) world.dns_no_pair = dice.From(1, 500);
  // A connection is of some hundred turns at most, so that a run stays short.
  for (const int64_t step : {world.dns_buffer, world.dns_call}) {
    if (step == 0) continue;
    world.dns_bytes = std::min(world.dns_bytes, std::max<int64_t>(step * 100, 20));
    world.dns_questions =
        std::clamp<int64_t>(step * 1'000 / world.dns_bytes, 1, world.dns_questions);
  }
}

// Half of the guest's connections say something that is read as HTTP, some of them slowly, or
// not all of it; half of those to a host that lets the guest speak first.
void DrawSaying(Dice& dice, FlowScript& flow) {
  flow.says = dice.From(1, 2);
  if (dice.PerMille(800)) flow.guest_bytes = std::max<int64_t>(flow.guest_bytes, 40);
  if (dice.PerMille(400)) {
    flow.guest_write = dice.From(1, 20);
    flow.guest_write_ms = dice.OneOf<int64_t>({0, 50, 100, 250, 500, 1'000, 2'500});
    flow.guest_bytes = std::min(flow.guest_bytes, flow.guest_write * 300);
  }
  if (dice.PerMille(500)) {
    flow.host_bytes = 0;
    flow.host_end = 2;
  }
}

void DrawPolicy(Dice& dice, Scenario& world) {
  world.policy = 1;
  world.denial_answer = dice.From(0, 2);
  world.event_max = dice.PerMille(200) ? dice.From(1, 8) : 4'096;
  if (dice.PerMille(500)) world.policy_at_ms = Magnitude(dice, 20'000) + 1;
  for (FlowScript& flow : world.flows) {
    if (dice.PerMille(150)) flow.answer = 5;
    if (flow.inbound == 0 && dice.PerMille(500)) DrawSaying(dice, flow);
    if (world.policy_at_ms > 0 && dice.PerMille(400)) flow.deny_later = 1;
  }
}

// From less than a round trip to longer than every limit.
void DrawJump(Dice& dice, Scenario& world) {
  world.jump_at_ms = Magnitude(dice, 20'000);
  switch (dice.From(0, 3)) {
    case 0:
      world.jump_ms = dice.From(1, 1'000);
      break;
    case 1:
      world.jump_ms = dice.From(1, 60) * 1'000;
      break;
    case 2:
      world.jump_ms = dice.From(1, 60) * 60'000;
      break;
    default:
      world.jump_ms = dice.From(1, 10) * 3'600'000;
  }
}

FlowScript DrawFlow(Dice& dice) {
  FlowScript flow;
  flow.at_ms = dice.PerMille(500) ? 0 : Magnitude(dice, 10'000);
  flow.ipv6 = dice.From(0, 1);
  if (dice.PerMille(200)) flow.answer = dice.From(1, 4);
  if (dice.PerMille(300)) flow.answer_ms = Magnitude(dice, 40'000);
  if (dice.PerMille(800)) flow.guest_bytes = Magnitude(dice, 1 << 20);
  if (dice.PerMille(800)) flow.host_bytes = Magnitude(dice, 1 << 20);
  DrawPace(dice, flow);
  DrawEnds(dice, flow);
  if (dice.PerMille(200)) flow.send_buffer = Magnitude(dice, 65'536) + 1;
  if (dice.PerMille(200)) flow.short_write = Magnitude(dice, 20'000) + 1;
  if (dice.PerMille(200)) flow.short_read = Magnitude(dice, 20'000) + 1;
  if (dice.PerMille(200)) flow.interrupt_every = dice.From(2, 20);
  if (dice.PerMille(150)) {
    flow.again = dice.From(1, 3);
    flow.again_ms = Magnitude(dice, 20'000);
  }
  if (dice.PerMille(333)) DrawInbound(dice, flow);
  // A transfer is of some hundred turns at most, so that a run stays short.
  const auto bound = [](int64_t& bytes, int64_t step, int64_t pause, int64_t turns) {
    if (step < 1000 || pause > 0) bytes = std::min(bytes, step * turns);
  };
  bound(flow.guest_bytes, flow.guest_write, flow.guest_write_ms, 300);
  bound(flow.guest_bytes, flow.host_read, flow.host_read_ms, 300);
  bound(flow.host_bytes, flow.host_write, flow.host_write_ms, 300);
  bound(flow.host_bytes, flow.guest_read, flow.guest_read_ms, 300);
  for (const int64_t step : {flow.short_write, flow.send_buffer}) {
    if (step > 0) flow.guest_bytes = std::min(flow.guest_bytes, step * 1000);
  }
  if (flow.short_read > 0) flow.host_bytes = std::min(flow.host_bytes, flow.short_read * 1000);
  return flow;
}

}  // namespace

Scenario DrawScenario(uint64_t seed) {
  Dice dice(seed);
  Scenario scenario;
  scenario.seed = seed;
  DrawWorld(dice, scenario);
  const int64_t count = dice.PerMille(500) ? dice.From(1, 3) : dice.From(1, 12);
  for (int64_t i = 0; i < count; ++i) scenario.flows.push_back(DrawFlow(dice));
  // Last, so that a seed's other numbers are what they were before there were these.
  if (dice.PerMille(200)) scenario.fragment = dice.From(1, 1000);
  if (scenario.strays > 0 && dice.PerMille(500)) scenario.stray_fragments = dice.From(1, 1000);
  if (dice.PerMille(400)) DrawUdp(dice, scenario);
  if (dice.PerMille(300)) DrawGuest(dice, scenario);
  if (dice.PerMille(300)) DrawDns(dice, scenario);
  if (dice.PerMille(350)) DrawPolicy(dice, scenario);
  if (dice.PerMille(120)) DrawJump(dice, scenario);
  return scenario;
}

// ---------------------------------------------------------------- text

namespace {

template <typename Fields, typename Object>
void Append(std::string& text, absl::string_view word, const Fields& fields, const Object& object) {
  absl::StrAppend(&text, word);
  for (const auto& field : fields) {
    const int64_t value = object.*field.member;
    if (value != field.simplest) absl::StrAppend(&text, " ", field.name, "=", value);
  }
  text += '\n';
}

template <typename Fields, typename Object>
std::string Assign(const Fields& fields, Object& object, absl::string_view word) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(word, absl::MaxSplits('=', 1));
  for (const auto& field : fields) {
    if (field.name != parts.first) continue;
    int64_t value;
    if (!absl::SimpleAtoi(parts.second, &value) || value < 0 || value > field.largest) {
      return absl::StrCat(field.name, " takes 0 to ", field.largest, ", not '", parts.second, "'");
    }
    object.*field.member = value;
    return "";
  }
  return absl::StrCat("there is no field '", parts.first, "'");
}

}  // namespace

std::string ToText(const Scenario& scenario) {
  std::string text = absl::StrCat("seed ", scenario.seed, "\n");
  Append(text, "world", WorldFields(), scenario);
  for (const FlowScript& flow : scenario.flows) Append(text, "flow", FlowFields(), flow);
  return text;
}

absl::StatusOr<Scenario> ParseScenario(absl::string_view text) {
  Scenario scenario;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = line.substr(0, line.find('#'));
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    if (words.empty()) continue;
    if (words[0] == "flow") scenario.flows.emplace_back();
    std::string wrong;
    if (words[0] == "seed") {
      if (words.size() != 2 || !absl::SimpleAtoi(words[1], &scenario.seed)) {
        wrong = "'seed' takes one whole number";
      }
    } else if (words[0] != "world" && words[0] != "flow") {
      wrong = absl::StrCat("a line begins with seed, world or flow, not '", words[0], "'");
    } else {
      for (size_t i = 1; i < words.size() && wrong.empty(); ++i) {
        wrong = words[0] == "world" ? Assign(WorldFields(), scenario, words[i])
                                    : Assign(FlowFields(), scenario.flows.back(), words[i]);
      }
    }
    if (!wrong.empty())
      return absl::InvalidArgumentError(absl::StrCat("line ", number, ": ", wrong));
  }
  return scenario;
}

}  // namespace penstock::world
