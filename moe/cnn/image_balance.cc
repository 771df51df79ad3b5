#include "moe/cnn/image_balance.h"

#include "moe/cnn/image_balance_kernels.h"

namespace moe {

using engine::check;
using engine::Dtype;
using engine::ErrorKind;
using engine::Tape;
using engine::Tensor;

Tensor image_balance_loss(const Tensor& scores, ImageBalance kind) {
  const engine::Shape& shape = scores.shape();
  check(shape.rank() == 2 && shape.numel() > 0, ErrorKind::kShape,
        "image_balance_loss: expected scores (T, N), got ", shape);
  const int64_t images = shape[0], experts = shape[1];
  Tape& on = *scores.tape();
  Tensor loss = on.arena().empty({1}, scores.dtype());
  const Tensor slopes = on.arena().empty({experts, images}, Dtype::kF64);
  const engine::RowsCols size{images, experts};
  engine::dispatch(scores, [&]<class T>(auto backend) {
    kernels::image_balance_forward(backend, scores.data<const T>(), size, kind,
                                   slopes.data<double>(), loss.data<T>());
  });
  on.record("image_balance_loss", {scores}, loss, [=](const Tensor& dy, Tape& tape) {
    const Tensor ds = tape.target_zeroed(scores);
    engine::dispatch(dy, [&]<class T>(auto backend) {
      kernels::image_balance_backward(backend, slopes.data<const double>(), size,
                                      dy.data<const T>(), ds.data<T>());
    });
  });
  return loss;
}

Tensor expert_spread_loss(const Tensor& outputs, const Tensor& offset) {
  const engine::Shape& shape = outputs.shape();
  check(shape.rank() == 2 && offset.shape().rank() == 1 && offset.numel() >= 2, ErrorKind::kShape,
        "expert_spread_loss: expected outputs (S, D) and offset (E+1), got ", shape, " and ",
        offset.shape());
  const int64_t experts = offset.numel() - 1;
  const kernels::ExpertRows size{offset.data<const int32_t>(), experts, shape[0], shape[1]};
  if (outputs.device() == engine::Device::kCpu) {
    check(size.offset[0] == 0 && size.offset[experts] == size.rows, ErrorKind::kShape,
          "expert_spread_loss: offset ends at ", size.offset[experts], " of ", size.rows, " rows");
  }
  Tape& on = *outputs.tape();
  Tensor loss = on.arena().empty({1}, outputs.dtype());
  const Tensor slope = on.arena().empty({experts}, Dtype::kF64);
  engine::dispatch(outputs, [&]<class T>(auto backend) {
    kernels::expert_spread_forward(backend, outputs.data<const T>(), size, slope.data<double>(),
                                   loss.data<T>());
  });
  on.record("expert_spread_loss", {outputs}, loss, [=](const Tensor& dy, Tape& tape) {
    const Tensor to = tape.target_zeroed(outputs);
    engine::dispatch(dy, [&]<class T>(auto backend) {
      kernels::expert_spread_backward(backend, slope.data<const double>(), size, dy.data<const T>(),
                                      to.data<T>());
    });
  });
  return loss;
}

}  // namespace moe
