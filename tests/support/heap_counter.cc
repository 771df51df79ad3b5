#include "tests/support/heap_counter.h"

#include <atomic>
#include <cerrno>
#include <cstddef>

// Under the sanitizers, which bring their own malloc, this file must define none.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
constexpr bool kInterposed = false;
#else
constexpr bool kInterposed = true;
#endif

namespace {

std::atomic<int64_t> allocations{0};
std::atomic<bool> only_chosen{false};
thread_local bool chosen = false;

[[maybe_unused]] void note() {
  if (!only_chosen.load(std::memory_order_relaxed) || chosen) {
    allocations.fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(__GLIBC__)

// Functions of the program come before the C library's. These count and pass on to what the
// C library calls its own; operator new calls malloc. free stays the C library's.
extern "C" {

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) noexcept {
  note();
  return __libc_malloc(size);
}

void* calloc(size_t count, size_t size) noexcept {
  note();
  return __libc_calloc(count, size);
}

void* realloc(void* old, size_t size) noexcept {
  note();
  return __libc_realloc(old, size);
}

void* aligned_alloc(size_t alignment, size_t size) noexcept {
  note();
  return __libc_memalign(alignment, size);
}

void* memalign(size_t alignment, size_t size) noexcept {
  note();
  return __libc_memalign(alignment, size);
}

int posix_memalign(void** out, size_t alignment, size_t size) noexcept {
  note();
  if (alignment % sizeof(void*) != 0 || (alignment & (alignment - 1)) != 0) return EINVAL;
  *out = __libc_memalign(alignment, size);
  return *out != nullptr ? 0 : ENOMEM;
}

}  // extern "C"

#endif

namespace engine::test {

HeapCounter::HeapCounter() : start_(allocations.load()) {}

int64_t HeapCounter::count() const { return allocations.load() - start_; }

bool HeapCounter::available() { return kInterposed; }

void HeapCounter::track_this_thread() {
  chosen = true;
  only_chosen = true;
}

void HeapCounter::track_all_threads() {
  chosen = false;
  only_chosen = false;
}

}  // namespace engine::test
