// The boundary of the C ABI: what its handles are, how a status becomes a number and a sentence,
// how structs of other versions are read and written. README.md is the theory of operation.
//
// Any thread; the last error is the thread's own.
#ifndef PENSTOCK_STACK_C_ABI_BOUNDARY_H_
#define PENSTOCK_STACK_C_ABI_BOUNDARY_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "relay/out_of_memory.h"
#include "stack/link/link.h"
#include "stack/penstock.h"
#include "stack/policy/policy.h"
#include "stack/stack.h"

// The handles are C's names, in no namespace.
struct penstock_link {
  std::unique_ptr<penstock::Link> link;
};

struct penstock_stack {
  std::unique_ptr<penstock::Stack> stack;
  // What the last event's texts point to: of the thread that takes events.
  penstock::Event event;
  std::string event_name;
  // The list of flows that was begun, and the last answer of penstock_explain.
  std::vector<penstock::FlowInfo> flows;
  penstock::Decision decision;
  std::string explanation;
};

namespace penstock::c_abi {

// Keeps the sentence for penstock_last_error. Never throws: where there is no memory for it, it
// is a shorter one.
penstock_status Tell(const absl::Status& status) noexcept;
penstock_status TellNull(const char* what) noexcept;
[[nodiscard]] const char* LastError() noexcept;

// What `work` returns, as a number; whatever it throws too.
template <typename Work>
penstock_status Guarded(Work&& work) noexcept {
  try {
    return Tell(work());
  } catch (const std::bad_alloc&) {
    return Tell(absl::Status(absl::StatusCode::kResourceExhausted, "out of memory"));
  } catch (const std::exception& error) {
    return Tell(absl::Status(absl::StatusCode::kInternal, error.what()));
  } catch (...) {
    return Tell(absl::Status(absl::StatusCode::kInternal, "an exception of no known type"));
  }
}

// The same for what has no status: without memory the process ends with a sentence, as a pass
// of the stack does; nothing else is thrown by what is called so.
template <typename Work>
auto WithoutThrowing(Work&& work) noexcept -> decltype(work()) {
  return OrEndWithoutMemory(std::forward<Work>(work));
}

absl::Status CheckSizes(const char* name, const void* from, size_t from_bytes, size_t known_bytes);

// A struct as its caller's header has it, in this one's form: what it does not have is 0.
// InvalidArgument: what this one does not have is not 0.
template <typename Struct>
absl::Status ReadSized(const char* name, const Struct* from, Struct& out) {
  out = {};
  if (absl::Status status = CheckSizes(name, from, from->struct_size, sizeof out); !status.ok()) {
    return status;
  }
  std::memcpy(&out, from, std::min<size_t>(from->struct_size, sizeof out));
  return absl::OkStatus();
}

// The other way: no more than the caller's header has; what only that one has becomes 0.
template <typename Struct>
void WriteSized(Struct value, Struct* to) {
  const uint32_t size = to->struct_size;
  value.struct_size = size;
  std::memcpy(to, &value, std::min<size_t>(size, sizeof value));
  if (size > sizeof value) {
    std::memset(reinterpret_cast<char*>(to) + sizeof value, 0, size - sizeof value);
  }
}

// Whether the caller has said how large the struct is that is to be filled; if not, that is the
// last error.
template <typename Struct>
[[nodiscard]] bool HasSize(const char* name, const Struct* to) noexcept {
  return Guarded([&] { return CheckSizes(name, to, to->struct_size, to->struct_size); }) ==
         PENSTOCK_OK;
}

[[nodiscard]] penstock_endpoint EndpointOf(const Endpoint& endpoint);

// The text of a policy, or the name of a profile; nullptr for nullptr.
[[nodiscard]] absl::StatusOr<std::shared_ptr<const Policy>> PolicyOf(const char* text,
                                                                     const char* source);

}  // namespace penstock::c_abi

#endif  // PENSTOCK_STACK_C_ABI_BOUNDARY_H_
