#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/core/parallel.h"
#include "engine/gemm/gemm.h"

// How products are cut into tasks. No cut shows in the bits.
namespace engine::kernels {

// op(a)(i,p) = a[i * row + p * col].
template <class T>
struct Operand {
  const T* data;
  int64_t row, col;
  const T* at(int64_t i, int64_t p) const { return data + i * row + p * col; }
};

template <class T>
Operand<T> operand(Trans trans, const T* data, int64_t ld) {
  return trans == Trans::kNo ? Operand<T>{data, ld, 1} : Operand<T>{data, 1, ld};
}

// How many pieces of `size` cover n.
inline int64_t pieces_of(int64_t n, int64_t size) { return (n + size - 1) / size; }

// Cuts n into about `want` equal pieces of whole multiples of `unit`.
inline int64_t piece_size(int64_t n, int64_t want, int64_t unit) {
  return std::max<int64_t>(1, pieces_of(pieces_of(n, unit), std::max<int64_t>(1, want))) * unit;
}

// Enough tasks for every thread to be busy to the end.
inline int64_t tasks_wanted() { return 4 * static_cast<int64_t>(num_threads()); }

// Rows and panels (groups of columns) of one task.
struct TaskCut {
  int64_t rows, panels;
};

// For products whose tasks pack both operands themselves (weight gradients): c is cut across its
// longer side, so that each task packs little for what it multiplies. Rows go in multiples of
// `tile_rows`, at least `least_rows` of them.
inline TaskCut packing_cut(int64_t m, int64_t panels, int64_t panel_cols, int64_t tile_rows,
                           int64_t least_rows, int64_t want) {
  TaskCut cut{m, panels};
  if (panels * panel_cols >= m) {
    cut.panels = piece_size(panels, want, 1);
    cut.rows = std::max(least_rows, piece_size(m, want / pieces_of(panels, cut.panels), tile_rows));
  } else {
    cut.rows = std::max(least_rows, piece_size(m, want, tile_rows));
    cut.panels = piece_size(panels, want / pieces_of(m, cut.rows), 1);
  }
  return cut;
}

// Rows offset[g] ... offset[g+1] of each group in blocks of `size`: task t's, or none.
struct RowBlock {
  int64_t group, begin, end;
};
inline int64_t row_blocks_at_most(int64_t rows, int64_t groups, int64_t size) {
  return pieces_of(rows, size) + groups;
}
inline RowBlock row_block(const int32_t* offset, int64_t groups, int64_t size, int64_t t) {
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t count = pieces_of(offset[g + 1] - offset[g], size);
    if (t < count) {
      const int64_t begin = offset[g] + t * size;
      return {g, begin, std::min<int64_t>(begin + size, offset[g + 1])};
    }
    t -= count;
  }
  return {groups, 0, 0};
}

}  // namespace engine::kernels
