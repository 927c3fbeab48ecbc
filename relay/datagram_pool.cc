#include "relay/datagram_pool.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "relay/check.h"

namespace penstock {

DatagramPool::~DatagramPool() {
  for (FreeList& list : free_) {
    while (list.head != nullptr) {
      Datagram* next = list.head->next;
      std::free(list.head);
      list.head = next;
    }
  }
}

size_t DatagramPool::ClassOf(uint32_t length) {
  size_t index = 0;
  while (kCapacities[index] < length) ++index;
  return index;
}

Datagram* DatagramPool::Take(uint32_t length, uint64_t& pipe_bytes) {
  PENSTOCK_CHECK(length <= kDatagramBytesMax);
  const size_t index = ClassOf(length);
  const uint64_t cost = CostOf(kCapacities[index]);
  const uint64_t left = bytes_max_ > bytes_out_ ? bytes_max_ - bytes_out_ : 0;
  if (pipe_bytes + cost > kPipeBytesMax || pipe_bytes + cost > (left + pipe_bytes) / 4) {
    return nullptr;
  }
  FreeList& list = free_[index];
  Datagram* datagram = list.head;
  if (datagram != nullptr) {
    list.head = datagram->next;
    list.bytes -= kCapacities[index];
  } else {
    void* memory = std::malloc(cost);
    if (memory == nullptr) return nullptr;
    datagram = new (memory) Datagram;
    datagram->data = static_cast<uint8_t*>(memory) + sizeof(Datagram) + kDatagramHeadroomBytes;
    datagram->capacity = kCapacities[index];
  }
  *datagram = {.data = datagram->data, .length = length, .capacity = datagram->capacity};
  bytes_out_ += cost;
  pipe_bytes += cost;
  return datagram;
}

void DatagramPool::Give(Datagram* datagram, uint64_t& pipe_bytes) {
  PENSTOCK_CHECK(pipe_bytes >= Cost(*datagram));
  pipe_bytes -= Cost(*datagram);
  Free(datagram);
}

void DatagramPool::Free(Datagram* datagram) {
  bytes_out_ -= Cost(*datagram);
  FreeList& list = free_[ClassOf(datagram->capacity)];
  if (list.bytes + datagram->capacity > kFreeBytesMax) {
    std::free(datagram);
    return;
  }
  datagram->next = list.head;
  list.head = datagram;
  list.bytes += datagram->capacity;
}

void DatagramPool::GiveAll(Datagram* datagrams, uint64_t& pipe_bytes) {
  while (datagrams != nullptr) {
    Datagram* next = datagrams->next;
    Give(datagrams, pipe_bytes);
    datagrams = next;
  }
}

void DatagramPool::GiveAll(Datagram* datagrams) {
  while (datagrams != nullptr) {
    Datagram* next = datagrams->next;
    Free(datagrams);
    datagrams = next;
  }
}

}  // namespace penstock
