#include "nn/loss/mean_entropy.h"

#include <cmath>

#include "engine/core/backend.h"

namespace nn {

using engine::check;
using engine::Cpu;
using engine::ErrorKind;
using engine::Tape;
using engine::Tensor;

namespace {

constexpr double kSmall = 1e-7;  // keeps log(0) finite

}  // namespace

Tensor mean_entropy(const Tensor& p) {
  check(p.tape() != nullptr, ErrorKind::kValue, "mean_entropy: input is not on a tape");
  check(p.shape().rank() == 2 && p.shape()[0] > 0, ErrorKind::kShape,
        "mean_entropy: expected (N, E), got ", p.shape());
  const int64_t rows = p.shape()[0], count = p.numel();
  Tensor loss = p.tape()->arena().empty({1}, p.dtype());
  engine::dispatch_cpu(p, [&]<class T>(Cpu) {
    const T* x = p.data<const T>();
    double sum = 0;
    for (int64_t i = 0; i < count; ++i) {
      const auto r = static_cast<double>(x[i]);
      sum -= r * std::log(r + kSmall);
    }
    loss.data<T>()[0] = static_cast<T>(sum / static_cast<double>(rows));
  });
  p.tape()->record("mean_entropy", {p}, loss, [=](const Tensor& dy, Tape& tape) {
    const Tensor dx = tape.target_zeroed(p);
    engine::dispatch_cpu(p, [&]<class T>(Cpu) {
      const double seed = static_cast<double>(dy.data<const T>()[0]) / static_cast<double>(rows);
      const T* x = p.data<const T>();
      T* out = dx.data<T>();
      for (int64_t i = 0; i < count; ++i) {
        const auto r = static_cast<double>(x[i]);
        out[i] -= static_cast<T>(seed * (std::log(r + kSmall) + r / (r + kSmall)));
      }
    });
  });
  return loss;
}

}  // namespace nn
