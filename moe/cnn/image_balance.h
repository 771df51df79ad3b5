#pragma once

#include "engine/core/tape.h"

namespace moe {

// How evenly images are to be spread over experts (spec robust-sparse-moes 2.5). With s (T, N) the
// gate's scores without noise, f_e the share of images whose largest score is e's (no gradient),
// P_e the mean of s_te over t, and H(p) = -sum p ln p:
//   kSwitch         N sum_e f_e P_e - 1                        0 balanced ... N - 1 collapsed
//   kEntropy        mean_t H(s_t) - H(P)                       sharp for each image, even over all
//   kColumnEntropy  -H(P)                                      KL(P || uniform) - ln N
//   kVariance       kSwitch - mean_e std_t(s_te) + 1           unbiased; 0 for a single image
enum class ImageBalance : uint8_t { kSwitch, kEntropy, kColumnEntropy, kVariance };

//   scores   (T, N)  f32 or f64, rows of a softmax
//   returns  (1)
//
// Gradient to `scores`. The logarithm of 0 counts as ln 1e-5, a constant. Error(kShape) if scores
// is no (T, N) with T and N above 0.
engine::Tensor image_balance_loss(const engine::Tensor& scores, ImageBalance kind);

// Keeps experts apart: max(0, 1 - sqrt(Var_e(m_e) + 1e-4)), m_e the mean of everything that expert
// e returned, the variance unbiased over the experts that got an image (spec 2.5, variance_alpha,
// which the published code has but cannot run). 0 without a gradient where fewer than two did.
//
//   outputs  (S, D)  f32 or f64, expert e's are rows offset[e] ... offset[e+1]
//   offset   (E+1) i32
//   returns  (1)
//
// Error(kShape) when sizes do not fit; on CUDA nobody looks where the offsets end.
engine::Tensor expert_spread_loss(const engine::Tensor& outputs, const engine::Tensor& offset);

}  // namespace moe
