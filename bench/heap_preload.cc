// Who holds memory: a library to be preloaded into penstock, which keeps for each place
// that allocates (the calls on the stack) how many blocks live and what they take.
// bench/idle_bytes.py makes of it the table of an idle connection.
//
// The account lies in the file that PENSTOCK_HEAP_FILE names, mapped and shared, so that
// another process reads it at any moment; its layout is Account's. What a block takes is
// what malloc gave, which is more than was asked, and the word before it in which malloc
// keeps the size.
//
// Slow, a backtrace for each allocation: for accounts, not for measuring time. Thread-safe;
// beside the account it takes memory of its own that it does not count.
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>

// glibc's own, so that nothing has to be looked up before the first allocation.
extern "C" {
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* block, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void* block);
}

namespace penstock {
namespace {

constexpr size_t kFrames = 24;
constexpr size_t kSitesMax = 4'096;
constexpr size_t kBlocksMax = size_t{1} << 21;  // a power of two; filled to a half at most
constexpr size_t kWordBytes = sizeof(size_t);   // malloc's, before each block

struct Site {
  uint64_t frames[kFrames];  // return addresses, the innermost first; 0 behind the last
  uint64_t blocks;           // alive
  uint64_t asked_bytes;
  uint64_t held_bytes;
};

struct Account {
  uint64_t load_address;  // of the program, to be taken off the frames
  uint64_t sites;         // used
  uint64_t unaccounted;   // allocations for which there was no room here
  Site site[kSitesMax];
};

struct Block {
  void* address;
  uint32_t asked_bytes;
  uint32_t site;
};

class SpinLock {
 public:
  void lock() {
    while (flag_.test_and_set(std::memory_order_acquire)) {
    }
  }
  void unlock() { flag_.clear(std::memory_order_release); }

 private:
  std::atomic_flag flag_ = ATOMIC_FLAG_INIT;
};

Account* account = nullptr;  // nullptr: nobody asked for one
Block* blocks = nullptr;     // open addressing by address
size_t block_count = 0;
SpinLock spin_lock;
// What this library allocates itself, backtrace() among it, is not counted.
thread_local bool inside __attribute__((tls_model("initial-exec"))) = false;

size_t HomeOf(const void* address) {
  return (reinterpret_cast<uintptr_t>(address) >> 4) * 0x9e3779b97f4a7c15 >> 43;
}
static_assert(kBlocksMax == size_t{1} << (64 - 43));

uint32_t FindSite(const void* const* frames, size_t count) {
  for (uint32_t i = 0; i < account->sites; ++i) {
    const Site& site = account->site[i];
    if (std::memcmp(site.frames, frames, count * sizeof *frames) == 0 &&
        (count == kFrames || site.frames[count] == 0)) {
      return i;
    }
  }
  if (account->sites == kSitesMax) return kSitesMax;
  std::memcpy(account->site[account->sites].frames, frames, count * sizeof *frames);
  return static_cast<uint32_t>(account->sites++);
}

void Add(void* address, size_t bytes) {
  if (account == nullptr || inside || address == nullptr) return;
  inside = true;
  void* frames[kFrames + 2];
  const int depth = backtrace(frames, kFrames + 2);
  // Without Add and the function of malloc's that called it.
  const size_t count = static_cast<size_t>(std::max(depth - 2, 0));
  const std::lock_guard lock(spin_lock);
  const uint32_t site = FindSite(frames + 2, count);
  if (site == kSitesMax || block_count >= kBlocksMax / 2) {
    ++account->unaccounted;
  } else {
    size_t slot = HomeOf(address);
    while (blocks[slot].address != nullptr) slot = (slot + 1) % kBlocksMax;
    blocks[slot] = {address, static_cast<uint32_t>(bytes), site};
    ++block_count;
    Site& owner = account->site[site];
    ++owner.blocks;
    owner.asked_bytes += bytes;
    owner.held_bytes += malloc_usable_size(address) + kWordBytes;
  }
  inside = false;
}

// Closes the gap, so that no search ends before its block.
void Erase(size_t gap) {
  for (size_t slot = (gap + 1) % kBlocksMax; blocks[slot].address != nullptr;
       slot = (slot + 1) % kBlocksMax) {
    const size_t home = HomeOf(blocks[slot].address);
    if ((slot - home) % kBlocksMax < (slot - gap) % kBlocksMax) continue;
    blocks[gap] = blocks[slot];
    gap = slot;
  }
  blocks[gap].address = nullptr;
  --block_count;
}

void Remove(void* address) {
  if (account == nullptr || inside || address == nullptr) return;
  const std::lock_guard lock(spin_lock);
  for (size_t slot = HomeOf(address); blocks[slot].address != nullptr;
       slot = (slot + 1) % kBlocksMax) {
    if (blocks[slot].address != address) continue;
    Site& owner = account->site[blocks[slot].site];
    --owner.blocks;
    owner.asked_bytes -= blocks[slot].asked_bytes;
    owner.held_bytes -= malloc_usable_size(address) + kWordBytes;
    return Erase(slot);
  }
}

void* Map(size_t bytes, int descriptor) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      descriptor < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, descriptor, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

[[gnu::constructor]] void Open() {
  const char* path = std::getenv("PENSTOCK_HEAP_FILE");
  if (path == nullptr) return;
  void* warm[2];
  (void)backtrace(warm, 2);  // loads what it needs
  const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0 || ftruncate(file, sizeof(Account)) != 0) std::abort();
  auto* opened = static_cast<Account*>(Map(sizeof(Account), file));
  blocks = static_cast<Block*>(Map(kBlocksMax * sizeof(Block), -1));
  if (opened == nullptr || blocks == nullptr) std::abort();
  close(file);
  unsetenv("PENSTOCK_HEAP_FILE");  // what penstock starts has no part in it
  dl_iterate_phdr(
      [](dl_phdr_info* program, size_t, void* to) {
        *static_cast<uint64_t*>(to) = program->dlpi_addr;
        return 1;  // the first is the program itself
      },
      &opened->load_address);
  account = opened;
}

}  // namespace
}  // namespace penstock

extern "C" {

[[gnu::visibility("default")]] void* malloc(size_t bytes) {
  void* block = __libc_malloc(bytes);
  penstock::Add(block, bytes);
  return block;
}
[[gnu::visibility("default")]] void* calloc(size_t count, size_t bytes) {
  void* block = __libc_calloc(count, bytes);
  penstock::Add(block, count * bytes);
  return block;
}
[[gnu::visibility("default")]] void* realloc(void* before, size_t bytes) {
  penstock::Remove(before);
  void* block = __libc_realloc(before, bytes);
  penstock::Add(block, bytes);
  return block;
}
[[gnu::visibility("default")]] void* memalign(size_t alignment, size_t bytes) {
  void* block = __libc_memalign(alignment, bytes);
  penstock::Add(block, bytes);
  return block;
}
[[gnu::visibility("default")]] void* aligned_alloc(size_t alignment, size_t bytes) {
  void* block = __libc_memalign(alignment, bytes);
  penstock::Add(block, bytes);
  return block;
}
[[gnu::visibility("default")]] int posix_memalign(void** block, size_t alignment, size_t bytes) {
  *block = __libc_memalign(alignment, bytes);
  penstock::Add(*block, bytes);
  return *block == nullptr ? ENOMEM : 0;
}
[[gnu::visibility("default")]] void free(void* block) {
  penstock::Remove(block);
  __libc_free(block);
}

}  // extern "C"
