#include "stack/flow/datagram_ends.h"

#include <algorithm>

#include "relay/check.h"

namespace penstock {

DatagramEnds::DatagramEnds(FrameBatch& batch, Counters& counters, std::vector<Relay*> relays)
    : batch_(batch),
      counters_(counters),
      relays_(std::move(relays)),
      relay_to_ring_(relays_.size()),
      gave_back_(relays_.size()) {}

void DatagramEnds::Open(DatagramEnd& end, DatagramOwner& owner, std::shared_ptr<DatagramPipe> pipe,
                        Relay& relay) {
  end.owner = &owner;
  end.pipe = std::move(pipe);
  end.pipe->stack_end = &end;
  end.relay = &relay;
  end.relay_index =
      static_cast<size_t>(std::find(relays_.begin(), relays_.end(), &relay) - relays_.begin());
  // What came before was marked when nobody knew whose it was.
  Take(end);
}

void DatagramEnds::Resume(DatagramEnd& end) {
  if (std::exchange(end.held, false)) MakeReady(end);
}

void DatagramEnds::Close(DatagramEnd& end) {
  end.leaving = true;
  closing_.push_back(&end);
}

// ---------------------------------------------------------------- a pass

void DatagramEnds::TakeFromRelays() {
  for (Relay* relay : relays_) {
    relay->pipes_to_stack().Serve([this](DatagramPipe& pipe) {
      auto* end = static_cast<DatagramEnd*>(pipe.stack_end);
      if (end != nullptr) Take(*end);  // else a late mark
    });
  }
}

void DatagramEnds::Take(DatagramEnd& end) {
  // Before anything is taken: what the relay did before its last word is seen below.
  const bool last = end.pipe->relay_done.load(std::memory_order_seq_cst);
  const uint64_t before = end.bytes_out;
  TakeHome(end);
  if (end.bytes_out < before && !end.leaving) end.owner->OnHome(end);
  if (last) {
    PENSTOCK_CHECK(end.bytes_out == 0);
    end.pipe->stack_end = nullptr;
    return end.owner->Forget(end);
  }
  if (end.done_told) return;  // what comes now is the relay's to take home
  Datagram* taken = end.pipe->to_guest.TakeInOrder();
  if (taken == nullptr) return;
  (end.waiting_tail == nullptr ? end.waiting_head : end.waiting_tail->next) = taken;
  while (taken->next != nullptr) taken = taken->next;
  end.waiting_tail = taken;
  MakeReady(end);
}

void DatagramEnds::MakeReady(DatagramEnd& end) {
  if (end.leaving || end.held || end.waiting_head == nullptr) return;
  if (!std::exchange(end.ready, true)) ready_.push_back(&end);
}

void DatagramEnds::TakeHome(DatagramEnd& end) {
  pool_.GiveAll(end.pipe->sent.TakeAll(), end.bytes_out);
}

bool DatagramEnds::ServeReady(size_t datagrams_max) {
  while (datagrams_max > 0 && !ready_.empty()) {
    std::swap(ready_, serving_);
    for (DatagramEnd* end : serving_) {
      const size_t turn = std::min(datagrams_max, kTurnDatagrams);
      datagrams_max -= end->leaving ? 0 : Serve(*end, turn);
      end->ready = false;
      MakeReady(*end);
    }
    serving_.clear();
  }
  return ready_.empty();
}

size_t DatagramEnds::Serve(DatagramEnd& end, size_t datagrams_max) {
  size_t served = 0;
  // What is served may close or hold the end.
  const auto may_go_on = [&end] {
    return end.waiting_head != nullptr && !end.held && !end.leaving;
  };
  for (; served < datagrams_max && may_go_on(); ++served) {
    Datagram* datagram = end.waiting_head;
    end.waiting_head = datagram->next;
    if (end.waiting_head == nullptr) end.waiting_tail = nullptr;
    if (end.owner->ToGuest(end, *datagram)) {
      in_batch_.emplace_back(&end, datagram);
    } else {
      GiveBack(end, datagram);
    }
  }
  return served;
}

void DatagramEnds::AfterFlush() {
  if (!batch_.empty()) return;
  for (const auto& [end, datagram] : in_batch_) GiveBack(*end, datagram);
  in_batch_.clear();
  std::swap(closing_, parting_);
  for (DatagramEnd* end : parting_) {
    if (end->ready) {
      closing_.push_back(end);  // it is on the list of the ready ones until its turn
    } else {
      SayLastWord(*end);
    }
  }
  parting_.clear();
}

void DatagramEnds::GiveBack(DatagramEnd& end, Datagram* datagram) {
  end.pipe->delivered.Push(datagram);
  end.relay->pipes_to_relay().Mark(end.pipe->for_relay, *end.pipe);
  gave_back_[end.relay_index] = true;
}

void DatagramEnds::SayLastWord(DatagramEnd& end) {
  Take(end);
  const bool stream = end.pipe->request && end.pipe->request->kind == DatagramKind::kFramedStream;
  while (end.waiting_head != nullptr) {
    Datagram* next = end.waiting_head->next;
    if (!stream) counters_.udp_lost_closed.Add(end.waiting_head->count());
    GiveBack(end, end.waiting_head);
    end.waiting_head = next;
  }
  end.waiting_tail = nullptr;
  end.done_told = true;
  end.pipe->stack_done.store(true, std::memory_order_seq_cst);
  MarkForRelay(end);
}

void DatagramEnds::MarkForRelay(DatagramEnd& end) {
  end.relay->pipes_to_relay().Mark(end.pipe->for_relay, *end.pipe);
  relay_to_ring_[end.relay_index] = true;
}

void DatagramEnds::RingRelays() {
  for (size_t i = 0; i < relays_.size(); ++i) {
    // Of what is only given back nobody is told who does not wait for it.
    const bool wanted = gave_back_[i] && relays_[i]->wants_datagrams();
    gave_back_[i] = false;
    if (!relay_to_ring_[i] && !wanted) continue;
    relay_to_ring_[i] = false;
    if (relays_[i]->doorbell().RingIfArmed()) counters_.wakes_to_relay.Add(1);
  }
}

// ---------------------------------------------------------------- to host

Datagram* DatagramEnds::NewDatagram(DatagramEnd& end, size_t length) {
  return pool_.Take(static_cast<uint32_t>(length), end.bytes_out);
}

void DatagramEnds::Send(DatagramEnd& end, Datagram* datagram) {
  end.pipe->to_host.Push(datagram);
  MarkForRelay(end);
}

// ---------------------------------------------------------------- the end

void DatagramEnds::ShutdownBatch() {
  for (const auto& [end, datagram] : in_batch_) GiveBack(*end, datagram);
  in_batch_.clear();
  ready_.clear();
  closing_.clear();
}

void DatagramEnds::Shutdown(DatagramEnd& end) {
  TakeHome(end);
  pool_.GiveAll(end.pipe->to_host.TakeAll(), end.bytes_out);
  PENSTOCK_CHECK(end.bytes_out == 0);
  DatagramPool& pool = end.relay->datagrams();
  pool.GiveAll(end.pipe->to_guest.TakeAll());
  pool.GiveAll(end.pipe->delivered.TakeAll());
  pool.GiveAll(end.waiting_head);
  end.pipe->stack_end = nullptr;
}

}  // namespace penstock
