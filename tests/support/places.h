// Where tests find the tree, lwIP's, and the programs that they run.
//
// CMake gives the places to places.cc alone, so that every other object is the same in each clone.
#ifndef PENSTOCK_TESTS_SUPPORT_PLACES_H_
#define PENSTOCK_TESTS_SUPPORT_PLACES_H_

#include <string>

namespace penstock {

// Of penstock's tree, by a path like "stack/README.md".
std::string SourcePath(const std::string& path);

// Of lwIP as it was fetched, by a path like "src/core/tcp.c".
std::string LwipSourcePath(const std::string& path);

// A program of this build, by name.
std::string ProgramPath(const std::string& name);

}  // namespace penstock

#endif  // PENSTOCK_TESTS_SUPPORT_PLACES_H_
