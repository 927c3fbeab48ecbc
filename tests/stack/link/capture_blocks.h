// Reads captures back block by block, by the specification and apart from the writer:
// draft-ietf-opsawg-pcapng sections 3.1 (blocks), 3.5 (options), 4.1 to 4.3 and 4.6.
#ifndef PENSTOCK_TESTS_STACK_LINK_CAPTURE_BLOCKS_H_
#define PENSTOCK_TESTS_STACK_LINK_CAPTURE_BLOCKS_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace penstock {

inline uint32_t Get16(const std::string& bytes, size_t at) {
  return static_cast<uint8_t>(bytes.at(at)) | uint32_t{static_cast<uint8_t>(bytes.at(at + 1))} << 8;
}
inline uint32_t Get32(const std::string& bytes, size_t at) {
  return Get16(bytes, at) | Get16(bytes, at + 2) << 16;
}

struct Block {
  uint32_t type = 0;
  std::string body;  // between the two lengths
};

// Both lengths of each block agree, are multiples of four, and fill the file.
inline std::vector<Block> Blocks(const std::string& file) {
  std::vector<Block> blocks;
  for (size_t at = 0; at < file.size();) {
    const uint32_t length = Get32(file, at + 4);
    EXPECT_EQ(length % 4, 0u);
    EXPECT_GE(length, 12u);
    if (length < 12 || at + length > file.size()) {
      ADD_FAILURE() << "a block leaves the file at " << at;
      break;
    }
    EXPECT_EQ(Get32(file, at + length - 4), length);
    blocks.push_back({Get32(file, at), file.substr(at + 8, length - 12)});
    at += length;
  }
  return blocks;
}

// The options from `at` to the end of the body: each padded with zeros to four bytes,
// and an end of options that is the end.
inline std::map<uint32_t, std::string> Options(const std::string& body, size_t at) {
  std::map<uint32_t, std::string> options;
  while (at < body.size()) {
    const uint32_t code = Get16(body, at), length = Get16(body, at + 2);
    at += 4;
    if (code == 0) {
      EXPECT_EQ(length, 0u);
      EXPECT_EQ(at, body.size()) << "something stands behind the end of options";
      return options;
    }
    options[code] = body.substr(at, length);
    for (at += length; at % 4 != 0; ++at) EXPECT_EQ(body.at(at), '\0');
  }
  ADD_FAILURE() << "no end of options";
  return options;
}

}  // namespace penstock

#endif  // PENSTOCK_TESTS_STACK_LINK_CAPTURE_BLOCKS_H_
