// Uses the library as an embedder does.
#include "embedder.h"

#include <memory>
#include <string>
#include <utility>

#include "stack/link/frame_ring.h"
#include "stack/stack.h"

namespace {

std::string Run() {
  auto rings = penstock::FrameRings::Create({});
  if (!rings.ok()) return rings.status().ToString();
  auto stack = penstock::Stack::Create({}, std::move(rings->stack_end));
  if (!stack.ok()) return stack.status().ToString();
  (void)(*stack)->Poll(penstock::Clock::now());
  if (!(*stack)->Flows().empty()) return "a new stack has flows";
  return "";
}

}  // namespace

const char* RunEmbedder() {
  static const std::string fault = Run();
  return fault.c_str();
}
