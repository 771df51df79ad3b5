#pragma once

#include "engine/core/precision.h"
#include "engine/core/tape.h"

namespace engine {

// Multi-head self-attention of packed projections:
//   p[b,h,t,:] = softmax_s(q[b,t,h,:] . k[b,s,h,:] / sqrt(D)),  y[b,t,h,:] = sum_s p[b,h,t,s]
//   v[b,s,h,:]
//
//   qkv      (B, T, 3*H*D): the last axis is (q|k|v, head, D)  f32 or f64
//   heads    H
//   returns  (B, T, H*D)
//
// Gradient: with g = dy: dv = p^T g, dp = g v^T, ds = p (dp - sum_s p dp) / sqrt(D),
// dq = ds k, dk = ds^T q. Saves the probabilities (B, H, T, T); scale and softmax are one
// pass. Each image and head is one task, so an image's bits do not depend on the batch.
//
// In bf16 (f32 tensors only) the six products round their operands; softmax does not.
//
// Throws Error(kShape) if the last axis is not a multiple of 3*heads, Error(kValue) if qkv is
// not on a tape, Error(kDtype) for f64 in bf16.
Tensor attention(const Tensor& qkv, int64_t heads, Precision precision = Precision::kF32);

}  // namespace engine
