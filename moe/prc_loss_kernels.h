#pragma once

#include "engine/core/backend.h"
#include "moe/prc_loss.h"

// Raw kernels of prc_loss (prc_loss.h has the formulas).
namespace moe::kernels {

using engine::Cpu;
using engine::Cuda;

// TokenPairs as pointers. On the CPU there are count > 0 pairs; on CUDA as many entries of which
// the first *number are pairs, and may be none.
struct PairRows {
  const int32_t *left, *right, *slot;
  int64_t count;
  const int32_t* number;
  int64_t slots;
};

struct PrcWeights {
  PrcForm form;
  double diagonal, off_diagonal;  // the lambdas
};

// Where the forward leaves its results.
template <class T>
struct PrcResult {
  T* loss;             // (1)
  double* s;           // (E, E)
  double* terms;       // (2), without lambda
  double* slope;       // (E, E) E/N dloss/dS, its diagonal 0 in the fork form
  double* slot_slope;  // (X, E) E/N dloss/dD, 0 in the paper form
};

// r: (rows, E)
template <class T>
void prc_forward(Cpu, const T* r, int64_t experts, const PairRows& pairs, const PrcWeights& lambda,
                 const PrcResult<T>& out);
template <class T>
void prc_forward(Cuda, const T* r, int64_t experts, const PairRows& pairs, const PrcWeights& lambda,
                 const PrcResult<T>& out);

// dr[left] += dy (M + diag(d_slot)) r[right], dr[right] += dy (M^T + diag(d_slot)) r[left], pair by
// pair, with M = slope, d = slot_slope and dy: (1).
template <class T>
void prc_backward(Cpu, const T* r, int64_t rows, int64_t experts, const PairRows& pairs,
                  const double* slope, const double* slot_slope, const T* dy, T* dr);
template <class T>
void prc_backward(Cuda, const T* r, int64_t rows, int64_t experts, const PairRows& pairs,
                  const double* slope, const double* slot_slope, const T* dy, T* dr);

}  // namespace moe::kernels
