#pragma once

#include <cstdint>

#include "engine/core/tape.h"
#include "engine/ops/cross_entropy.h"

namespace train {

// What an attack makes as large as it can. With z the logits, y the label and z(1) >= z(2) >= ...
// the sorted logits (Croce and Hein 2020; spec advmoe 7.1):
//   kClassification  the loss the model was trained with
//   kDlr             -(z_y - max_{i != y} z_i) / (z(1) - z(3) + 1e-12)
//   kTargetedDlr     -(z_y - z_t) / (z(1) - (z(3) + z(4)) / 2 + 1e-12), t a class of choice
// The last two do not change when logits are shifted or scaled.
enum class AttackLoss : uint8_t { kClassification, kDlr, kTargetedDlr };

// Of one image, in f64. `kind` is the classification loss.
double attack_loss(AttackLoss loss, const float* logits, int64_t classes, int32_t label,
                   int32_t target, engine::CrossEntropy kind);

// Sum over the images of kDlr, or with `targets` of kTargetedDlr, as one number on the tape.
//   logits (B, C), C at least 3, with targets 4;  labels, targets (B) i32
// The gradient takes the order of the logits as given. Error(kShape) for other sizes, Error(kValue)
// for a class outside (looked at on the CPU only).
engine::Tensor dlr_loss(const engine::Tensor& logits, const engine::Tensor& labels,
                        const engine::Tensor& targets);

}  // namespace train
