// A thread of our own with an io_context on which one relay lives.
#ifndef PENSTOCK_RELAY_RELAY_THREAD_H_
#define PENSTOCK_RELAY_RELAY_THREAD_H_

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "relay/relay.h"

namespace penstock {

class RelayThread final {
 public:
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<RelayThread>> Start(RelayOptions options,
                                                                          Doorbell& stack_doorbell);
  // Shuts the relay down and joins.
  ~RelayThread();
  RelayThread(const RelayThread&) = delete;
  RelayThread& operator=(const RelayThread&) = delete;

  [[nodiscard]] Relay& relay();
  // Does `work` on the thread and waits until it is done. Not from the thread itself;
  // not after Join.
  void Run(const std::function<void()>& work);
  // Ends the thread; afterwards relay() belongs to the caller's thread.
  void Join();

 private:
  class Impl;
  explicit RelayThread(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_RELAY_THREAD_H_
