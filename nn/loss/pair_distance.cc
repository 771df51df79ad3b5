#include "nn/loss/pair_distance.h"

#include <cmath>

#include "engine/core/backend.h"

namespace nn {

using engine::check;
using engine::Cpu;
using engine::ErrorKind;
using engine::Tape;
using engine::Tensor;

namespace {

// p log(p / m), 0 for p = 0.
double relative(double p, double m) { return p > 0 ? p * std::log(p / m) : 0; }

template <class T>
double distance(const T* a, const T* b, int64_t experts, Distance kind) {
  double sum = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const auto p = static_cast<double>(a[e]), q = static_cast<double>(b[e]);
    sum += kind == Distance::kL2 ? (p - q) * (p - q)
                                 : 0.5 * (relative(p, 0.5 * (p + q)) + relative(q, 0.5 * (p + q)));
  }
  return kind == Distance::kL2 ? std::sqrt(sum) : sum;
}

// da += seed d distance / da, db likewise.
template <class T>
void add_slopes(const T* a, const T* b, T* da, T* db, int64_t experts, Distance kind, double seed) {
  const double length = kind == Distance::kL2 ? distance(a, b, experts, kind) : 0;
  if (kind == Distance::kL2 && length == 0) return;
  for (int64_t e = 0; e < experts; ++e) {
    const auto p = static_cast<double>(a[e]), q = static_cast<double>(b[e]);
    if (kind == Distance::kL2) {
      da[e] += static_cast<T>(seed * (p - q) / length);
      db[e] -= static_cast<T>(seed * (p - q) / length);
      continue;
    }
    const double m = 0.5 * (p + q);
    if (p > 0) da[e] += static_cast<T>(seed * 0.5 * std::log(p / m));
    if (q > 0) db[e] += static_cast<T>(seed * 0.5 * std::log(q / m));
  }
}

}  // namespace

Tensor pair_distance(const Tensor& x, const Tensor& left_rows, const Tensor& right_rows,
                     int64_t count, Distance kind) {
  check(x.tape() != nullptr, ErrorKind::kValue, "pair_distance: input is not on a tape");
  check(x.shape().rank() == 2, ErrorKind::kShape, "pair_distance: expected (N, E), got ",
        x.shape());
  const int64_t experts = x.shape()[1];
  Tensor loss = x.tape()->arena().empty({1}, x.dtype());
  const auto* left = left_rows.data<const int32_t>();
  const auto* right = right_rows.data<const int32_t>();
  engine::dispatch_cpu(x, [&]<class T>(Cpu) {
    const T* r = x.data<const T>();
    double sum = 0;
    for (int64_t n = 0; n < count; ++n) {
      sum += distance(r + left[n] * experts, r + right[n] * experts, experts, kind);
    }
    loss.data<T>()[0] = static_cast<T>(count > 0 ? sum / static_cast<double>(count) : 0);
  });
  if (count == 0) return x.tape()->input(loss);
  x.tape()->record("pair_distance", {x}, loss, [=](const Tensor& dy, Tape& tape) {
    const Tensor dx = tape.target_zeroed(x);
    engine::dispatch_cpu(x, [&]<class T>(Cpu) {
      const T* r = x.data<const T>();
      T* dr = dx.data<T>();
      const double seed = static_cast<double>(dy.data<const T>()[0]) / static_cast<double>(count);
      for (int64_t n = 0; n < count; ++n) {
        const int64_t a = left[n] * experts, b = right[n] * experts;
        add_slopes(r + a, r + b, dr + a, dr + b, experts, kind, seed);
      }
    });
  });
  return loss;
}

}  // namespace nn
