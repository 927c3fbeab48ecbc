#include "tools/penstock/policy_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tools/penstock/descriptor.h"

namespace penstock::tool {

std::string PolicySource(const std::string& path) { return path == "-" ? "standard input" : path; }

absl::StatusOr<std::string> ReadPolicyFile(const std::string& path) {
  const std::string cannot = absl::StrCat("cannot read the policy ", PolicySource(path));
  Descriptor opened;
  if (path != "-") {
    opened.Reset(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!opened.valid()) return ErrnoStatus(cannot, errno);
  }
  const int file = path == "-" ? STDIN_FILENO : opened.get();
  std::string text;
  std::vector<char> bytes(65'536);
  for (;;) {
    const ssize_t length = read(file, bytes.data(), bytes.size());
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return ErrnoStatus(cannot, errno);
    if (length == 0) return text;
    text.append(bytes.data(), static_cast<size_t>(length));
    if (text.size() > kPolicyBytesMax) {
      return absl::InvalidArgumentError(
          absl::StrCat(cannot, ": it is longer than ", kPolicyBytesMax, " bytes"));
    }
  }
}

}  // namespace penstock::tool
