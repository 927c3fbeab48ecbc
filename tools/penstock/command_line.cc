#include "tools/penstock/command_line.h"

#include <algorithm>

#include "tools/penstock/control_socket.h"

namespace penstock::tool {

absl::StatusOr<std::optional<HelpText>> Parse(CLI::App& app, std::vector<std::string> arguments) {
  std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
  try {
    app.parse(arguments);
  } catch (const CLI::CallForHelp&) {
    const auto chosen = app.get_subcommands();
    return HelpText{chosen.empty() ? app.help() : chosen.front()->help()};
  } catch (const CLI::ParseError& error) {
    return Wrong(error.what(), " (`penstock --help` shows what there is)");
  }
  return std::nullopt;
}

void AddClientIdentity(CLI::App& app, std::string& text) {
  app.add_option("--client-identity", text,
                 "Whom the sandbox sees as the client: gateway (default),\n"
                 "preserve-source (the client), proxy-protocol (the gateway,\n"
                 "and a PROXY protocol v2 header with the client)")
      ->type_name("IDENTITY")
      ->group("Published ports");
}

absl::StatusOr<ClientIdentity> IdentityOf(const std::string& text) {
  if (text.empty()) return ClientIdentity::kGateway;
  if (const std::optional<ClientIdentity> identity = ClientIdentityNamed(text)) return *identity;
  return Wrong("--client-identity is \"", text,
               "\": it must be gateway, preserve-source or proxy-protocol");
}

void AddControl(CLI::App& app, std::string& path) {
  app.add_option("--control", path, "The socket of the penstock that is meant")->type_name("PATH");
}

absl::Status CheckControl(const std::string& path) {
  if (!path.empty()) return CheckControlPath(path);
  return Wrong("--control PATH is missing: give the path that the penstock was started with");
}

}  // namespace penstock::tool
