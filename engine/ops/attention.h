#pragma once

#include "engine/core/precision.h"
#include "engine/core/tape.h"

namespace engine {

// Multi-head self-attention of packed projections:
//   p[b,h,t,:] = softmax_s(q[b,t,h,:] . k[b,s,h,:] / sqrt(D)),  y[b,t,h,:] = sum_s p[b,h,t,s]
//   v[b,s,h,:]
//
//   qkv      (B, T, 3*H*D): the last axis is (q|k|v, head, D)  f32, f64, or on CUDA bf16, whose
//            precision must be kBf16; y has the same dtype
//   heads    H
//   returns  (B, T, H*D)
//
// Gradient: with g = dy: dv = p^T g, dp = g v^T, ds = p (dp - sum_s p dp) / sqrt(D),
// dq = ds k, dk = ds^T q. Saves the probabilities (B, H, T, T); on CUDA one number a row of them,
// and backward computes them again (attention_kernels.h). Scale and softmax are one pass. Each
// image and head is one task, so an image's bits do not depend on the batch.
//
// In bf16 (not f64) the six products round their operands; softmax does not. Stored in bf16, y and
// the gradients are rounded; softmax and the saved numbers stay f32.
//
// Throws Error(kShape) if the last axis is not a multiple of 3*heads or, on CUDA, D > 128,
// Error(kValue) if qkv is not on a tape, Error(kDtype) for f64 in bf16 and for
// tensors stored in bf16 on the CPU or with another precision.
Tensor attention(const Tensor& qkv, int64_t heads, Precision precision = Precision::kF32);

}  // namespace engine
