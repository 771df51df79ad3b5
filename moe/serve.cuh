#pragma once

#include <bit>
#include <type_traits>

#include "engine/core/block_scan.cuh"

// Which of those who ask for an expert's places get them, by one block of kGiveThreads. Where more
// ask than there is room for, it looks for the key of the last one that is served, a byte after the
// other. CUDA sources only.
//
// The askers are an object with items(): of which some ask; asks(i): whether item i does; key(i):
// the larger goes first, then the earlier item.
namespace moe::kernels {

inline constexpr int kGiveThreads = 512;
inline constexpr int kItemsPerThread = 4;
inline constexpr int kDigits = 256;

// Unsigned numbers in the order of the gates; NaN is -1, as on the CPU.
template <class T>
using Key = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
template <class T>
__device__ Key<T> key_of(T gate) {
  constexpr Key<T> kSign = Key<T>{1} << (8 * sizeof(T) - 1);
  if (gate != gate) gate = T(-1);
  if (gate == T(0)) gate = T(0);  // -0 as well
  const auto bits = std::bit_cast<Key<T>>(gate);
  return (bits & kSign) != 0 ? ~bits : bits | kSign;
}

template <class Askers>
__device__ int32_t count_askers(const Askers& r) {
  int32_t mine = 0, all = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < r.items(); i += kGiveThreads) mine += r.asks(i);
  engine::block_scan<kGiveThreads>(mine, &all);
  return all;
}

// Served are requests with a larger key, and the first `equal` of those with this one.
template <class T>
struct Bar {
  Key<T> key;
  int32_t equal;
};

// The bar that `room` requests pass; there are more.
template <class T, class Askers>
__device__ Bar<T> find_bar(const Askers& r, int32_t room) {
  __shared__ int32_t counts[kDigits], found[2];
  Bar<T> bar{0, room};
  for (int shift = 8 * sizeof(T) - 8; shift >= 0; shift -= 8) {
    __syncthreads();
    if (threadIdx.x < kDigits) counts[threadIdx.x] = 0;
    __syncthreads();
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < r.items(); i += kGiveThreads) {
      if (!r.asks(i)) continue;
      const Key<T> key = r.key(i) >> shift;
      if (key >> 8 == bar.key) atomicAdd(&counts[key & (kDigits - 1)], 1);
    }
    __syncthreads();
    const int digit = kDigits - 1 - static_cast<int>(threadIdx.x);  // from the largest down
    const int32_t here = digit >= 0 ? counts[digit] : 0;
    int32_t all;
    const int32_t above = engine::block_scan<kGiveThreads>(here, &all);
    if (above < bar.equal && bar.equal <= above + here) {
      found[0] = digit;
      found[1] = bar.equal - above;
    }
    __syncthreads();
    bar = {static_cast<Key<T>>(bar.key << 8 | static_cast<Key<T>>(found[0])), found[1]};
  }
  return bar;
}

// Calls put(item, whether it is served) for all who ask.
template <class T, class Askers, class Put>
__device__ void serve(const Askers& r, const Bar<T>& bar, const Put& put) {
  constexpr int kItems = kGiveThreads * kItemsPerThread;
  int32_t before = 0;  // with the bar's key
  for (int64_t base = 0; base < r.items(); base += kItems) {
    const int64_t first = base + int64_t{threadIdx.x} * kItemsPerThread;
    bool asks[kItemsPerThread];
    Key<T> key[kItemsPerThread];
    int32_t equal = 0, all = 0;
#pragma unroll
    for (int j = 0; j < kItemsPerThread; ++j) {
      asks[j] = first + j < r.items() && r.asks(first + j);
      key[j] = asks[j] ? r.key(first + j) : Key<T>{0};
      equal += asks[j] && key[j] == bar.key;
    }
    int32_t rank = before + engine::block_scan<kGiveThreads>(equal, &all);
#pragma unroll
    for (int j = 0; j < kItemsPerThread; ++j) {
      if (!asks[j]) continue;
      bool served = key[j] > bar.key;
      if (key[j] == bar.key) served = rank++ < bar.equal;
      put(first + j, served);
    }
    before += all;
  }
}

}  // namespace moe::kernels
