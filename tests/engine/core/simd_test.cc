#include "engine/core/simd.h"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

using namespace engine;

namespace {

// Two pages of which the second may not be touched.
class Guarded {
 public:
  Guarded() : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    memory_ = static_cast<char*>(
        mmap(nullptr, 2 * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    REQUIRE(memory_ != MAP_FAILED);
    REQUIRE(mprotect(memory_ + page_, page_, PROT_NONE) == 0);
  }
  ~Guarded() { munmap(memory_, 2 * page_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  // The last n elements before the guard.
  template <class T>
  T* last(int64_t n) const {
    return reinterpret_cast<T*>(memory_ + page_) - n;
  }

 private:
  size_t page_;
  char* memory_;
};

template <class T>
void check_parts() {
  const Guarded guarded;
  for (int64_t n = 1; n < simd::kLanes<T>; ++n) {
    CAPTURE(n);
    T* const part = guarded.last<T>(n);
    for (int64_t i = 0; i < n; ++i) part[i] = static_cast<T>(i + 1);
    std::vector<T> lanes(simd::kLanes<T>);
    simd::store(lanes.data(), simd::load_part(part, n, T(-1)));
    for (int64_t i = 0; i < simd::kLanes<T>; ++i) CHECK(lanes[i] == (i < n ? T(i + 1) : T(-1)));
    part[-1] = T(99);
    simd::store_part(part, simd::set(T(7)), n);
    CHECK(part[-1] == T(99));
    CHECK(std::all_of(part, part + n, [](T x) { return x == T(7); }));
  }
}

}  // namespace

TEST_CASE("simd: a part of a register touches its own elements only") {
  check_parts<float>();
  check_parts<double>();
}
