#include "relay/relay_thread.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <exception>
#include <future>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "relay/out_of_memory.h"
#include "relay/reactor_check.h"

namespace penstock {
namespace asio = boost::asio;

class RelayThread::Impl {
 public:
  Impl(RelayOptions options, Doorbell& stack_doorbell)
      : io_(1),
        bell_(io_),
        relay_(std::make_shared<Relay>(io_, std::move(options), stack_doorbell)) {}

  absl::Status Start() {
    if (absl::Status status = relay_->doorbell().Open(); !status.ok()) return status;
    // Waiting on the descriptor keeps the io_context busy: no other work guard. The
    // doorbell keeps its own descriptor; Asio closes this copy.
    const int copy = fcntl(relay_->doorbell().descriptor(), F_DUPFD_CLOEXEC, 0);
    boost::system::error_code refused;
    if (copy >= 0) bell_.assign(copy, refused);
    if (copy < 0 || refused) {
      if (copy >= 0) close(copy);
      return absl::ResourceExhaustedError("cannot watch an eventfd: no descriptors left");
    }
    if (absl::Status timers = CheckTimers(io_); !timers.ok()) return timers;
    asio::post(io_, [this] { Listen(); });
    try {
      thread_ = std::thread([this] {
        // From here: the name of another thread is a file in /proc, which may be out of reach.
        pthread_setname_np(pthread_self(), "penstock-relay");
        OrEndWithoutMemory([this] { io_.run(); });
      });
    } catch (const std::system_error& error) {
      return absl::ResourceExhaustedError(
          absl::StrCat("cannot start a relay thread: ", error.what()));
    }
    return absl::OkStatus();
  }

  void Join() {
    if (!thread_.joinable()) return;
    Post([this] {
      relay_->Shutdown();
      boost::system::error_code error;
      bell_.close(error);
    });
    thread_.join();
  }

  void Run(const std::function<void()>& work) {
    std::promise<void> done;
    Post([&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }

  Relay& relay() { return *relay_; }

 private:
  // By its bell, which is known to be watched; Asio's own may not be (reactor_check.h).
  void Post(auto&& work) {
    asio::post(io_, std::forward<decltype(work)>(work));
    relay_->doorbell().Ring();
  }

  // Serves, then waits for the doorbell. Reading the eventfd keeps Asio's
  // edge-triggered registration; waiting for readability would re-arm epoll.
  void Listen() {
    relay_->RunReady();
    bell_.async_read_some(asio::buffer(&rings_, sizeof rings_),
                          [this](boost::system::error_code error, size_t) {
                            if (error) return;
                            relay_->doorbell().Silenced();
                            Listen();
                          });
  }

  asio::io_context io_;
  asio::posix::stream_descriptor bell_;
  uint64_t rings_ = 0;  // what was read from the eventfd; nobody asks how often
  std::shared_ptr<Relay> relay_;
  std::thread thread_;
};

absl::StatusOr<std::unique_ptr<RelayThread>> RelayThread::Start(RelayOptions options,
                                                                Doorbell& stack_doorbell) {
  std::unique_ptr<Impl> impl;
  try {
    impl = std::make_unique<Impl>(std::move(options), stack_doorbell);
  } catch (const std::exception& error) {
    // Asio throws where it finds no descriptors for its reactor.
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot start a relay thread: ", error.what()));
  }
  // The library's threads take no signals: those are the embedder's.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  absl::Status status = impl->Start();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!status.ok()) return status;
  return std::unique_ptr<RelayThread>(new RelayThread(std::move(impl)));
}

RelayThread::RelayThread(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RelayThread::~RelayThread() { impl_->Join(); }
Relay& RelayThread::relay() { return impl_->relay(); }
void RelayThread::Run(const std::function<void()>& work) { impl_->Run(work); }
void RelayThread::Join() { impl_->Join(); }

}  // namespace penstock
