#pragma once

#include "engine/core/tape.h"

namespace engine {

// kSoftmax: -log softmax(x)[label]. kSigmoid: a binary cross-entropy for every class, summed
// over classes, with the label's class as the one positive (the published pre-training).
enum class CrossEntropy : uint8_t { kSoftmax, kSigmoid };

// The classification loss, summed over rows and divided by `denominator`:
//   kSoftmax:  sum_r (logsumexp_c x[r,c] - x[r,label_r]) / denominator
//   kSigmoid:  sum_r sum_c (softplus(x[r,c]) - [c = label_r] x[r,c]) / denominator
//
//   logits       (B, C)  f32 or f64
//   labels       (B)     i32, 0 <= label < C
//   denominator  images of the whole batch, so that micro-batches add up to its mean
//   returns      (1)
//
// Gradient: (softmax(x) - onehot) or (sigmoid(x) - onehot), times dy / denominator; saved.
// Rows are added in order, in f64, so the loss does not depend on threads.
//
// Throws Error(kShape) when sizes do not fit, Error(kValue) for a label outside the classes
// or a denominator that is not positive.
Tensor cross_entropy(const Tensor& logits, const Tensor& labels, CrossEntropy kind,
                     double denominator);

// The same for soft or several labels (mixup, label smoothing, multi-hot), t[r,c] >= 0:
//   kSoftmax:  sum_r sum_c t[r,c] (logsumexp_c x[r,c] - x[r,c]) / denominator
//   kSigmoid:  sum_r sum_c (softplus(x[r,c]) - t[r,c] x[r,c]) / denominator
//
//   targets  (B, C) of logits' dtype; no gradient goes there
//
// Gradient: (softmax(x) sum_c t - t) or (sigmoid(x) - t), times dy / denominator.
Tensor soft_cross_entropy(const Tensor& logits, const Tensor& targets, CrossEntropy kind,
                          double denominator);

}  // namespace engine
