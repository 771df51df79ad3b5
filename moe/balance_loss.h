#pragma once

#include <span>

#include "engine/core/tape.h"

namespace moe {

// Squared coefficient of variation, population variance: CV^2(v) = Var(v) / Mean(v)^2 (spec
// 2.5), and its gradient. Computed from the variance itself, never through a square root, so
// equal entries give 0 and a zero gradient instead of NaN. 0 where the mean is 0.
double cv_squared(std::span<const double> v);
void cv_squared_grad(std::span<const double> v, std::span<double> grad);

// Importance loss: CV^2 over experts of I_e = sum of the clean gates of expert e, per group
// of `group_tokens` tokens, then the mean over groups (spec 2.5).
//
//   clean    (N, E)  f32 or f64, softmax of the router logits without noise
//   returns  (1)
//
// Gradient to `clean`. Error(kValue) if group_tokens does not divide N.
engine::Tensor importance_loss(const engine::Tensor& clean, int64_t group_tokens);

// Load loss: CV^2 over experts of P_e = mean over tokens of p_te = 1 - Phi((tau_t - l_te) /
// sigma): how likely expert e would be chosen under fresh noise, tau_t the K-th largest noisy
// logit (ties to the lower index). Per group, then the mean over groups (spec 2.5).
//
//   logits        (N, E)  l, without noise
//   noisy_logits  (N, E)  logits + noise
//   returns       (1)
//
// Gradient: dp/dl = phi(z)/sigma to logits, dp/dtau = -phi(z)/sigma to the K-th noisy logit.
// Error(kValue) if sigma is not positive: without noise the loss is not defined.
engine::Tensor load_loss(const engine::Tensor& logits, const engine::Tensor& noisy_logits,
                         int64_t top_k, double sigma, int64_t group_tokens);

}  // namespace moe
