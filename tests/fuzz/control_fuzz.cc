// Any bytes at both ends of the control socket. The first byte says which:
//
//   a server   the rest are requests, a line each, to a stack of the simulated world (no port
//              of this machine is opened); each gets one line, with "return" or "error"
//   a stream   where an object ends is the same however the bytes are cut
//   a client   the rest is what a server says: the lines are shown to people, as events and as
//              a table of flows
#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "relay/check.h"
#include "tests/world/rig.h"
#include "tools/penstock/control.h"
#include "tools/penstock/control_client.h"
#include "tools/penstock/control_protocol.h"
#include "tools/penstock/event_text.h"
#include "tools/penstock/flow_table.h"

namespace penstock {
namespace {

constexpr size_t kLinesMax = 16;

// One with little memory of its own: an input makes one.
std::unique_ptr<world::Rig> SmallRig() {
  world::RigOptions options;
  options.config.flow_count_max = options.config.half_open_count_max = 16;
  options.config.half_open_per_destination_max = 16;
  options.config.event_count_max = 4;
  options.config.dns.upstreams = {{IpAddress::V4(203, 0, 113, 53), 53}};
  return std::make_unique<world::Rig>(options);
}

template <typename Visitor>
void ForEachLine(std::string_view text, Visitor&& visit) {
  for (size_t lines = 0; lines < kLinesMax && !text.empty(); ++lines) {
    const size_t end = std::min(text.find('\n'), text.size());
    visit(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

void AsServer(std::string_view requests) {
  const std::unique_ptr<world::Rig> rig = SmallRig();
  ForEachLine(requests, [&](std::string_view request) {
    const tool::ControlServer::Reply reply = tool::AnswerRequest(request, rig->stack());
    PENSTOCK_CHECK(reply.text.find('\n') == reply.text.size() - 1);
    const auto answer = nlohmann::json::parse(reply.text, nullptr, false);
    PENSTOCK_CHECK(answer.is_object() && answer.size() == 1);
    const bool error = answer.contains("error");
    PENSTOCK_CHECK(error ? answer["error"]["desc"].is_string() : answer.contains("return"));
    PENSTOCK_CHECK(tool::ResultOf(reply.text, "here").ok() == !error);
    rig->Settle();
  });
}

void AsStream(std::string_view bytes) {
  tool::ObjectEnd whole, single;
  const std::optional<size_t> end = whole.Find(bytes);
  std::optional<size_t> found;
  for (size_t i = 0; i < bytes.size() && !found && !single.hopeless(); ++i) {
    if (single.Find(bytes.substr(i, 1))) found = i + 1;
  }
  PENSTOCK_CHECK(single.hopeless() ? whole.hopeless() : found == end);
  // What the parser takes for an object ends where it ends. (To the parser a zero is the end.)
  const bool plain = bytes.starts_with('{') && bytes.find('\0') == std::string_view::npos;
  if (plain && nlohmann::json::accept(bytes)) {
    PENSTOCK_CHECK(end && bytes.find_first_not_of(" \t\r\n", *end) == std::string_view::npos);
  }
}

void AsClient(std::string_view bytes) {
  tool::FlowTable table;
  ForEachLine(bytes, [&](std::string_view line) {
    (void)tool::EventText(line);
    const auto result = tool::ResultOf(std::string(line), "here");
    if (!result.ok()) return;
    (void)table.Show(result->value);
    (void)tool::TextOf(result->value, "bound");
    (void)tool::NumberOf(result->value, "flows_live");
  });
}

}  // namespace
}  // namespace penstock

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  if (size == 0) return 0;
  constexpr std::array kEnds = {&AsServer, &AsStream, &AsClient};
  kEnds[data[0] % kEnds.size()]({reinterpret_cast<const char*>(data) + 1, size - 1});
  return 0;
}
