#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace engine {

// Threads a parallel region may use: what --threads (or OMP_NUM_THREADS) says.
inline int num_threads() { return omp_get_max_threads(); }

// Calls body(begin, end) on pieces that cover [0, n), in parallel. Pieces start at
// multiples of `grain`, whatever the number of threads. Pieces must write disjoint
// memory and must not throw. Runs inline when small or already in parallel.
template <class Body>
void parallel_for(int64_t n, int64_t grain, Body&& body) {
  if (n <= 0) return;
  const int64_t grains = (n + grain - 1) / grain;
  const int64_t pieces = std::min<int64_t>(num_threads(), grains);
  if (pieces <= 1 || omp_in_parallel()) return body(int64_t{0}, n);
    // Always the whole team: libgomp allocates anew whenever the size of the team changes.
#pragma omp parallel for schedule(static, 1)
  for (int64_t p = 0; p < pieces; ++p) {
    body(grains * p / pieces * grain, std::min(n, grains * (p + 1) / pieces * grain));
  }
}

// Calls body(task) for task in [0, n), in parallel, next task to the next free thread:
// for tasks of unequal size. Tasks must write disjoint memory, so that the order in which
// they run cannot show in the result, and must not throw. prepare() runs first on
// every thread, also on one that will get no task: the place to take workspace, so
// that who gets which task cannot decide in which step a thread allocates.
template <class Body, class Prepare>
void parallel_tasks(int64_t n, Body&& body, Prepare&& prepare) {
  if (n <= 1 || num_threads() <= 1 || omp_in_parallel()) {
    prepare();
    for (int64_t t = 0; t < n; ++t) body(t);
    return;
  }
#pragma omp parallel
  {
    prepare();
#pragma omp for schedule(dynamic, 1)
    for (int64_t t = 0; t < n; ++t) body(t);
  }
}
template <class Body>
void parallel_tasks(int64_t n, Body&& body) {
  parallel_tasks(n, body, [] {});
}

// How many rows of `cols` elements make a piece worth a thread: about 16k elements.
inline int64_t rows_per_grain(int64_t cols) {
  return std::max<int64_t>(1, (int64_t{1} << 14) / std::max<int64_t>(1, cols));
}

// Sums over rows are cut into this many chunks whatever the number of threads; the
// partial sums are added in chunk order, so the total has the same bits always.
inline constexpr int64_t kReduceChunks = 32;

// The rows [begin, end) of chunk c of n rows.
struct ChunkRange {
  int64_t begin, end;
};
inline ChunkRange reduce_chunk(int64_t n, int64_t c) {
  return {n * c / kReduceChunks, n * (c + 1) / kReduceChunks};
}

}  // namespace engine
