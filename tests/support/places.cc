#include "tests/support/places.h"

namespace penstock {

std::string SourcePath(const std::string& path) { return PENSTOCK_SOURCE_DIR "/" + path; }

std::string LwipSourcePath(const std::string& path) { return PENSTOCK_LWIP_SOURCE_DIR "/" + path; }

std::string ProgramPath(const std::string& name) { return PENSTOCK_PROGRAM_DIR "/" + name; }

}  // namespace penstock
