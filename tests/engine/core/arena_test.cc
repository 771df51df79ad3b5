#include "engine/core/arena.h"

#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "engine/config.h"
#include "tests/support/heap_counter.h"
#include "tests/support/tensors.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

using namespace engine;
using engine::test::caught;
using engine::test::HeapCounter;

namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

bool poisoned(const void* p) {
#if defined(__SANITIZE_ADDRESS__)
  return __asan_address_is_poisoned(p) != 0;
#else
  (void)p;
  return false;
#endif
}
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kPoisons = kArenaChecks;
#else
constexpr bool kPoisons = false;
#endif

// Writes a byte pattern of its own into each of several allocations and finds them whole.
bool whole(const std::vector<std::pair<void*, int64_t>>& pieces) {
  for (size_t i = 0; i < pieces.size(); ++i) {
    std::memset(pieces[i].first, static_cast<int>(i % 251), static_cast<size_t>(pieces[i].second));
  }
  for (size_t i = 0; i < pieces.size(); ++i) {
    const auto* bytes = static_cast<const unsigned char*>(pieces[i].first);
    for (int64_t j = 0; j < pieces[i].second; ++j) {
      if (bytes[j] != i % 251) return false;
    }
  }
  return true;
}

}  // namespace

TEST_CASE("arena: memory is aligned and never shared") {
  StepArena arena;
  std::vector<std::pair<void*, int64_t>> pieces;
  for (const int64_t bytes : {1, 63, 64, 65, 1000, 0, 300'000, 900'000, 3'000'000, 7}) {
    pieces.emplace_back(arena.allocate(bytes), bytes);
    CHECK(reinterpret_cast<uintptr_t>(pieces.back().first) % 64 == 0);
  }
  CHECK(whole(pieces));
  for (size_t i = 0; i < pieces.size(); ++i) {
    for (size_t j = 0; j < i; ++j) CHECK(pieces[i].first != pieces[j].first);
  }
}

TEST_CASE("arena: empty makes a tensor off any tape") {
  StepArena arena;
  const Tensor x = arena.empty({2, 3}, Dtype::kBF16);
  CHECK(x.shape() == Shape{2, 3});
  CHECK(x.dtype() == Dtype::kBF16);
  CHECK(x.device() == Device::kCpu);
  CHECK(x.tape() == nullptr);
  CHECK(arena.empty({0, 3}, Dtype::kF32).defined());
}

TEST_CASE("arena: counts what is used and reserved") {
  StepArena arena;
  CHECK(arena.bytes_in_use() == 0);
  CHECK(arena.bytes_reserved() == 0);
  arena.allocate(1000);
  const int64_t used = arena.bytes_in_use();
  CHECK(used >= 1000);
  CHECK(used <= 1000 + 128);
  CHECK(arena.bytes_reserved() == kMiB);
  arena.allocate(3 * kMiB);
  CHECK(arena.bytes_in_use() >= 3 * kMiB + 1000);
  const int64_t peak = arena.bytes_peak();
  CHECK(peak == arena.bytes_in_use());
  arena.reset();
  CHECK(arena.bytes_in_use() == 0);
  CHECK(arena.bytes_peak() == peak);
}

