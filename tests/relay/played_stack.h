// The stack's end of a relay, played by a test: it opens flows through FlowPipe, sends
// bytes to host, takes what comes and gives blocks back when the test says so. The far
// end are real sockets on loopback (tests/support/host_side.h).
//
//   PlayedStack stack(RelayForm::kThread);
//   PlayedFlow& flow = stack.Open({Loopback(Family::kIpv4, listener.port())});
//   stack.Until("connected", [&] { return flow.connected(); });
//
// Both forms of a relay are played: on a thread of its own, and on an io_context that
// the test's thread runs. Every flow holds what it hears against the rules of FlowPipe:
// nothing after kClosed, never more blocks out than there is credit, everything of the
// stack given back before kClosed. The destructor checks that nothing is lost. One
// thread.
#ifndef PENSTOCK_TESTS_RELAY_PLAYED_STACK_H_
#define PENSTOCK_TESTS_RELAY_PLAYED_STACK_H_

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "relay/relay.h"
#include "relay/relay_thread.h"

namespace penstock {

enum class RelayForm { kThread, kIoContext };

// "Thread" or "IoContext", for the names of test cases.
[[nodiscard]] std::string FormName(RelayForm form);

[[nodiscard]] Endpoint Loopback(Family family, uint16_t port);

// Descriptors of this process that are open now.
[[nodiscard]] size_t OpenDescriptorCount();

class PlayedStack;

class PlayedFlow {
 public:
  PlayedFlow(PlayedStack& stack, std::vector<Endpoint> destinations, uint32_t block_bytes);

  // `bytes` in chunks of at most `chunk_bytes`.
  void Send(std::string_view bytes, size_t chunk_bytes = 16'384);
  void Fin() { Say(ToHost::kFin); }
  void Close() { Say(ToHost::kClose); }
  void Abort() { Say(ToHost::kAbort); }
  // After kClosed: the same pipe is another flow's.
  void Reopen(std::vector<Endpoint> destinations, uint32_t block_bytes = 65'480);

  // From now on blocks wait for GiveBack instead of going back at once.
  void HoldBlocks() { hold_blocks_ = true; }
  void GiveBack(size_t count);
  [[nodiscard]] size_t blocks_held() const { return held_.size(); }

  // What came: the host's bytes and its words, in the order of ToGuest where several came
  // at once.
  [[nodiscard]] const std::string& received() const { return received_; }
  [[nodiscard]] const std::vector<ToGuest>& words() const { return words_; }
  [[nodiscard]] bool Heard(ToGuest word) const;
  [[nodiscard]] bool connected() const { return Heard(ToGuest::kConnected); }
  [[nodiscard]] bool closed() const { return Heard(ToGuest::kClosed); }
  // The errno of kFailed or kReset.
  [[nodiscard]] int error() const { return error_; }
  // Bytes to host that the relay has not given back.
  [[nodiscard]] uint64_t bytes_out() const { return bytes_out_; }
  // A hint from the relay's thread: it has taken all messages.
  [[nodiscard]] bool all_taken() const {
    return pipe_.to_host.empty() && pipe_.words_to_host.Peek().empty();
  }
  void SetCredit(uint8_t blocks) { pipe_.block_credit.store(blocks); }

 private:
  friend class PlayedStack;
  struct Sent {
    Chunk chunk;  // first: what comes back is cast
    std::string bytes;
  };

  void Say(ToHost word);
  void Listen();
  void TakeBack();
  // The relay is gone: everything that is still under way.
  void Collect(BlockPool& blocks);

  PlayedStack& stack_;
  FlowPipe pipe_;
  uint32_t block_bytes_ = 0;
  std::list<Sent> sent_;
  std::deque<Block*> held_;
  std::string received_;
  std::vector<ToGuest> words_;
  uint64_t bytes_out_ = 0;
  int error_ = 0;
  bool hold_blocks_ = false;
};

class PlayedStack {
 public:
  explicit PlayedStack(RelayForm form, RelayOptions options = {});
  ~PlayedStack();
  PlayedStack(const PlayedStack&) = delete;
  PlayedStack& operator=(const PlayedStack&) = delete;

  PlayedFlow& Open(std::vector<Endpoint> destinations, uint32_t block_bytes = 65'480);

  // Takes what the relays said, wakes them for what was said to them.
  void Pump();
  // Pumps until `done`; throws after a hard limit of real time.
  void Until(std::string_view what, const std::function<bool()>& done);

  // As a stack does at its end; flows stay readable, but nothing comes any more.
  void Shutdown();

  // Of a relay without a thread, or after Shutdown.
  [[nodiscard]] Relay& relay() { return thread_ != nullptr ? thread_->relay() : *relay_; }

 private:
  friend class PlayedFlow;
  void Tell(FlowPipe& pipe);
  void Wait();
  void RunContext();

  Doorbell doorbell_;
  boost::asio::io_context io_{1};
  std::shared_ptr<Relay> relay_;         // on io_
  std::unique_ptr<RelayThread> thread_;  // or with a thread
  std::deque<std::unique_ptr<PlayedFlow>> flows_;
  bool shut_down_ = false;
};

}  // namespace penstock

#endif  // PENSTOCK_TESTS_RELAY_PLAYED_STACK_H_
