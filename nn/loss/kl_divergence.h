#pragma once

#include "engine/core/tape.h"

namespace nn {

// How far the predictions of `other` are from those of `logits`, row by row (Zhang et al. 2019,
// TRADES): with p = softmax(logits), q = softmax(other)
//   sum_r sum_c p_rc (log p_rc - log q_rc) / denominator          in nats, never negative
//
//   logits, other  (B, C)  of one type, f32 or f64, one of them at least on a tape
//   denominator    images of the whole batch, so that micro-batches add up to its mean
//   returns        (1)
//
// Gradient: dother = (q - p) / denominator and, with l = log p - log q,
// dlogits = p (l - sum_c p l) / denominator; both are saved. Logarithms are taken of no
// probability, but come from f64 logsumexps: any finite logits give finite numbers. Rows are added
// in order, in f64, so that no result depends on threads.
// Error(kShape) where sizes do not fit, Error(kValue) for a denominator that is not positive or
// where no input is on a tape.
engine::Tensor kl_divergence(const engine::Tensor& logits, const engine::Tensor& other,
                             double denominator);

}  // namespace nn
