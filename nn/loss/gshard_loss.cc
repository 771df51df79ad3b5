#include "nn/loss/gshard_loss.h"

#include <algorithm>

#include "engine/core/backend.h"
#include "nn/loss/token_groups.h"

namespace nn {

using engine::check;
using engine::Cpu;
using engine::Dtype;
using engine::ErrorKind;
using engine::Tape;
using engine::Tensor;

Tensor gshard_loss(const Tensor& gates, const Tensor& chosen, int64_t group_tokens) {
  const Groups g = check_groups("gshard_loss", gates, group_tokens);
  check(chosen.shape().rank() == 2 && chosen.shape()[0] == gates.shape()[0], ErrorKind::kShape,
        "gshard_loss: gates ", gates.shape(), " and choices ", chosen.shape());
  const int64_t k = chosen.shape()[1], all = g.count * g.tokens;
  engine::StepArena& arena = gates.tape()->arena();
  Tensor loss = arena.empty({1}, gates.dtype());
  // d loss / d gates[t,e], the same for all tokens of a group: E first_e / (tokens^2 groups).
  const Tensor slope = arena.empty({g.count, g.experts}, Dtype::kF64);
  const double unit = static_cast<double>(g.experts) /
                      (static_cast<double>(g.tokens) * static_cast<double>(g.tokens) *
                       static_cast<double>(g.count));
  double* slopes = slope.data<double>();
  std::fill_n(slopes, slope.numel(), 0.0);
  for (int64_t t = 0; t < all; ++t) {
    slopes[t / g.tokens * g.experts + chosen.data<const int32_t>()[t * k]] += unit;
  }
  engine::dispatch_cpu(gates, [&]<class T>(Cpu) {
    const T* x = gates.data<const T>();
    double sum = 0;
    for (int64_t t = 0; t < all; ++t) {
      for (int64_t e = 0; e < g.experts; ++e) {
        sum += slopes[t / g.tokens * g.experts + e] * static_cast<double>(x[t * g.experts + e]);
      }
    }
    loss.data<T>()[0] = static_cast<T>(sum);
  });
  gates.tape()->record("gshard_loss", {gates}, loss, [=](const Tensor& dy, Tape& tape) {
    const Tensor dx = tape.target_zeroed(gates);
    engine::dispatch_cpu(gates, [&]<class T>(Cpu) {
      const double seed = static_cast<double>(dy.data<const T>()[0]);
      const double* s = slope.data<const double>();
      T* out = dx.data<T>();
      for (int64_t t = 0; t < all; ++t) {
        for (int64_t e = 0; e < g.experts; ++e) {
          out[t * g.experts + e] += static_cast<T>(seed * s[t / g.tokens * g.experts + e]);
        }
      }
    });
  });
  return loss;
}

}  // namespace nn
