#pragma once

#include <climits>
#include <cstdint>

#include "engine/core/cuda_launch.cuh"
#ifndef __CUDACC__
#include <atomic_exchange.h>  // of the emulator
#endif

// Which pairs a row is in, for gradients that a row gathers from its pairs. CUDA sources only.
namespace nn::kernels {

// Member 2n is the left row of pair n, member 2n + 1 its right one. head (rows): a member whose
// row it is, -1: none; next (2 count): another one of the same row. The lists' order depends on
// timing, that of each() does not.
struct RowLinks {
  int32_t *head, *next;

  // f(member) for every member of `row`, in ascending order. Each looks through the row's whole
  // list, which is short.
  template <class F>
  __device__ void each(int64_t row, F&& f) const {
    for (int32_t last = -1;;) {
      int32_t least = INT_MAX;
      for (int32_t m = head[row]; m >= 0; m = next[m]) {
        if (m > last && m < least) least = m;
      }
      if (least == INT_MAX) return;
      f(int64_t{least});
      last = least;
    }
  }
};

inline int64_t row_links_bytes(int64_t rows, int64_t count) {
  return (rows + 2 * count) * int64_t{sizeof(int32_t)};
}

// The links of `count` pairs in memory of row_links_bytes(). A pair of rows -1 is none.
inline RowLinks link_rows(engine::Cuda on, const int32_t* left, const int32_t* right, int64_t rows,
                          int64_t count, void* memory) {
  engine::check(count <= INT_MAX / 2, engine::ErrorKind::kShape, count, " pairs are too many");
  auto* head = static_cast<int32_t*>(memory);
  const RowLinks links{head, head + rows};
  engine::launch_each(on, rows, [=] __device__(int64_t row) { links.head[row] = -1; });
  engine::launch_each(on, 2 * count, [=] __device__(int64_t m) {
    const int32_t row = m % 2 == 0 ? left[m / 2] : right[m / 2];
    if (row < 0) return;
    links.next[m] = atomicExch(links.head + row, static_cast<int32_t>(m));
  });
  return links;
}

}  // namespace nn::kernels
