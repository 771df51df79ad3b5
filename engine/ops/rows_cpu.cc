#include <algorithm>

#include "engine/core/parallel.h"
#include "engine/core/simd.h"
#include "engine/ops/rows_kernels.h"

namespace engine::kernels {

using simd::load_n;
using simd::Packet;
using simd::set;

template <class T>
void gather_rows_forward(Cpu, const T* x, const int32_t* choice_of_slot, T* xs, RowsSize s) {
  parallel_for(s.slots, rows_per_grain(s.width), [=](int64_t begin, int64_t end) {
    for (int64_t slot = begin; slot < end; ++slot) {
      std::copy_n(x + choice_of_slot[slot] / s.choices * s.width, s.width, xs + slot * s.width);
    }
  });
}

template <class T>
void gather_rows_backward(Cpu, const T* dxs, const int32_t* slot_of, T* dx, RowsSize s,
                          GradWrite write) {
  parallel_for(s.items, rows_per_grain(s.width * s.choices), [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      simd::for_lanes<T>(s.width, [&](int64_t c, int64_t n) {
        Packet<T> sum = set(T(0));
        for (int64_t j = 0; j < s.choices; ++j) {
          const int32_t slot = slot_of[i * s.choices + j];
          if (slot >= 0) sum = simd::add(sum, load_n(dxs + slot * s.width + c, n));
        }
        simd::put_n(dx + i * s.width + c, sum, n, write == GradWrite::kAccumulate);
      });
    }
  });
}

template <class T>
void combine_rows_forward(Cpu, const T* ys, const T* weight, const int32_t* slot_of,
                          const T* residual, T* y, RowsSize s) {
  parallel_for(s.items, rows_per_grain(s.width * s.choices), [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      simd::for_lanes<T>(s.width, [&](int64_t c, int64_t n) {
        Packet<T> sum = residual != nullptr ? load_n(residual + i * s.width + c, n) : set(T(0));
        for (int64_t j = 0; j < s.choices; ++j) {
          const int32_t slot = slot_of[i * s.choices + j];
          if (slot < 0) continue;
          sum = simd::fma(set(weight[i * s.choices + j]), load_n(ys + slot * s.width + c, n), sum);
        }
        simd::store_n(y + i * s.width + c, sum, n);
      });
    }
  });
}

template <class T>
void combine_rows_backward_slots(Cpu, const T* weight, const T* dy, const int32_t* choice_of_slot,
                                 T* dys, RowsSize s, GradWrite write) {
  parallel_for(s.slots, rows_per_grain(s.width), [=](int64_t begin, int64_t end) {
    for (int64_t slot = begin; slot < end; ++slot) {
      const int64_t choice = choice_of_slot[slot];
      const T* g = dy + choice / s.choices * s.width;
      const Packet<T> w = set(weight[choice]);
      simd::for_lanes<T>(s.width, [&](int64_t c, int64_t n) {
        simd::put_n(dys + slot * s.width + c, simd::mul(w, load_n(g + c, n)), n,
                    write == GradWrite::kAccumulate);
      });
    }
  });
}

template <class T>
void combine_rows_backward_weight(Cpu, const T* ys, const T* dy, const int32_t* slot_of, T* dweight,
                                  RowsSize s, GradWrite write) {
  parallel_for(s.items, rows_per_grain(s.width * s.choices), [=](int64_t begin, int64_t end) {
    for (int64_t choice = begin * s.choices; choice < end * s.choices; ++choice) {
      const int32_t slot = slot_of[choice];
      const T* g = dy + choice / s.choices * s.width;
      const T dot = slot < 0 ? T(0) : simd::reduce_sum<T>(s.width, [&](int64_t c, int64_t n) {
        return simd::mul(load_n(g + c, n), load_n(ys + slot * s.width + c, n));
      });
      dweight[choice] = write == GradWrite::kAccumulate ? dweight[choice] + dot : dot;
    }
  });
}

template void gather_rows_forward(Cpu, const float*, const int32_t*, float*, RowsSize);
template void gather_rows_forward(Cpu, const double*, const int32_t*, double*, RowsSize);
template void gather_rows_backward(Cpu, const float*, const int32_t*, float*, RowsSize, GradWrite);
template void gather_rows_backward(Cpu, const double*, const int32_t*, double*, RowsSize,
                                   GradWrite);
template void combine_rows_forward(Cpu, const float*, const float*, const int32_t*, const float*,
                                   float*, RowsSize);
template void combine_rows_forward(Cpu, const double*, const double*, const int32_t*, const double*,
                                   double*, RowsSize);
template void combine_rows_backward_slots(Cpu, const float*, const float*, const int32_t*, float*,
                                          RowsSize, GradWrite);
template void combine_rows_backward_slots(Cpu, const double*, const double*, const int32_t*,
                                          double*, RowsSize, GradWrite);
template void combine_rows_backward_weight(Cpu, const float*, const float*, const int32_t*, float*,
                                           RowsSize, GradWrite);
template void combine_rows_backward_weight(Cpu, const double*, const double*, const int32_t*,
                                           double*, RowsSize, GradWrite);

}  // namespace engine::kernels
