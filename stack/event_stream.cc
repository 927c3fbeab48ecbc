#include "stack/event_stream.h"

namespace penstock {

EventStream::EventStream(uint32_t count_max)
    : ring_(count_max == 0 ? nullptr : std::make_unique<SpscRing<Event>>(count_max)) {}

bool EventStream::Put(const Event& event) noexcept { return on() && ring_->Push(event); }

bool EventStream::Take(Event& event) noexcept { return on() && ring_->Pop(event); }

}  // namespace penstock