TEST_CASE("arena: reset merges chained blocks into one") {
  StepArena arena;
  for (int i = 0; i < 9; ++i) arena.allocate(700'000);
  const int64_t reserved = arena.bytes_reserved();
  CHECK(reserved > 2 * kMiB);
  arena.reset();
  CHECK(arena.bytes_reserved() == reserved);
  // One piece of more than any of the former blocks fits without growing.
  arena.allocate(reserved - 256);
  CHECK(arena.bytes_reserved() == reserved);
  arena.reset();
  for (int i = 0; i < 9; ++i) arena.allocate(700'000);
  CHECK(arena.bytes_reserved() == reserved);
}

TEST_CASE("arena: a warm step makes no allocation" * doctest::skip(!HeapCounter::available())) {
  StepArena arena;
  const auto step = [&arena] {
    arena.reset();
    for (int i = 0; i < 20; ++i) {
      arena.empty({100'000}, Dtype::kF32);
      const ArenaScope scope(arena);
      arena.empty({50'000}, Dtype::kF64);
      const ArenaScope inner(arena);
      arena.allocate(10'000);
    }
  };
  step();
  step();
  const HeapCounter heap;
  for (int i = 0; i < 5; ++i) step();
  const int64_t allocations = heap.count();
  CHECK(allocations == 0);
}

TEST_CASE("arena: marks nest and give memory back") {
  StepArena arena;
  void* first = arena.allocate(100);
  const int64_t used = arena.bytes_in_use();
  const StepArena::Mark outer = arena.mark();
  void* a = arena.allocate(100);
  const int64_t used_outer = arena.bytes_in_use();
  const StepArena::Mark inner = arena.mark();
  void* b = arena.allocate(100);
  arena.release(inner);
  CHECK(arena.bytes_in_use() == used_outer);
  CHECK(arena.allocate(50) == b);
  arena.release(outer);
  CHECK(arena.bytes_in_use() == used);
  CHECK(arena.allocate(10) == a);
  CHECK(a != first);
}

TEST_CASE("arena: a mark is released over block borders") {
  StepArena arena;
  arena.allocate(600'000);
  const int64_t used = arena.bytes_in_use();
  void* after = nullptr;
  {
    const ArenaScope scope(arena);
    after = arena.allocate(1000);
    for (int i = 0; i < 5; ++i) arena.allocate(900'000);
  }
  CHECK(arena.bytes_in_use() == used);
  CHECK(arena.allocate(1000) == after);
  std::vector<std::pair<void*, int64_t>> pieces;
  for (int i = 0; i < 5; ++i) pieces.emplace_back(arena.allocate(900'000), 900'000);
  CHECK(whole(pieces));
}

TEST_CASE("arena: a mark before the first allocation") {
  StepArena arena;
  {
    const ArenaScope scope(arena);
    arena.allocate(5 * kMiB);
  }
  CHECK(arena.bytes_in_use() == 0);
  CHECK(arena.bytes_peak() >= 5 * kMiB);
}

TEST_CASE("arena: marks are released innermost first and before reset") {
  StepArena arena;
  const StepArena::Mark outer = arena.mark();
  const StepArena::Mark inner = arena.mark();
  CHECK(caught([&] { arena.release(outer); }).is(ErrorKind::kInternal));
  CHECK(caught([&] { arena.reset(); }).is(ErrorKind::kInternal));
  arena.release(inner);
  CHECK(caught([&] { arena.release(inner); }).is(ErrorKind::kInternal));
  arena.release(outer);
  arena.reset();
}

TEST_CASE("arena: tags know their mark") {
  StepArena arena;
  CHECK(arena.alive({&arena, 1, 0}));
  CHECK_FALSE(arena.alive({&arena, 1, 1}));
  arena.reset();
  CHECK_FALSE(arena.alive({&arena, 1, 0}));
}

TEST_CASE("arena: a stale tensor throws in checked builds" * doctest::skip(!kArenaChecks)) {
  StepArena arena;
  const Tensor step = arena.empty({2, 3}, Dtype::kF32);
  Tensor inside;
  {
    const ArenaScope outer(arena);
    const Tensor held = arena.empty({4}, Dtype::kF32);
    {
      const ArenaScope inner(arena);
      inside = arena.empty({5, 1}, Dtype::kF32);
      CHECK(inside.data<float>() != nullptr);
    }
    CHECK(caught([&] { inside.data<float>(); }).is(ErrorKind::kInternal, {"(5,1)"}));
    CHECK(held.data<float>() != nullptr);
    // Another mark of the same depth does not bring it back.
    const ArenaScope again(arena);
    CHECK(caught([&] { inside.raw(); }).is(ErrorKind::kInternal));
  }
  CHECK(step.data<float>() != nullptr);
  const Tensor views[] = {step.viewed({6}), step.rows(0, 1)};
  arena.reset();
  CHECK(caught([&] { step.data<float>(); }).is(ErrorKind::kInternal, {"(2,3)"}));
  for (const Tensor& x : views) CHECK(caught([&] { x.raw(); }).is(ErrorKind::kInternal));
}

TEST_CASE("arena: poisons what is free and between allocations" * doctest::skip(!kPoisons)) {
  StepArena arena;
  const auto* a = static_cast<const char*>(arena.allocate(64));
  const auto* b = static_cast<const char*>(arena.allocate(100));
  CHECK(b - a >= 128);
  for (int i = 0; i < 64; ++i) CHECK_FALSE(poisoned(a + i));
  for (int i = 64; i < 128; ++i) CHECK(poisoned(a + i));
  CHECK_FALSE(poisoned(b + 99));
  CHECK(poisoned(b + 128));
  const StepArena::Mark mark = arena.mark();
  const auto* c = static_cast<const char*>(arena.allocate(10));
  CHECK_FALSE(poisoned(c));
  arena.release(mark);
  CHECK(poisoned(c));
  CHECK_FALSE(poisoned(b));
  arena.reset();
  CHECK(poisoned(a));
}
