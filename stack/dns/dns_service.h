// The guest's questions of DNS: what the stack knows itself is answered at once, the rest
// is asked of an upstream, and what comes back from there is looked at before it is passed
// on. README.md says what is answered how, and why.
//
//   Ask ─▶ a question? ─▶ policy ─▶ local names ─▶ family ─▶ upstream, upstream, …
//                                                              │
//   Answer ◀── id put back ◀── pins ◀── rebinding ◀── is it the answer?
//
// Messages go out as they came but for the id, and come back so. A question is outstanding
// from Ask to Answer; it is asked of one upstream after the other, each time with another
// id, and the first answer counts, also of one that was given up already.
//
// A pass calls BeginPass first. Time is Poll's. Poll thread only.
//
// Read first: RFC 1035 7, RFC 5452 (forged answers), RFC 5625 (what a proxy does).
#ifndef PENSTOCK_STACK_DNS_DNS_SERVICE_H_
#define PENSTOCK_STACK_DNS_DNS_SERVICE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "relay/endpoint.h"
#include "relay/time.h"
#include "stack/config.h"
#include "stack/counters.h"
#include "stack/dns/dns_message.h"
#include "stack/dns/dns_policy.h"
#include "stack/dns/dns_sockets.h"
#include "stack/dns/dns_upstreams.h"
#include "stack/dns/local_names.h"
#include "stack/dns/resolv_conf.h"
#include "stack/flow/datagram_ends.h"
#include "stack/flow/deadlines.h"
#include "stack/service/host_routes.h"

namespace penstock {

// Who passed a question on, and takes the answer to the guest. Each question gets exactly
// one answer, perhaps before Ask returns, unless it is forgotten before.
class DnsAsker {
 public:
  // `message` lives until this returns. Empty: nothing is to be answered (what was asked is
  // no question, or there is no room for it and the guest will repeat it).
  virtual void Answer(uint64_t token, std::span<const uint8_t> message) = 0;

 protected:
  ~DnsAsker() = default;
};

struct DnsQuery {
  std::span<const uint8_t> message;  // of any bytes; without the length of a stream
  DnsTransport transport = DnsTransport::kUdp;
  Endpoint guest;
  Endpoint asked;  // the address that the guest spoke to
  DnsAsker* asker = nullptr;
  uint64_t token = 0;  // the asker's own, another one for each question that is not answered
};

class DnsService final : private DnsSocketListener {
 public:
  // All references outlive this, askers until all they asked is answered or forgotten.
  DnsService(const Config& config, DatagramEnds& ends, DnsPolicy& policy, Counters& counters);
  ~DnsService();
  DnsService(const DnsService&) = delete;
  DnsService& operator=(const DnsService&) = delete;

  void BeginPass(Time now);
  void Ask(const DnsQuery& query, Time now);
  // No answer is wanted any more for `asker`'s question. Does nothing if it is not there.
  void Forget(DnsAsker& asker, uint64_t token);
  [[nodiscard]] Time NextDeadline();

  // Which families lead anywhere from now on.
  void SetHostRoutes(const HostRoutes& routes) { routes_ = routes; }

  // Readable when the host's name servers may have changed; -1: never, or nobody follows
  // them. Update then looks, with one system call if nothing happened.
  [[nodiscard]] int descriptor() const { return resolv_conf_ ? resolv_conf_->descriptor() : -1; }
  void Update();

  [[nodiscard]] size_t outstanding() const { return questions_.size(); }

  // After the relays and the batch of `ends` were shut down. Answers nothing.
  void Shutdown();

 private:
  struct Question;
  struct Attempt {
    DnsSocket* socket = nullptr;
    uint16_t id = 0;
    DnsUpstream upstream;
    Time asked_at{};
    bool over = false;  // cannot be answered any more
  };
  enum class Why : uint8_t { kNew, kTimeout, kFault };

  // A question may be so long; an honest one has a name, an OPT, perhaps a signature.
  static constexpr size_t kQuestionBytesMax = 4'096;
  // Times that one question is asked, whoever fails.
  static constexpr size_t kAttemptsMax = 8;
  // Questions that may time out in one pass; more do in the next.
  static constexpr int kTimeoutsPerPass = 1'024;

  void OnMessage(DnsSocket& socket, const DnsUpstream& from, std::span<uint8_t> message) override;
  void OnFault(DnsSocket& socket, FaultKind kind, uint16_t id) override;

  // Each is the answer to a question that is not outstanding.
  void Reply(const DnsQuery& query, const DnsQueryView& view, const DnsReply& reply);
  void AnswerQuestion(const DnsQuery& query, const DnsQueryView& view, Time now);
  void AnswerLocally(const DnsQuery& query, const DnsQueryView& view, const std::string& name,
                     const LocalNames::Answer& local, Time now);
  void Forward(const DnsQuery& query, const DnsQueryView& view, std::string name, Time now);
  [[nodiscard]] bool HasRoomFor(DnsTransport transport) const;

  [[nodiscard]] bool MayAsk(const DnsQuestion& question, const std::string& name,
                            const std::optional<LocalNames::Answer>& local, Time now);
  [[nodiscard]] bool LeadsNowhere(const DnsQuestion& question) const;
  // The address for which an answer is to be refused; nullptr: there is none.
  [[nodiscard]] const IpAddress* RefusedAddress(const std::string& name,
                                                std::span<const DnsAnswerAddress> addresses);
  [[nodiscard]] bool IsPublic(const IpAddress& address) const;

  // Asks the next upstream, or gives up.
  void AskNext(Question& question, Why why);
  // False: it could not be sent.
  [[nodiscard]] bool AskOf(Question& question, const DnsUpstream& upstream);
  void TimeOut(Question& question);
  void End(Attempt& attempt);
  // Of the question, at the end: nothing of it is left but what is returned.
  [[nodiscard]] std::unique_ptr<Question> Take(Question& question);
  void PassOn(Question& question, const DnsAnswerView& answer, std::span<uint8_t> message);
  // The stack's own answer to what an upstream was asked.
  void Finish(Question& question, const DnsReply& reply, DnsOutcome outcome,
              const IpAddress* refused = nullptr);
  void TellOutcome(const DnsQuery& query, const DnsQueryView& view, const std::string& name,
                   DnsOutcome outcome, Time now);

  using QuestionKey = std::pair<DnsAsker*, uint64_t>;
  const Config& config_;
  DnsPolicy& policy_;
  Counters& counters_;
  const LocalNames names_;
  DnsUpstreams upstreams_;
  DnsRandom random_;
  DnsSockets sockets_;
  std::optional<ResolvConf> resolv_conf_;
  HostRoutes routes_;
  absl::flat_hash_map<QuestionKey, std::unique_ptr<Question>> questions_;
  absl::flat_hash_map<uint64_t, Question*> attempts_;  // by socket and id
  Deadlines<Question> deadlines_;
  std::unique_ptr<uint8_t[]> reply_ = std::make_unique<uint8_t[]>(kDnsReplyBytesMax);
  Time now_{};
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_DNS_DNS_SERVICE_H_
