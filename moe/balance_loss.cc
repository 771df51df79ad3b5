#include "moe/balance_loss.h"

#include "moe/balance_loss_kernels.h"
#include "nn/loss/group_slopes_kernels.h"

namespace moe {

using engine::check;
using engine::Dtype;
using engine::ErrorKind;
using engine::Tape;
using engine::Tensor;

double cv_squared(std::span<const double> v) {
  const double n = static_cast<double>(v.size());
  double mean = 0, var = 0;
  for (const double x : v) mean += x / n;
  for (const double x : v) var += (x - mean) * (x - mean) / n;
  return mean == 0 ? 0 : var / (mean * mean);
}

void cv_squared_grad(std::span<const double> v, std::span<double> grad) {
  const double n = static_cast<double>(v.size());
  double mean = 0, var = 0;
  for (const double x : v) mean += x / n;
  for (const double x : v) var += (x - mean) * (x - mean) / n;
  for (size_t i = 0; i < v.size(); ++i) {
    grad[i] =
        mean == 0 ? 0 : 2 / n * (v[i] - mean) / (mean * mean) - 2 * var / (n * mean * mean * mean);
  }
}

Tensor importance_loss(const Tensor& clean, int64_t group_tokens) {
  const nn::Groups g = nn::check_groups("importance_loss", clean, group_tokens);
  engine::StepArena& arena = clean.tape()->arena();
  Tensor loss = arena.empty({1}, clean.dtype());
  const Tensor sums = arena.empty({g.count, g.experts}, Dtype::kF64);
  const Tensor slope = arena.empty({g.count, g.experts}, Dtype::kF64);
  engine::dispatch(clean, [&]<class T>(auto backend) {
    kernels::importance_forward(backend, clean.data<const T>(), g, sums.data<double>(),
                                slope.data<double>(), loss.data<T>());
  });
  clean.tape()->record("importance_loss", {clean}, loss, [=](const Tensor& dy, Tape& tape) {
    const Tensor dx = tape.target_zeroed(clean);
    engine::dispatch(clean, [&]<class T>(auto backend) {
      nn::kernels::add_group_slopes(backend, slope.data<const double>(), dy.data<const T>(),
                                    dx.data<T>(), g);
    });
  });
  return loss;
}

Tensor load_loss(const Tensor& logits, const Tensor& noisy_logits, int64_t top_k, double sigma,
                 int64_t group_tokens) {
  const nn::Groups g = nn::check_groups("load_loss", logits, group_tokens);
  check(sigma > 0, ErrorKind::kValue, "load_loss: needs router noise, sigma = ", sigma);
  check(top_k >= 1 && top_k <= g.experts, ErrorKind::kValue, "load_loss: top_k = ", top_k, " of ",
        g.experts, " experts");
  check(noisy_logits.shape() == logits.shape(), ErrorKind::kShape, "load_loss: logits ",
        logits.shape(), " and noisy logits ", noisy_logits.shape());
  engine::StepArena& arena = logits.tape()->arena();
  Tensor loss = arena.empty({1}, logits.dtype());
  const Tensor kth = arena.empty({g.count * g.tokens}, Dtype::kI32);
  const Tensor sums = arena.empty({g.count, g.experts}, Dtype::kF64);
  const Tensor slope = arena.empty({g.count, g.experts}, Dtype::kF64);
  const kernels::LoadRule rule{top_k, sigma};
  engine::dispatch(logits, [&]<class T>(auto backend) {
    kernels::load_forward(backend, logits.data<const T>(), noisy_logits.data<const T>(), g, rule,
                          kth.data<int32_t>(), sums.data<double>(), slope.data<double>(),
                          loss.data<T>());
  });
  logits.tape()->record(
      "load_loss", {logits, noisy_logits}, loss, [=](const Tensor& dy, Tape& tape) {
        engine::dispatch(logits, [&]<class T>(auto backend) {
          const auto wanted = [&](const Tensor& x) {
            return tape.wants_grad(x) ? tape.target_zeroed(x).template data<T>() : nullptr;
          };
          T *dlogits = wanted(logits), *dnoisy = wanted(noisy_logits);
          kernels::load_backward(backend, logits.data<const T>(), noisy_logits.data<const T>(), g,
                                 rule, kth.data<const int32_t>(), slope.data<const double>(),
                                 dy.data<const T>(), dlogits, dnoisy);
        });
      });
  return loss;
}

}  // namespace moe
