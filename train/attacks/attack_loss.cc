#include "train/attacks/attack_loss.h"

#include "train/attacks/attack_loss_kernels.h"
#include "train/evaluate.h"

namespace train {

using engine::check;
using engine::ErrorKind;
using engine::Tensor;

double attack_loss(AttackLoss loss, const float* logits, int64_t classes, int32_t label,
                   int32_t target, engine::CrossEntropy kind) {
  if (loss == AttackLoss::kClassification) return image_loss(logits, classes, label, kind);
  const kernels::Ratio r =
      kernels::ratio_of(logits, classes, label, loss == AttackLoss::kTargetedDlr ? target : -1);
  return r.above(logits) / r.below(logits);
}

Tensor dlr_loss(const Tensor& logits, const Tensor& labels, const Tensor& targets) {
  const engine::Shape& s = logits.shape();
  const bool targeted = targets.defined();
  check(s.rank() == 2 && s[1] >= (targeted ? 4 : 3) && labels.shape() == engine::Shape{s[0]} &&
            (!targeted || targets.shape() == labels.shape()),
        ErrorKind::kShape, "dlr_loss: expected logits (B, C) of ", targeted ? 4 : 3,
        " classes or more and labels (B), got ", s, " and ", labels.shape());
  const engine::RowsCols size{s[0], s[1]};
  const auto* label = labels.data<const int32_t>();
  const int32_t* target = targeted ? targets.data<const int32_t>() : nullptr;
  for (int64_t i = 0; labels.device() == engine::Device::kCpu && i < size.rows; ++i) {
    const int64_t other = targeted ? target[i] : 0;
    check(label[i] >= 0 && label[i] < size.cols && other >= 0 && other < size.cols,
          ErrorKind::kValue, "dlr_loss: class ", label[i], " or ", other, " of ", size.cols);
  }
  engine::Tape& on = *logits.tape();
  Tensor loss = on.arena().empty({1}, logits.dtype());
  engine::dispatch(logits, [&]<class T>(auto backend) {
    kernels::dlr_forward(backend, logits.data<const T>(), label, target, size, loss.data<T>());
  });
  on.record("dlr_loss", {logits}, loss, [=](const Tensor& dy, engine::Tape& tape) {
    const Tensor dz = tape.target_zeroed(logits);
    engine::dispatch(dy, [&]<class T>(auto backend) {
      kernels::dlr_backward(backend, logits.data<const T>(), label, target, size,
                            dy.data<const T>(), dz.data<T>());
    });
  });
  return loss;
}

}  // namespace train
