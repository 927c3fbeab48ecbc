#include "tools/penstock/ports.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tools/penstock/service.h"

namespace penstock::tool {
namespace {

void Report(const PortSpec& spec, const std::vector<PublishedPort>& ports,
            ReportChosen report_chosen) {
  if (report_chosen == ReportChosen::kYes && spec.host == PortRange{}) {
    for (const PublishedPort& port : ports) Say(absl::StrCat("published ", PortText(port)));
  }
  if (ports.empty() || ports[0].exposure == Exposure::kLoopback) return;
  const std::string whom = ports[0].exposure == Exposure::kEverywhere ? std::string("this machine")
                                                                      : ToString(spec.place);
  Say(absl::StrCat("warning: ", ToString(spec), " is open to whoever reaches ", whom,
                   "; at 127.0.0.1 or [::1] it would be open to this machine only"));
}

}  // namespace

absl::StatusOr<std::vector<PublishedPort>> PublishAll(Stack& stack, std::span<const PortSpec> specs,
                                                      ReportChosen report_chosen) {
  std::vector<PublishedPort> all;
  std::vector<std::vector<PublishedPort>> each;
  for (const PortSpec& spec : specs) {
    absl::StatusOr<std::vector<PublishedPort>> ports = stack.Publish(spec);
    if (!ports.ok()) {
      std::vector<uint32_t> undone;
      undone.reserve(all.size());
      for (const PublishedPort& port : all) undone.push_back(port.id);
      // The ids are there: nobody else publishes or removes on this thread.
      if (!undone.empty()) (void)stack.Unpublish(undone, LiveFlows::kReset);
      return ports.status();
    }
    all.insert(all.end(), ports->begin(), ports->end());
    each.push_back(*std::move(ports));
  }
  // Not before all are there: what was undone has not been.
  for (size_t i = 0; i < specs.size(); ++i) Report(specs[i], each[i], report_chosen);
  return all;
}

absl::StatusOr<size_t> UnpublishAll(Stack& stack, std::span<const PortSelector> selectors,
                                    LiveFlows live) {
  const std::vector<PublishedPort> ports = stack.PublishedPorts();
  std::set<uint32_t> ids;
  for (const PortSelector& selector : selectors) {
    bool found = false;
    for (const PublishedPort& port : ports) {
      if (!Matches(selector, port)) continue;
      ids.insert(port.id);
      found = true;
    }
    if (!found) {
      return absl::NotFoundError(absl::StrCat("nothing is published as ", ToString(selector),
                                              ": `penstock ports list` shows what is"));
    }
  }
  const std::vector<uint32_t> selected(ids.begin(), ids.end());
  if (absl::Status s = stack.Unpublish(selected, live); !s.ok()) return s;
  return selected.size();
}

std::string BoundText(const PublishedPort& port) {
  std::string address = port.bound.address.ToString();
  if (!port.interface.empty()) absl::StrAppend(&address, "%", port.interface);
  if (port.bound.address.is_v6()) address = absl::StrCat("[", address, "]");
  return absl::StrCat(address, ":", port.bound.port);
}

std::string PortText(const PublishedPort& port) {
  return absl::StrCat(BoundText(port), " -> ", port.guest.ToString(), "/",
                      std::string(Name(port.protocol)));
}

std::string_view ExposureName(Exposure exposure) {
  switch (exposure) {
    case Exposure::kLoopback:
      return "loopback";
    case Exposure::kAddress:
      return "address";
    case Exposure::kInterface:
      return "interface";
    case Exposure::kEverywhere:
      return "everywhere";
  }
  return "?";
}

}  // namespace penstock::tool
