#pragma once

#include "engine/core/tape.h"
#include "nn/module.h"

namespace moe {

// Which experts an image goes to, and with what weight (spec robust-sparse-moes 2.3). Scores
// s (T, N) are a softmax over experts, one row an image.

// What training selects by, unless the balance loss is an entropy: softmax(s / std(s) + e), std
// over all entries and unbiased, e from N(0, 0.1^2), keyed by (seed, step, layer, image). A
// std of 0 leaves s as it is. A constant, (T, N): selection has no gradient. T may be a multiple of
// the images, of which each then has as many patches. Error(kValue) if f.sample_ids do not name
// the images.
engine::Tensor noisy_selection(const nn::Forward& f, const engine::Tensor& scores, int64_t layer);

// k different experts an image, of selection scores q (T, N): (T, k) i32, largest q first, ties to
// the lower expert. capacity 0: the k largest. Otherwise in rounds: every image asks for as many of
// the best experts as it still lacks, among those that did not take it and have room; each takes
// the askers with the largest q for it, ties to the lower image. After 24 rounds capacity no
// longer counts, so that every image gets its k. Error(kShape, kValue).
engine::Tensor choose_experts(engine::Tape& tape, const engine::Tensor& q, int64_t k,
                              int64_t capacity);

//   kNormalised       s / (sum of the chosen s + 1e-5)
//   kPlain            s
//   kStraightThrough  1; the gradient goes to s as if the weight were s. For k = 1
enum class GateWeight : uint8_t { kNormalised, kPlain, kStraightThrough };

// Weights of the chosen experts, (T, k); NaN becomes 0, without a gradient. Gradient to the chosen
// scores alone. Error(kShape) when sizes do not fit, Error(kValue) for kStraightThrough with k > 1.
engine::Tensor gate_weights(const engine::Tensor& scores, const engine::Tensor& chosen,
                            GateWeight form);

}  // namespace moe
