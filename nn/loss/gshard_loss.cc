#include "nn/loss/gshard_loss.h"

#include "nn/loss/group_slopes_kernels.h"
#include "nn/loss/gshard_loss_kernels.h"

namespace nn {

using engine::check;
using engine::Dtype;
using engine::ErrorKind;
using engine::Tape;
using engine::Tensor;

Tensor gshard_loss(const Tensor& gates, const Tensor& chosen, int64_t group_tokens) {
  const Groups g = check_groups("gshard_loss", gates, group_tokens);
  check(chosen.shape().rank() == 2 && chosen.shape()[0] == gates.shape()[0], ErrorKind::kShape,
        "gshard_loss: gates ", gates.shape(), " and choices ", chosen.shape());
  const int64_t k = chosen.shape()[1];
  engine::StepArena& arena = gates.tape()->arena();
  Tensor loss = arena.empty({1}, gates.dtype());
  // d loss / d gates[t,e], the same for all tokens of a group: E first_e / (tokens^2 groups).
  const Tensor slope = arena.empty({g.count, g.experts}, Dtype::kF64);
  engine::dispatch(gates, [&]<class T>(auto backend) {
    kernels::gshard_forward(backend, gates.data<const T>(), chosen.data<const int32_t>(), k, g,
                            slope.data<double>(), loss.data<T>());
  });
  gates.tape()->record("gshard_loss", {gates}, loss, [=](const Tensor& dy, Tape& tape) {
    const Tensor dx = tape.target_zeroed(gates);
    engine::dispatch(gates, [&]<class T>(auto backend) {
      kernels::add_group_slopes(backend, slope.data<const double>(), dy.data<const T>(),
                                dx.data<T>(), g);
    });
  });
  return loss;
}

}  // namespace nn
