#include <algorithm>
#include <cmath>

#include "engine/core/parallel.h"
#include "engine/core/workspace.h"
#include "engine/gemm/gemm.h"
#include "engine/ops/attention_kernels.h"
#include "engine/ops/softmax_rows.h"

namespace engine::kernels {
namespace {

// Where one image and head finds its rows: q, k, v at `qkv` + 0, width, 2*width.
struct HeadView {
  int64_t qkv, y, p;  // element offsets
  int64_t width, stride;
};

HeadView head_view(const AttentionSize& s, int64_t task) {
  const int64_t b = task / s.heads, h = task % s.heads, width = s.heads * s.head_dim;
  return {b * s.tokens * 3 * width + h * s.head_dim, b * s.tokens * width + h * s.head_dim,
          task * s.tokens * s.tokens, width, 3 * width};
}

// Asks for a head's row of q, k and v while the head before it is computed: rows are short and far
// apart, which hardware does not foresee.
template <class T>
void prefetch_row(const T* q, int64_t width, int64_t head_dim) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t part = 0; part < 3; ++part) {
    for (int64_t i = 0; i < head_dim; i += kLine) __builtin_prefetch(q + part * width + i, 0, 2);
  }
}

}  // namespace

template <class T>
void attention_forward(Cpu, const T* qkv, T* probabilities, T* y, AttentionSize s,
                       Precision precision) {
  const T scale = T(1) / std::sqrt(static_cast<T>(s.head_dim));
  const int64_t t = s.tokens, d = s.head_dim;
  parallel_for(s.batch * s.heads, 1, [=](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const HeadView at = head_view(s, task);
      const T *q = qkv + at.qkv, *k = q + at.width, *v = k + at.width;
      const T* next = task + 1 < end ? qkv + head_view(s, task + 1).qkv : q;
      T* p = probabilities + at.p;
      gemm_serial<T>(Trans::kNo, Trans::kYes, {t, t, d}, q, at.stride, k, at.stride, p, t,
                     GradWrite::kOverwrite, precision);
      for (int64_t r = 0; r < t; ++r) {
        prefetch_row(next + r * at.stride, at.width, d);
        simd::softmax_row(p + r * t, p + r * t, t, scale);
      }
      gemm_serial<T>(Trans::kNo, Trans::kNo, {t, d, t}, p, t, v, at.stride, y + at.y, at.width,
                     GradWrite::kOverwrite, precision);
    }
  });
}

template <class T>
void attention_backward(Cpu, const T* qkv, const T* probabilities, const T*, const T* dy, T* dqkv,
                        AttentionSize s, GradWrite write, Precision precision) {
  const T scale = T(1) / std::sqrt(static_cast<T>(s.head_dim));
  const int64_t t = s.tokens, d = s.head_dim;
  parallel_for(s.batch * s.heads, 1, [=](int64_t begin, int64_t end) {
    T* ds = workspace<T>(3, t * t);
    for (int64_t task = begin; task < end; ++task) {
      const HeadView at = head_view(s, task);
      const T *q = qkv + at.qkv, *k = q + at.width, *v = k + at.width, *g = dy + at.y;
      const T* p = probabilities + at.p;
      const HeadView next = head_view(s, std::min(task + 1, end - 1));
      T *dq = dqkv + at.qkv, *dk = dq + at.width, *dv = dk + at.width;
      gemm_serial<T>(Trans::kYes, Trans::kNo, {t, d, t}, p, t, g, at.width, dv, at.stride, write,
                     precision);
      gemm_serial<T>(Trans::kNo, Trans::kYes, {t, t, d}, g, at.width, v, at.stride, ds, t,
                     GradWrite::kOverwrite, precision);
      for (int64_t r = 0; r < t; ++r) {
        prefetch_row(qkv + next.qkv + r * at.stride, at.width, d);
        for (int64_t i = 0; i < d; i += 64 / sizeof(T)) {
          __builtin_prefetch(dy + next.y + r * at.width + i, 0, 2);
        }
        simd::softmax_row_backward(p + r * t, ds + r * t, ds + r * t, t, scale, false);
      }
      gemm_serial<T>(Trans::kNo, Trans::kNo, {t, d, t}, ds, t, k, at.stride, dq, at.stride, write,
                     precision);
      gemm_serial<T>(Trans::kYes, Trans::kNo, {t, d, t}, ds, t, q, at.stride, dk, at.stride, write,
                     precision);
    }
  });
}

template void attention_forward(Cpu, const float*, float*, float*, AttentionSize, Precision);
template void attention_forward(Cpu, const double*, double*, double*, AttentionSize, Precision);
template void attention_backward(Cpu, const float*, const float*, const float*, const float*,
                                 float*, AttentionSize, GradWrite, Precision);
template void attention_backward(Cpu, const double*, const double*, const double*, const double*,
                                 double*, AttentionSize, GradWrite, Precision);

}  // namespace engine::kernels
