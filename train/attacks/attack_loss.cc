#include "train/attacks/attack_loss.h"

#include <algorithm>
#include <array>
#include <utility>

#include "engine/core/backend.h"
#include "train/evaluate.h"

namespace train {

using engine::check;
using engine::ErrorKind;
using engine::Tensor;

namespace {

// A quotient (z[other] - z[label]) / (z[top] - (z[low_a] + z[low_b]) / 2 + 1e-12).
struct Ratio {
  int64_t label, other, top, low_a, low_b;
  template <class T>
  std::pair<double, double> parts(const T* z) const {
    const auto at = [&](int64_t i) { return static_cast<double>(z[i]); };
    return {at(other) - at(label), at(top) - (at(low_a) + at(low_b)) / 2 + 1e-12};
  }
};

// The four largest logits, ties to the lower class. `target` < 0: untargeted.
template <class T>
Ratio ratio_of(const T* z, int64_t classes, int64_t label, int64_t target) {
  std::array<int64_t, 4> first{};
  const int64_t wanted = std::min<int64_t>(4, classes);
  for (int64_t k = 0; k < wanted; ++k) {
    int64_t best = -1;
    for (int64_t i = 0; i < classes; ++i) {
      if (std::find(first.begin(), first.begin() + k, i) != first.begin() + k) continue;
      if (best < 0 || z[i] > z[best]) best = i;
    }
    first[static_cast<size_t>(k)] = best;
  }
  if (target >= 0) return {label, target, first[0], first[2], first[3]};
  return {label, first[0] == label ? first[1] : first[0], first[0], first[2], first[2]};
}

}  // namespace

double attack_loss(AttackLoss loss, const float* logits, int64_t classes, int32_t label,
                   int32_t target, engine::CrossEntropy kind) {
  if (loss == AttackLoss::kClassification) return image_loss(logits, classes, label, kind);
  const auto [above, below] =
      ratio_of(logits, classes, label, loss == AttackLoss::kTargetedDlr ? target : -1)
          .parts(logits);
  return above / below;
}

Tensor dlr_loss(const Tensor& logits, const Tensor& labels, const Tensor& targets) {
  const engine::Shape& s = logits.shape();
  const bool targeted = targets.defined();
  check(s.rank() == 2 && s[1] >= (targeted ? 4 : 3) && labels.shape() == engine::Shape{s[0]} &&
            (!targeted || targets.shape() == labels.shape()),
        ErrorKind::kShape, "dlr_loss: expected logits (B, C) of ", targeted ? 4 : 3,
        " classes or more and labels (B), got ", s, " and ", labels.shape());
  const int64_t images = s[0], classes = s[1];
  const auto* label = labels.data<const int32_t>();
  const int32_t* target = targeted ? targets.data<const int32_t>() : nullptr;
  for (int64_t i = 0; i < images; ++i) {
    const int64_t other = targeted ? target[i] : 0;
    check(label[i] >= 0 && label[i] < classes && other >= 0 && other < classes, ErrorKind::kValue,
          "dlr_loss: class ", label[i], " or ", other, " of ", classes);
  }
  engine::Tape& on = *logits.tape();
  Tensor loss = on.arena().empty({1}, logits.dtype());
  const auto target_of = [=](int64_t i) { return target != nullptr ? int64_t{target[i]} : -1; };
  engine::dispatch_cpu(logits, [&]<class T>(engine::Cpu) {
    double sum = 0;
    for (int64_t i = 0; i < images; ++i) {
      const T* z = logits.data<const T>() + i * classes;
      const auto [above, below] = ratio_of(z, classes, label[i], target_of(i)).parts(z);
      sum += above / below;
    }
    loss.data<T>()[0] = static_cast<T>(sum);
  });
  on.record("dlr_loss", {logits}, loss, [=](const Tensor& dy, engine::Tape& tape) {
    const Tensor dz = tape.target_zeroed(logits);
    engine::dispatch_cpu(dy, [&]<class T>(engine::Cpu) {
      const auto seed = static_cast<double>(dy.data<const T>()[0]);
      for (int64_t i = 0; i < images; ++i) {
        const T* z = logits.data<const T>() + i * classes;
        T* to = dz.data<T>() + i * classes;
        const Ratio r = ratio_of(z, classes, label[i], target_of(i));
        const auto [above, below] = r.parts(z);
        const double slope = seed * above / (below * below);
        to[r.other] += static_cast<T>(seed / below);
        to[r.label] -= static_cast<T>(seed / below);
        to[r.top] -= static_cast<T>(slope);
        to[r.low_a] += static_cast<T>(slope / 2);
        to[r.low_b] += static_cast<T>(slope / 2);
      }
    });
  });
  return loss;
}

}  // namespace train
