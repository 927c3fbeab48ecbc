#include "stack/c_abi/boundary.h"

#include <string_view>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace penstock::c_abi {
namespace {

// A small struct and a huge one are a caller that forgot struct_size.
constexpr size_t kStructBytesMax = 65'536;

struct Error {
  std::string sentence;
  bool no_memory = false;  // for the sentence
};
thread_local Error last_error;

penstock_status NumberOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return PENSTOCK_OK;
    case absl::StatusCode::kInvalidArgument:
      return PENSTOCK_INVALID_ARGUMENT;
    case absl::StatusCode::kNotFound:
      return PENSTOCK_NOT_FOUND;
    case absl::StatusCode::kAlreadyExists:
      return PENSTOCK_ALREADY_EXISTS;
    case absl::StatusCode::kPermissionDenied:
      return PENSTOCK_PERMISSION_DENIED;
    case absl::StatusCode::kResourceExhausted:
      return PENSTOCK_EXHAUSTED;
    case absl::StatusCode::kUnavailable:
      return PENSTOCK_UNAVAILABLE;
    default:
      return PENSTOCK_INTERNAL;
  }
}

}  // namespace

penstock_status Tell(const absl::Status& status) noexcept {
  if (status.ok()) return PENSTOCK_OK;
  try {
    last_error.sentence.assign(status.message().data(), status.message().size());
    last_error.no_memory = false;
  } catch (const std::bad_alloc&) {
    last_error.no_memory = true;
  }
  return NumberOf(status.code());
}

penstock_status TellNull(const char* what) noexcept {
  return Guarded([&] { return absl::InvalidArgumentError(absl::StrCat(what, " is NULL")); });
}

const char* LastError() noexcept {
  return last_error.no_memory ? "out of memory" : last_error.sentence.c_str();
}

absl::Status CheckSizes(const char* name, const void* from, size_t from_bytes, size_t known_bytes) {
  if (from_bytes < sizeof(uint64_t) || from_bytes > kStructBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(name, ".struct_size is ", from_bytes,
                                                   ": set it to sizeof(struct ", name, ")"));
  }
  const auto* bytes = static_cast<const unsigned char*>(from);
  for (size_t i = known_bytes; i < from_bytes; ++i) {
    if (bytes[i] == 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(name, " has a field set at byte ", i, " that this library (",
                     PENSTOCK_VERSION_MAJOR, ".", PENSTOCK_VERSION_MINOR, ".",
                     PENSTOCK_VERSION_PATCH, ") does not have: leave it 0, or use a newer one"));
  }
  return absl::OkStatus();
}

penstock_endpoint EndpointOf(const Endpoint& endpoint) {
  penstock_endpoint result{};
  if (endpoint == Endpoint{}) return result;
  std::memcpy(result.address, endpoint.address.bytes.data(), sizeof result.address);
  result.port = endpoint.port;
  result.family = static_cast<uint8_t>(endpoint.address.family);
  return result;
}

absl::StatusOr<std::shared_ptr<const Policy>> PolicyOf(const char* text, const char* source) {
  if (text == nullptr) return std::shared_ptr<const Policy>();
  if (std::shared_ptr<const Policy> profile = Policy::Profile(text); profile != nullptr) {
    return profile;
  }
  return Policy::Parse(text, source);
}

}  // namespace penstock::c_abi

extern "C" {

uint32_t penstock_version() { return PENSTOCK_VERSION; }

const char* penstock_last_error() { return penstock::c_abi::LastError(); }

}  // extern "C"
