#include "tools/penstock/control_arguments.h"

namespace penstock::tool {

using nlohmann::json;

absl::Status CheckMembers(const json& object, const char* what,
                          std::initializer_list<const char*> names) {
  for (const auto& [key, value] : object.items()) {
    bool known = false;
    for (const char* name : names) known = known || key == name;
    if (known) continue;
    std::string list;
    for (const char* name : names) absl::StrAppend(&list, list.empty() ? "" : ", ", name);
    return WrongRequest(what, " holds \"", key, "\": it may hold ",
                        list.empty() ? "nothing" : list);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> StringOf(const json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) return std::string();
  if (!found->is_string()) return WrongRequest("\"", name, "\" must be a string");
  return found->get<std::string>();
}

absl::StatusOr<std::string> ChoiceOf(const json& object, const char* name,
                                     std::initializer_list<const char*> values) {
  absl::StatusOr<std::string> text = StringOf(object, name);
  if (!text.ok()) return text;
  if (text->empty()) return std::string(*values.begin());
  std::string list;
  for (size_t i = 0; const char* value : values) {
    if (*text == value) return text;
    ++i;
    absl::StrAppend(&list, i == 1 ? "" : i == values.size() ? " or " : ", ", value);
  }
  return WrongRequest("\"", name, "\" must be ", list);
}

absl::StatusOr<bool> FlagOf(const json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) return false;
  if (!found->is_boolean()) return WrongRequest("\"", name, "\" must be true or false");
  return found->get<bool>();
}

absl::StatusOr<std::optional<uint16_t>> PortOf(const json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) return std::optional<uint16_t>();
  const bool is_number = found->is_number_unsigned();
  const uint64_t number = is_number ? found->get<uint64_t>() : 0;
  if (number == 0 || number > 65'535) {
    return WrongRequest("\"", name, "\" must be a number of 1 to 65535");
  }
  return std::optional(static_cast<uint16_t>(number));
}

}  // namespace penstock::tool
