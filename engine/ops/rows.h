#pragma once

#include "engine/core/tape.h"

namespace engine {

// How N items with K choices each are laid out in S slots; i32 arrays that must live as long
// as the tape (they belong to a moe::DispatchPlan in the same arena).
struct RowMap {
  Tensor choice_of_slot;  // (S): i*K + j of the choice in this slot
  Tensor slot_of;         // (N, K): its inverse, -1 where the choice has no slot
};

// Gathers the items' rows into slots:  xs[s] = x[choice_of_slot[s] / K].
//
//   x        (N, D)  f32 or f64, on CUDA also bf16
//   returns  (S, D)
//
// Gradient, again a gather:  dx[i] = sum_j dxs[slot_of[i,j]], in the order of j.
// Throws Error(kShape) when sizes do not fit.
Tensor gather_rows(const Tensor& x, const RowMap& map);

// Adds the slots' rows up again, weighted:
//   y[i] = residual[i] + sum_j weight[i,j] * ys[slot_of[i,j]], over the choices with a slot
//
//   ys        (S, D)  f32 or f64, on CUDA also bf16
//   weight    (N, K)  of the same dtype; f32 beside bf16, and so is dweight
//   residual  (N, D) or null, of the dtype of ys
//   returns   (N, D)
//
// Gradient, gathers too:  dys[s] = weight[choice_of_slot[s]] * dy[choice_of_slot[s] / K],
// dweight[i,j] = dy[i] . ys[slot_of[i,j]] (0 without a slot), dresidual = dy (handed over).
// Throws Error(kShape) when sizes do not fit.
Tensor combine_rows(const Tensor& ys, const Tensor& weight, const RowMap& map,
                    const Tensor* residual = nullptr);

}  // namespace engine
