#pragma once

#include <algorithm>
#include <cmath>
#include <ostream>
#include <vector>

#include "tests/support/tensors.h"

namespace engine::test {

// Where and by how much a gradient is wrong.
struct GradReport {
  double worst = 0;  // max over inputs of |analytic - numeric| / max(1, |analytic|, |numeric|)
  size_t input = 0;
  int64_t index = 0;
  double analytic = 0, numeric = 0;
  bool ok(double tolerance = 1e-6) const { return std::isfinite(worst) && worst <= tolerance; }
  void note(size_t k, int64_t i, double analytic_grad, double numeric_grad) {
    const double error = std::abs(analytic_grad - numeric_grad) /
                         std::max({1.0, std::abs(analytic_grad), std::abs(numeric_grad)});
    if (!(error <= worst)) *this = {error, k, i, analytic_grad, numeric_grad};
  }
  friend std::ostream& operator<<(std::ostream& os, const GradReport& r) {
    return os << "input " << r.input << " index " << r.index << ": analytic " << r.analytic
              << " numeric " << r.numeric;
  }
};

// <v, f(inputs)> for a fixed v, and its gradient by backward(), in f64. Leaves' gradients
// start at 1, so that one that is overwritten instead of added to shows; the arena starts
// full of NaN, so that an intermediate's that is added to instead of overwritten does.
class GradProbe {
 public:
  GradProbe(const Function& f, const std::vector<Shape>& shapes, uint64_t seed, bool sum_outputs)
      : f_(f), shapes_(shapes), seed_(seed), sum_outputs_(sum_outputs) {
    for (size_t k = 0; k < shapes.size(); ++k) {
      inputs.push_back(values<double>(shapes[k].numel(), seed + k));
    }
    fill_with_nan(arena_, 1'000'000);
  }

  double value() { return run(false); }
  std::vector<std::vector<double>> gradient() {
    run(true);
    for (auto& grad : grads_) {
      for (double& g : grad) g -= 1;
    }
    return grads_;
  }

  std::vector<std::vector<double>> inputs;

 private:
  double run(bool with_backward) {
    arena_.reset();
    grads_.clear();
    Tape tape(arena_);
    std::vector<Tensor> x;
    grads_.reserve(inputs.size());
    for (size_t k = 0; k < inputs.size(); ++k) {
      grads_.emplace_back(inputs[k].size(), 1.0);
      x.push_back(tape.leaf(view(inputs[k], shapes_[k]), view(grads_[k], shapes_[k])));
    }
    const Tensor y = f_(x);
    if (cotangent_.empty()) {
      cotangent_ = values<double>(y.numel(), seed_ + 1000);
      if (sum_outputs_) std::fill(cotangent_.begin(), cotangent_.end(), 1.0);
    }
    double dot = 0;
    for (int64_t i = 0; i < y.numel(); ++i) dot += cotangent_[i] * y.data<const double>()[i];
    if (with_backward) tape.backward(y, view(cotangent_, y.shape()));
    return dot;
  }

  const Function& f_;
  const std::vector<Shape>& shapes_;
  uint64_t seed_;
  bool sum_outputs_;
  StepArena arena_;
  std::vector<std::vector<double>> grads_;
  std::vector<double> cotangent_;
};

// Compares backward() with central differences of <v, f(inputs)>, all in f64.
// v is random: with v = 1 (summing the output) softmax and layer_norm would pass
// with a zero gradient, because the sum of their outputs is constant. v = 1 is
// kept as an option only so that a test can show that.
inline GradReport gradcheck(const Function& f, const std::vector<Shape>& shapes, uint64_t seed = 1,
                            double step = 1e-5, bool sum_outputs = false) {
  GradProbe probe(f, shapes, seed, sum_outputs);
  const auto analytic = probe.gradient();
  GradReport report;
  for (size_t k = 0; k < shapes.size(); ++k) {
    for (size_t i = 0; i < probe.inputs[k].size(); ++i) {
      const double saved = probe.inputs[k][i];
      probe.inputs[k][i] = saved + step;
      const double plus = probe.value();
      probe.inputs[k][i] = saved - step;
      const double minus = probe.value();
      probe.inputs[k][i] = saved;
      report.note(k, static_cast<int64_t>(i), analytic[k][i], (plus - minus) / (2 * step));
    }
  }
  return report;
}

// The same along one random direction for each input: two forward passes an input instead
// of two an element, for sizes that fill more than one tile, grain or chunk.
inline GradReport gradcheck_along(const Function& f, const std::vector<Shape>& shapes,
                                  uint64_t seed = 1, double step = 1e-5) {
  GradProbe probe(f, shapes, seed, false);
  const auto analytic = probe.gradient();
  GradReport report;
  for (size_t k = 0; k < shapes.size(); ++k) {
    const std::vector<double> saved = probe.inputs[k];
    const auto n = static_cast<int64_t>(saved.size());
    const auto along = values<double>(n, seed + 2000 + k, 1 / std::sqrt(double(n)));
    double dot = 0;
    for (int64_t i = 0; i < n; ++i) dot += analytic[k][i] * along[i];
    for (int64_t i = 0; i < n; ++i) probe.inputs[k][i] = saved[i] + step * along[i];
    const double plus = probe.value();
    for (int64_t i = 0; i < n; ++i) probe.inputs[k][i] = saved[i] - step * along[i];
    const double minus = probe.value();
    probe.inputs[k] = saved;
    report.note(k, 0, dot, (plus - minus) / (2 * step));
  }
  return report;
}

}  // namespace engine::test
