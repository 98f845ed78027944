#include "tests/growth/heap.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <malloc.h>

extern "C" {
void* __libc_malloc(std::size_t size);                       // NOLINT: glibc's own names
void* __libc_calloc(std::size_t count, std::size_t size);    // NOLINT
void* __libc_realloc(void* old, std::size_t size);           // NOLINT
void* __libc_memalign(std::size_t align, std::size_t size);  // NOLINT
void __libc_free(void* p);                                   // NOLINT
}

namespace {

constinit std::atomic<std::int64_t> now{0}, peak{0};

void* taken(void* p) {
  if (p == nullptr) return p;
  const std::int64_t all = now += static_cast<std::int64_t>(malloc_usable_size(p));
  std::int64_t most = peak.load(std::memory_order_relaxed);
  while (all > most && !peak.compare_exchange_weak(most, all, std::memory_order_relaxed)) {
  }
  return p;
}

void given_back(void* p) {
  if (p != nullptr) now -= static_cast<std::int64_t>(malloc_usable_size(p));
}

}  // namespace

extern "C" {

void* malloc(std::size_t size) { return taken(__libc_malloc(size)); }
void* calloc(std::size_t count, std::size_t size) { return taken(__libc_calloc(count, size)); }
void* memalign(std::size_t align, std::size_t size) { return taken(__libc_memalign(align, size)); }
void* aligned_alloc(std::size_t align, std::size_t size) { return memalign(align, size); }

int posix_memalign(void** out, std::size_t align, std::size_t size) {
  void* p = memalign(align, size);
  if (p == nullptr) return ENOMEM;
  *out = p;
  return 0;
}

void* realloc(void* old, std::size_t size) {
  given_back(old);
  void* p = __libc_realloc(old, size);
  // Where there is no room the old block stays.
  if (p == nullptr && size > 0) return taken(old), nullptr;
  return taken(p);
}

void free(void* p) {
  given_back(p);
  __libc_free(p);
}

}  // extern "C"

namespace ps {

std::int64_t heap_now() { return now; }
std::int64_t heap_peak() { return peak; }
void forget_heap_peak() { peak = now.load(); }

}  // namespace ps
