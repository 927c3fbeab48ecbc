#include "stack/tcpip/guest_buffer.h"

#include <cstdlib>
#include <new>

#include "relay/check.h"

namespace penstock {

GuestBufferPool::~GuestBufferPool() {
  PENSTOCK_CHECK(bytes_out_ == 0);
  for (GuestBuffer* buffer : free_) {
    while (buffer != nullptr) {
      GuestBuffer* next = buffer->next_free;
      std::free(buffer);
      buffer = next;
    }
  }
}

uint8_t GuestBufferPool::SizeClass(size_t bytes) {
  uint8_t size_class = 0;
  while (kSizes[size_class] < bytes) ++size_class;
  return size_class;
}

GuestBuffer* GuestBufferPool::Take(size_t bytes) {
  const uint8_t size_class = SizeClass(bytes);
  return bytes_out_ + kSizes[size_class] > bytes_max_ ? nullptr : Make(size_class);
}

bool GuestBufferPool::Reserve(size_t bytes) {
  const uint8_t size_class = SizeClass(bytes);
  if (bytes_out_ + kSizes[size_class] > bytes_max_) return false;
  if (free_[size_class] != nullptr) return true;
  GuestBuffer* buffer = Allocate(size_class);
  if (buffer == nullptr) return false;
  buffer->next_free = nullptr;
  free_[size_class] = buffer;
  ++free_count_[size_class];
  return true;
}

GuestBuffer* GuestBufferPool::TakeReserved(size_t bytes) {
  GuestBuffer* buffer = Make(SizeClass(bytes));
  PENSTOCK_CHECK(buffer != nullptr);
  return buffer;
}

GuestBuffer* GuestBufferPool::Allocate(uint8_t size_class) {
  void* memory = std::malloc(sizeof(GuestBuffer) + kSizes[size_class]);
  if (memory == nullptr) return nullptr;
  auto* buffer = new (memory) GuestBuffer;
  buffer->pool = this;
  buffer->data = static_cast<uint8_t*>(memory) + sizeof(GuestBuffer);
  buffer->capacity = kSizes[size_class];
  buffer->size_class = size_class;
  return buffer;
}

GuestBuffer* GuestBufferPool::Make(uint8_t size_class) {
  GuestBuffer* buffer = free_[size_class];
  if (buffer != nullptr) {
    free_[size_class] = buffer->next_free;
    --free_count_[size_class];
  } else {
    buffer = Allocate(size_class);
    if (buffer == nullptr) return nullptr;
  }
  buffer->chunk = {};
  buffer->is_slot = false;
  bytes_out_ += buffer->capacity;
  return buffer;
}

void GuestBufferPool::Give(GuestBuffer* buffer) {
  bytes_out_ -= buffer->capacity;
  const uint8_t size_class = buffer->size_class;
  if (free_count_[size_class] >= kFreeMax[size_class]) {
    std::free(buffer);
    return;
  }
  buffer->next_free = free_[size_class];
  free_[size_class] = buffer;
  ++free_count_[size_class];
}

}  // namespace penstock
