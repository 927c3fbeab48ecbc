// What the two halves of the command line share (options.cc, ports_options.cc).
#ifndef PENSTOCK_TOOLS_PENSTOCK_COMMAND_LINE_H_
#define PENSTOCK_TOOLS_PENSTOCK_COMMAND_LINE_H_

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "publisher/port_spec.h"
#include "tools/penstock/options.h"

namespace penstock::tool {

// CLI11 2.1 makes the usage line up by itself, and knows no "--".
class Formatter final : public CLI::Formatter {
 public:
  explicit Formatter(std::string usage) : usage_(std::move(usage)) { column_width(34); }
  std::string make_usage(const CLI::App*, std::string) const override {
    return "Usage: " + usage_ + "\n";
  }

 private:
  const std::string usage_;
};

template <typename... Parts>
absl::Status Wrong(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

// Reads `arguments` with `app` and lets whatever is wrong be a sentence. The help, if it
// was asked for.
[[nodiscard]] absl::StatusOr<std::optional<HelpText>> Parse(CLI::App& app,
                                                            std::vector<std::string> arguments);

void AddClientIdentity(CLI::App& app, std::string& text);
// The gateway if `text` is empty.
[[nodiscard]] absl::StatusOr<ClientIdentity> IdentityOf(const std::string& text);

// `penstock ports ...`, the first argument being "ports".
[[nodiscard]] absl::StatusOr<Options> ParsePorts(std::vector<std::string> arguments);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_COMMAND_LINE_H_
