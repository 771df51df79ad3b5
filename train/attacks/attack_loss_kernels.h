#pragma once

#include <cstdint>

#include "engine/core/backend.h"

// Raw kernels of dlr_loss (attack_loss.h has the formulas).
namespace train::kernels {

using engine::Cpu;
using engine::Cuda;
using engine::RowsCols;

// A quotient (z[other] - z[label]) / (z[top] - (z[low_a] + z[low_b]) / 2 + 1e-12) of a row z.
// constexpr: read by the host and by a GPU.
struct Ratio {
  int64_t label, other, top, low_a, low_b;

  template <class T>
  constexpr double above(const T* z) const {
    return static_cast<double>(z[other]) - static_cast<double>(z[label]);
  }
  template <class T>
  constexpr double below(const T* z) const {
    return static_cast<double>(z[top]) -
           (static_cast<double>(z[low_a]) + static_cast<double>(z[low_b])) / 2 + 1e-12;
  }
};

// Of the four largest logits' classes, largest first. `target` < 0: untargeted.
constexpr Ratio ratio_from(const int64_t (&first)[4], int64_t label, int64_t target) {
  if (target >= 0) return {label, target, first[0], first[2], first[3]};
  return {label, first[0] == label ? first[1] : first[0], first[0], first[2], first[2]};
}

// Ties go to the lower class.
template <class T>
constexpr Ratio ratio_of(const T* z, int64_t classes, int64_t label, int64_t target) {
  int64_t first[4] = {};
  for (int64_t k = 0; k < 4 && k < classes; ++k) {
    int64_t best = -1;
    for (int64_t i = 0; i < classes; ++i) {
      bool taken = false;
      for (int64_t earlier = 0; earlier < k; ++earlier) taken |= first[earlier] == i;
      if (!taken && (best < 0 || z[i] > z[best])) best = i;
    }
    first[k] = best;
  }
  return ratio_from(first, label, target);
}

//   logits   (rows, cols)
//   labels   (rows),  targets  (rows) or null
//   loss     (1)
template <class T>
void dlr_forward(Cpu, const T* logits, const int32_t* labels, const int32_t* targets, RowsCols size,
                 T* loss);
template <class T>
void dlr_forward(Cuda, const T* logits, const int32_t* labels, const int32_t* targets,
                 RowsCols size, T* loss);
// dlogits += dy[0] dloss/dlogits
template <class T>
void dlr_backward(Cpu, const T* logits, const int32_t* labels, const int32_t* targets,
                  RowsCols size, const T* dy, T* dlogits);
template <class T>
void dlr_backward(Cuda, const T* logits, const int32_t* labels, const int32_t* targets,
                  RowsCols size, const T* dy, T* dlogits);

// One row's part of the backward, in the order of its five terms.
template <class T>
constexpr void add_dlr_slopes(const T* z, const Ratio& r, double seed, T* dz) {
  const double above = r.above(z), below = r.below(z);
  const double slope = seed * above / (below * below);
  dz[r.other] += static_cast<T>(seed / below);
  dz[r.label] -= static_cast<T>(seed / below);
  dz[r.top] -= static_cast<T>(slope);
  dz[r.low_a] += static_cast<T>(slope / 2);
  dz[r.low_b] += static_cast<T>(slope / 2);
}

}  // namespace train::kernels
