// One end of a scripted flow: writes its stream, reads and checks the other end's, at
// the pace of the script, and ends as the script says. The same class plays the
// application in the guest and the one at the host.
//
// Turn() does whatever can be done now; it is called after every step of the world.
// What waits for time alone is told by `wake_at`. One thread.
#ifndef PENSTOCK_TESTS_WORLD_TALKER_H_
#define PENSTOCK_TESTS_WORLD_TALKER_H_

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "relay/time.h"
#include "tests/world/random.h"

namespace penstock::world {

// A TCP connection as an application has it.
class Port {
 public:
  virtual ~Port() = default;
  [[nodiscard]] virtual bool open() const = 0;  // the handshake is done
  // No more than this is taken at once.
  [[nodiscard]] virtual size_t WriteRoom() const = 0;
  // A prefix was taken; 0 if there is no room.
  [[nodiscard]] virtual size_t Write(std::span<const uint8_t> bytes) = 0;
  [[nodiscard]] virtual size_t Read(std::span<uint8_t> room) = 0;
  // The other end's FIN, and everything before it was read.
  [[nodiscard]] virtual bool AtEnd() const = 0;
  // The connection broke; nothing more will be written or read.
  [[nodiscard]] virtual bool Broken() const = 0;
  virtual void Finish() = 0;
  virtual void Reset() = 0;
  virtual void Leave() = 0;
};

struct TalkerScript {
  uint64_t bytes = 0;
  uint64_t write = 0, read = 0;  // at a time
  Duration write_pause{}, read_pause{};
  uint64_t stall_at = 0;
  Duration stall{};
  enum class End : uint8_t { kFinish, kReset, kFinishSecond, kLeave } end = End::kFinish;
  uint64_t end_at = 0;
  uint64_t spoilt_max = 0;  // bytes that are not what was written, where a checksum may miss it
};

class Talker final {
 public:
  // `name` for messages: "flow 3's guest". `wake_at` asks for a Turn at that time.
  Talker(std::string name, const TalkerScript& script, Stream writes, Stream reads,
         std::function<void(Time)> wake_at, std::function<void(const std::string&)> note)
      : name_(std::move(name)),
        script_(script),
        writes_(writes),
        reads_(reads),
        wake_at_(std::move(wake_at)),
        note_(std::move(note)) {}

  // Throws Violation if a byte is not what the other end wrote at its place, or comes
  // beyond what it wrote.
  void Turn(Time now, Port& port, uint64_t other_sent);
  // Nothing more to do: finished both ways, broke, reset or left.
  [[nodiscard]] bool over() const { return broken_ || reset_ || left_ || (finished_ && at_end_); }

  [[nodiscard]] uint64_t sent() const { return sent_; }
  [[nodiscard]] uint64_t received() const { return received_; }
  [[nodiscard]] bool finished() const { return finished_; }
  [[nodiscard]] bool at_end() const { return at_end_; }
  [[nodiscard]] bool broken() const { return broken_; }
  [[nodiscard]] bool reset() const { return reset_; }
  [[nodiscard]] bool left() const { return left_; }
  [[nodiscard]] std::string Describe() const;

 private:
  [[nodiscard]] bool Write(Time now, Port& port);
  [[nodiscard]] bool Read(Time now, Port& port, uint64_t other_sent);
  [[nodiscard]] bool End(Port& port);

  const std::string name_;
  const TalkerScript script_;
  const Stream writes_, reads_;
  const std::function<void(Time)> wake_at_;
  const std::function<void(const std::string&)> note_;
  uint64_t sent_ = 0, received_ = 0, spoilt_ = 0;
  Time write_from_{}, read_from_{};
  bool opened_ = false;
  bool stalled_ = false;
  bool finished_ = false, at_end_ = false, broken_ = false, reset_ = false, left_ = false;
};

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_TALKER_H_
