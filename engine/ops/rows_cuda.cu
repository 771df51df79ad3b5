#include <cmath>

#include "engine/ops/row_moves.cuh"
#include "engine/ops/rows_kernels.h"

namespace engine::kernels {
namespace {

// y[i] (+)= residual[i] + sum_j weight[i, j] * x[slot_of[i, j]]; null: residual 0, weights 1.
template <int kVec, class T>
__global__ void __launch_bounds__(kWarp* kMoveRows)
    sum_choices_kernel(const T* x, const Wide<T>* weight, const int32_t* slot_of, const T* residual,
                       T* y, RowsSize s, bool add) {
  using Packed = Pack<Wide<T>, kVec>;
  constexpr int64_t kStep = kWarp * kVec;
  const int64_t item = moved_row();
  if (item >= s.items) return;
  for (int64_t at = int64_t{threadIdx.x} * kVec; at < s.width; at += kMoveAhead * kStep) {
    Packed sums[kMoveAhead] = {};
    const auto each = [&](auto&& f) {  // f(pack's sum, its first column)
#pragma unroll
      for (int p = 0; p < kMoveAhead; ++p) {
        if (at + p * kStep < s.width) f(sums[p], at + p * kStep);
      }
    };
    if (residual != nullptr) {
      each([&](Packed& sum, int64_t c) { sum = Packed::load(residual + item * s.width + c); });
    }
    for (int64_t choice = item * s.choices; choice < (item + 1) * s.choices; ++choice) {
      const int64_t slot = slot_of[choice];
      if (slot < 0) continue;
      const Wide<T> w = weight != nullptr ? weight[choice] : Wide<T>(1);
      each([&](Packed& sum, int64_t c) {
        const Packed row = Packed::load(x + slot * s.width + c);
        for (int i = 0; i < kVec; ++i) sum.v[i] = fma(w, row.v[i], sum.v[i]);
      });
    }
    each([&](const Packed& sum, int64_t c) { sum.put(y + item * s.width + c, add); });
  }
}

template <class T>
void sum_choices(Cuda on, const T* x, const Wide<T>* weight, const int32_t* slot_of,
                 const T* residual, T* y, RowsSize s, GradWrite write) {
  if (s.items == 0 || s.width == 0) return;
  with_pack<T>(packable<T>(s.width, x, residual, y), [&]<int kVec>() {
    launch(on, move_grid(s.items), move_block(), sum_choices_kernel<kVec, T>, x, weight, slot_of,
           residual, y, s, write == GradWrite::kAccumulate);
  });
}

// One warp a choice.
template <int kVec, class T>
__global__ void __launch_bounds__(kWarp* kMoveRows)
    weight_kernel(const T* ys, const T* dy, const int32_t* slot_of, Wide<T>* dweight, RowsSize s,
                  bool add) {
  using Packed = Pack<Wide<T>, kVec>;
  const int64_t choice = moved_row();
  if (choice >= s.items * s.choices) return;
  const int64_t slot = slot_of[choice];
  Wide<T> dot = 0;
  if (slot >= 0) {
    const T *g = dy + choice / s.choices * s.width, *row = ys + slot * s.width;
#pragma unroll 4
    for (int64_t c = int64_t{threadIdx.x} * kVec; c < s.width; c += kWarp * kVec) {
      const Packed a = Packed::load(g + c), b = Packed::load(row + c);
      for (int i = 0; i < kVec; ++i) dot = fma(a.v[i], b.v[i], dot);
    }
  }
  dot = warp_sum(dot);
  if (threadIdx.x == 0) dweight[choice] = add ? dweight[choice] + dot : dot;
}

}  // namespace

template <class T>
void gather_rows_forward(Cuda on, const T* x, const int32_t* choice_of_slot, T* xs, RowsSize s) {
  launch_row_moves<T>(
      on, {s.slots, s.width}, packable<T>(s.width, x, xs), GradWrite::kOverwrite,
      [=] __device__(int64_t slot) {
        const int32_t choice = choice_of_slot[slot];
        const int64_t item = choice / static_cast<int32_t>(s.choices);
        return RowMove<T>{choice < 0 ? nullptr : x + item * s.width, xs + slot * s.width, 1};
      });
}

template <class T>
void gather_rows_backward(Cuda on, const T* dxs, const int32_t* slot_of, T* dx, RowsSize s,
                          GradWrite write) {
  sum_choices<T>(on, dxs, nullptr, slot_of, nullptr, dx, s, write);
}

template <class T>
void combine_rows_forward(Cuda on, const T* ys, const Wide<T>* weight, const int32_t* slot_of,
                          const T* residual, T* y, RowsSize s) {
  sum_choices(on, ys, weight, slot_of, residual, y, s, GradWrite::kOverwrite);
}

template <class T>
void combine_rows_backward_slots(Cuda on, const Wide<T>* weight, const T* dy,
                                 const int32_t* choice_of_slot, T* dys, RowsSize s,
                                 GradWrite write) {
  launch_row_moves<T>(on, {s.slots, s.width}, packable<T>(s.width, dy, dys), write,
                      [=] __device__(int64_t slot) {
                        const int32_t choice = choice_of_slot[slot];
                        T* to = dys + slot * s.width;
                        if (choice < 0) return RowMove<T>{nullptr, to, 0};
                        const int64_t item = choice / static_cast<int32_t>(s.choices);
                        return RowMove<T>{dy + item * s.width, to, weight[choice]};
                      });
}

template <class T>
void combine_rows_backward_weight(Cuda on, const T* ys, const T* dy, const int32_t* slot_of,
                                  Wide<T>* dweight, RowsSize s, GradWrite write) {
  const int64_t choices = s.items * s.choices;
  if (choices == 0) return;
  // Packs of what is computed with: a sum over a row has the same order for every T.
  with_pack<Wide<T>>(packable<Wide<T>>(s.width, ys, dy), [&]<int kVec>() {
    launch(on, move_grid(choices), move_block(), weight_kernel<kVec, T>, ys, dy, slot_of, dweight,
           s, write == GradWrite::kAccumulate);
  });
}

template void gather_rows_forward(Cuda, const float*, const int32_t*, float*, RowsSize);
template void gather_rows_forward(Cuda, const double*, const int32_t*, double*, RowsSize);
template void gather_rows_forward(Cuda, const bf16*, const int32_t*, bf16*, RowsSize);
template void gather_rows_backward(Cuda, const float*, const int32_t*, float*, RowsSize, GradWrite);
template void gather_rows_backward(Cuda, const double*, const int32_t*, double*, RowsSize,
                                   GradWrite);
template void gather_rows_backward(Cuda, const bf16*, const int32_t*, bf16*, RowsSize, GradWrite);
template void combine_rows_forward(Cuda, const float*, const float*, const int32_t*, const float*,
                                   float*, RowsSize);
template void combine_rows_forward(Cuda, const double*, const double*, const int32_t*,
                                   const double*, double*, RowsSize);
template void combine_rows_forward(Cuda, const bf16*, const float*, const int32_t*, const bf16*,
                                   bf16*, RowsSize);
template void combine_rows_backward_slots(Cuda, const float*, const float*, const int32_t*, float*,
                                          RowsSize, GradWrite);
template void combine_rows_backward_slots(Cuda, const double*, const double*, const int32_t*,
                                          double*, RowsSize, GradWrite);
template void combine_rows_backward_slots(Cuda, const float*, const bf16*, const int32_t*, bf16*,
                                          RowsSize, GradWrite);
template void combine_rows_backward_weight(Cuda, const float*, const float*, const int32_t*, float*,
                                           RowsSize, GradWrite);
template void combine_rows_backward_weight(Cuda, const double*, const double*, const int32_t*,
                                           double*, RowsSize, GradWrite);
template void combine_rows_backward_weight(Cuda, const bf16*, const bf16*, const int32_t*, float*,
                                           RowsSize, GradWrite);

}  // namespace engine::kernels
