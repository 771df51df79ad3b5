#include <algorithm>

#include "engine/core/parallel.h"
#include "engine/core/workspace.h"
#include "moe/prc_loss_kernels.h"

namespace moe::kernels {
namespace {

// Sums over the pairs: S (E, E) and D (X, E), both already times E/N. Partial sums per fixed
// chunk of pairs, added in chunk order.
template <class T>
void accumulate(const T* r, int64_t experts, const PairRows& pairs, double* s, double* d) {
  const int64_t square = experts * experts, row = square + pairs.slots * experts;
  double* partial = engine::workspace<double>(0, engine::kReduceChunks * row);
  engine::parallel_tasks(engine::kReduceChunks, [=, &pairs](int64_t chunk) {
    double* sum = partial + chunk * row;
    std::fill_n(sum, row, 0.0);
    const engine::ChunkRange range = engine::reduce_chunk(pairs.count, chunk);
    for (int64_t n = range.begin; n < range.end; ++n) {
      const T *a = r + pairs.left[n] * experts, *b = r + pairs.right[n] * experts;
      double* by_slot = sum + square + pairs.slot[n] * experts;
      for (int64_t i = 0; i < experts; ++i) {
        const double ai = static_cast<double>(a[i]);
        for (int64_t j = 0; j < experts; ++j)
          sum[i * experts + j] += ai * static_cast<double>(b[j]);
        by_slot[i] += ai * static_cast<double>(b[i]);
      }
    }
  });
  const double factor = static_cast<double>(experts) / static_cast<double>(pairs.count);
  std::fill_n(s, square, 0.0);
  std::fill_n(d, row - square, 0.0);
  for (int64_t chunk = 0; chunk < engine::kReduceChunks; ++chunk) {
    const double* sum = partial + chunk * row;
    for (int64_t i = 0; i < square; ++i) s[i] += sum[i] * factor;
    for (int64_t i = 0; i < row - square; ++i) d[i] += sum[square + i] * factor;
  }
}

struct Terms {
  double diagonal = 0, off_diagonal = 0;
};

Terms terms_of(const double* s, const double* d, int64_t experts, int64_t slots, PrcForm form) {
  Terms t;
  const double e = static_cast<double>(experts);
  for (int64_t i = 0; i < experts; ++i) {
    for (int64_t j = 0; j < experts; ++j) {
      const double v = s[i * experts + j];
      if (i != j) t.off_diagonal += v * v / (e * (e - 1));
      if (i == j && form == PrcForm::kPaper) t.diagonal += (1 - v) * (1 - v) / e;
    }
  }
  if (form == PrcForm::kFork) {
    const int64_t count = slots * experts;
    for (int64_t i = 0; i < count; ++i) {
      t.diagonal += (d[i] - 1) * (d[i] - 1) / static_cast<double>(count);
    }
  }
  return t;
}

// s becomes M = dloss/dS (its diagonal 0 in the fork form), d becomes the diagonal's slope of
// each slot (0 in the paper form); both times E/N.
void slopes_in_place(double* s, double* d, int64_t experts, const PairRows& pairs,
                     const PrcWeights& lambda) {
  const double e = static_cast<double>(experts), factor = e / static_cast<double>(pairs.count);
  for (int64_t i = 0; i < experts; ++i) {
    for (int64_t j = 0; j < experts; ++j) {
      double& v = s[i * experts + j];
      if (i != j) {
        v = factor * 2 * lambda.off_diagonal / (e * (e - 1)) * v;
      } else {
        v = lambda.form == PrcForm::kPaper ? -factor * 2 * lambda.diagonal / e * (1 - v) : 0;
      }
    }
  }
  const int64_t count = pairs.slots * experts;
  for (int64_t i = 0; i < count; ++i) {
    d[i] = lambda.form == PrcForm::kFork
               ? factor * 2 * lambda.diagonal * (d[i] - 1) / static_cast<double>(count)
               : 0;
  }
}

}  // namespace

template <class T>
void prc_forward(Cpu, const T* r, int64_t experts, const PairRows& pairs, const PrcWeights& lambda,
                 const PrcResult<T>& out) {
  accumulate(r, experts, pairs, out.s, out.slot_slope);
  const Terms terms = terms_of(out.s, out.slot_slope, experts, pairs.slots, lambda.form);
  out.terms[0] = terms.diagonal;
  out.terms[1] = terms.off_diagonal;
  out.loss[0] =
      static_cast<T>(lambda.diagonal * terms.diagonal + lambda.off_diagonal * terms.off_diagonal);
  std::copy_n(out.s, experts * experts, out.slope);
  slopes_in_place(out.slope, out.slot_slope, experts, pairs, lambda);
}

template <class T>
void prc_backward(Cpu, const T* r, int64_t /*rows*/, int64_t experts, const PairRows& pairs,
                  const double* slope, const double* slot_slope, const T* dy, T* dr) {
  const double *m = slope, *d = slot_slope;
  const double seed = static_cast<double>(dy[0]);
  for (int64_t n = 0; n < pairs.count; ++n) {
    const T *a = r + pairs.left[n] * experts, *b = r + pairs.right[n] * experts;
    T *da = dr + pairs.left[n] * experts, *db = dr + pairs.right[n] * experts;
    const double* own = d + pairs.slot[n] * experts;
    for (int64_t i = 0; i < experts; ++i) {
      double ga = own[i] * static_cast<double>(b[i]), gb = own[i] * static_cast<double>(a[i]);
      for (int64_t j = 0; j < experts; ++j) {
        ga += m[i * experts + j] * static_cast<double>(b[j]);
        gb += m[j * experts + i] * static_cast<double>(a[j]);
      }
      da[i] += static_cast<T>(seed * ga);
      db[i] += static_cast<T>(seed * gb);
    }
  }
}

template void prc_forward(Cpu, const float*, int64_t, const PairRows&, const PrcWeights&,
                          const PrcResult<float>&);
template void prc_forward(Cpu, const double*, int64_t, const PairRows&, const PrcWeights&,
                          const PrcResult<double>&);
template void prc_backward(Cpu, const float*, int64_t, int64_t, const PairRows&, const double*,
                           const double*, const float*, float*);
template void prc_backward(Cpu, const double*, int64_t, int64_t, const PairRows&, const double*,
                           const double*, const double*, double*);

}  // namespace moe::kernels
