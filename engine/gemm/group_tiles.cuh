#pragma once

#include <cstdint>

// Cuts the rows of groups into tiles without knowing the groups on the host. CUDA sources only.
namespace engine::kernels {

// Group g owns the rows offset[g] ... offset[g+1]; no offset: one group owns all rows. What lies
// behind the last group counts as one more group, number `groups`.
struct GroupRows {
  const int32_t* offset;  // on the device
  int64_t groups, rows;

  __device__ int64_t begin(int64_t g) const {
    if (g > groups) return rows;
    if (offset == nullptr) return g == 0 ? 0 : rows;
    return offset[g];
  }
};

// One tile: rows [begin, end) of a group; empty where the numbering leaves a gap.
struct GroupTile {
  int64_t group, begin, end;
};

// Tiles of group g are numbered from begin(g) / size + g on. The next group's first number is then
// never too small, whatever the offsets, and finding a tile takes a search and no sums.
__device__ inline int64_t first_tile(const GroupRows& rows, int64_t size, int64_t g) {
  return rows.begin(g) / size + g;
}
// How many numbers there are at most, those behind the last group included.
inline int64_t tiles_at_most(const GroupRows& rows, int64_t size) {
  return rows.rows / size + rows.groups + 1;
}
__device__ inline GroupTile tile_of(const GroupRows& rows, int64_t size, int64_t t) {
  int64_t low = 0, high = rows.groups;  // the last group that begins at t or before
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (first_tile(rows, size, middle) <= t) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  const int64_t begin = rows.begin(low) + (t - first_tile(rows, size, low)) * size;
  return {low, begin, min(begin + size, rows.begin(low + 1))};
}

}  // namespace engine::kernels
