// What the parts of the command line share: options.cc and the others named *_options.cc.
#ifndef PENSTOCK_TOOLS_PENSTOCK_COMMAND_LINE_H_
#define PENSTOCK_TOOLS_PENSTOCK_COMMAND_LINE_H_

#include <CLI/CLI.hpp>
#include <initializer_list>
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

// The choice among `values` that is named `text`.
template <typename T>
absl::Status SetChoice(const std::string& option, const std::string& text,
                       std::initializer_list<std::pair<const char*, T>> values, T& chosen) {
  std::string names;
  for (size_t i = 0; const auto& [name, value] : values) {
    if (text == name) {
      chosen = value;
      return absl::OkStatus();
    }
    ++i;
    absl::StrAppend(&names, i == 1 ? "" : i == values.size() ? " or " : ", ", name);
  }
  return Wrong(option, " is \"", text, "\": it must be ", names);
}

// Reads `arguments` with `app` and lets whatever is wrong be a sentence. The help, if it
// was asked for.
[[nodiscard]] absl::StatusOr<std::optional<HelpText>> Parse(CLI::App& app,
                                                            std::vector<std::string> arguments);

void AddClientIdentity(CLI::App& app, std::string& text);
// The gateway if `text` is empty.
[[nodiscard]] absl::StatusOr<ClientIdentity> IdentityOf(const std::string& text);

// --control of an order to a penstock that runs.
void AddControl(CLI::App& app, std::string& path);
[[nodiscard]] absl::Status CheckControl(const std::string& path);

// `penstock serve ...` and the others, the command's word being the first argument.
[[nodiscard]] absl::StatusOr<Options> ParseServe(std::vector<std::string> arguments);
[[nodiscard]] absl::StatusOr<Options> ParsePorts(std::vector<std::string> arguments);
[[nodiscard]] absl::StatusOr<Options> ParseEvents(std::vector<std::string> arguments);
[[nodiscard]] absl::StatusOr<Options> ParseFlows(std::vector<std::string> arguments);
[[nodiscard]] absl::StatusOr<Options> ParsePolicyOrder(std::vector<std::string> arguments);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_COMMAND_LINE_H_
