// The dice and the data of a simulated world: the same numbers from the same seed on
// every machine (std:: distributions promise no such thing).
#ifndef PENSTOCK_TESTS_WORLD_RANDOM_H_
#define PENSTOCK_TESTS_WORLD_RANDOM_H_

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>

namespace penstock::world {

// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
inline uint64_t Mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

class Dice final {
 public:
  explicit Dice(uint64_t seed) : state_(Mix(seed)) {}

  uint64_t Next() { return Mix(state_ += 0x9e3779b97f4a7c15); }
  // 0 to below - 1; below 0 counts as 1.
  uint64_t Below(uint64_t below) { return below == 0 ? 0 : Next() % below; }
  // from to to, both included.
  int64_t From(int64_t from, int64_t to) {
    return from + static_cast<int64_t>(Below(static_cast<uint64_t>(to - from) + 1));
  }
  bool PerMille(int64_t chance) { return static_cast<int64_t>(Below(1000)) < chance; }
  // One of these, evenly.
  template <typename T, size_t kCount>
  T OneOf(const T (&values)[kCount]) {
    return values[Below(kCount)];
  }

 private:
  uint64_t state_;
};

// A stream of bytes that looks random, different for each key: what a flow carries in
// one direction. Every run of eight bytes is unique, so lost, doubled and swapped bytes
// show. `front`: what it begins with instead.
class Stream final {
 public:
  explicit Stream(uint64_t key, std::string front = {})
      : key_(Mix(key)), front_(std::move(front)) {}

  [[nodiscard]] uint8_t At(uint64_t offset) const {
    if (offset < front_.size()) return static_cast<uint8_t>(front_[offset]);
    return static_cast<uint8_t>(Mix(key_ + offset / 8) >> (8 * (offset % 8)));
  }
  void Fill(uint64_t offset, std::span<uint8_t> bytes) const {
    for (size_t i = 0; i < bytes.size();) {
      if (offset + i >= front_.size() && (offset + i) % 8 == 0 && bytes.size() - i >= 8) {
        const uint64_t word = Mix(key_ + (offset + i) / 8);
        std::memcpy(bytes.data() + i, &word, 8);  // At() says the same on little-endian
        i += 8;
      } else {
        bytes[i] = At(offset + i);
        ++i;
      }
    }
  }
  // The first index of `bytes` that is not the stream's at `offset`, or bytes.size().
  [[nodiscard]] size_t FirstWrong(uint64_t offset, std::span<const uint8_t> bytes) const {
    for (size_t i = 0; i < bytes.size();) {
      if (offset + i >= front_.size() && (offset + i) % 8 == 0 && bytes.size() - i >= 8) {
        uint64_t word;
        std::memcpy(&word, bytes.data() + i, 8);
        if (word == Mix(key_ + (offset + i) / 8)) {
          i += 8;
          continue;
        }
      }
      if (bytes[i] != At(offset + i)) return i;
      ++i;
    }
    return bytes.size();
  }

 private:
  uint64_t key_;
  std::string front_;
};

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_RANDOM_H_
