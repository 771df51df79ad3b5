#pragma once

#include "engine/core/stored.h"

// Raw kernels of gather_rows and combine_rows. N items, K choices, S slots, D columns.
// On CUDA T may be bf16.
namespace engine::kernels {

struct RowsSize {
  int64_t items, choices, slots, width;
};

template <class T>
void gather_rows_forward(Cpu, const T* x, const int32_t* choice_of_slot, T* xs, RowsSize size);
template <class T>
void gather_rows_forward(Cuda, const T* x, const int32_t* choice_of_slot, T* xs, RowsSize size);
template <class T>
void gather_rows_backward(Cpu, const T* dxs, const int32_t* slot_of, T* dx, RowsSize size,
                          GradWrite write);
template <class T>
void gather_rows_backward(Cuda, const T* dxs, const int32_t* slot_of, T* dx, RowsSize size,
                          GradWrite write);
// residual may be null.
template <class T>
void combine_rows_forward(Cpu, const T* ys, const T* weight, const int32_t* slot_of,
                          const T* residual, T* y, RowsSize size);
template <class T>
void combine_rows_forward(Cuda, const T* ys, const Wide<T>* weight, const int32_t* slot_of,
                          const T* residual, T* y, RowsSize size);
template <class T>
void combine_rows_backward_slots(Cpu, const T* weight, const T* dy, const int32_t* choice_of_slot,
                                 T* dys, RowsSize size, GradWrite write);
template <class T>
void combine_rows_backward_slots(Cuda, const Wide<T>* weight, const T* dy,
                                 const int32_t* choice_of_slot, T* dys, RowsSize size,
                                 GradWrite write);
template <class T>
void combine_rows_backward_weight(Cpu, const T* ys, const T* dy, const int32_t* slot_of, T* dweight,
                                  RowsSize size, GradWrite write);
template <class T>
void combine_rows_backward_weight(Cuda, const T* ys, const T* dy, const int32_t* slot_of,
                                  Wide<T>* dweight, RowsSize size, GradWrite write);

}  // namespace engine::kernels
