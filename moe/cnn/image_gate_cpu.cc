#include <algorithm>
#include <cmath>

#include "engine/core/workspace.h"
#include "moe/cnn/image_gate_kernels.h"

namespace moe::kernels {

template <class T>
void select_noisily(Cpu, const T* scores, const SelectionNoise& noise, RowsCols size, T* q) {
  const auto n = static_cast<double>(size.numel());
  double mean = 0, var = 0;
  for (int64_t i = 0; i < size.numel(); ++i) mean += static_cast<double>(scores[i]) / n;
  for (int64_t i = 0; i < size.numel(); ++i) {
    const double d = static_cast<double>(scores[i]) - mean;
    var += n > 1 ? d * d / (n - 1) : 0;
  }
  const double unit = var > 0 ? 1 / std::sqrt(var) : 1;
  for (int64_t t = 0; t < size.rows; ++t) {
    const auto own = noise.key.with(static_cast<uint64_t>(noise.ids[t / noise.patches]));
    const int64_t first = t % noise.patches * size.cols;
    const T* from = scores + t * size.cols;
    T* to = q + t * size.cols;
    double largest = -INFINITY, sum = 0;
    const auto moved = [&](int64_t e) {
      return static_cast<double>(from[e]) * unit +
             0.1 * own.normal(static_cast<uint64_t>(first + e));
    };
    for (int64_t e = 0; e < size.cols; ++e) largest = std::max(largest, moved(e));
    for (int64_t e = 0; e < size.cols; ++e) sum += std::exp(moved(e) - largest);
    for (int64_t e = 0; e < size.cols; ++e) {
      to[e] = static_cast<T>(std::exp(moved(e) - largest) / sum);
    }
  }
}

namespace {

// Expert e takes those who ask for it, the best first, as many as it has room for.
void take(const Assignment& a, int64_t e, bool unlimited) {
  auto* askers = engine::workspace<int32_t>(0, a.images);
  int32_t* end = askers;
  for (int64_t t = 0; t < a.images; ++t) {
    if (a.asks[a.at(t, e)] != 0) *end++ = static_cast<int32_t>(t);
  }
  std::sort(askers, end, [&](int32_t i, int32_t j) {
    const double x = a.q[a.at(i, e)], y = a.q[a.at(j, e)];
    return x > y || (x == y && i < j);
  });
  if (!unlimited) end = std::min(end, askers + a.room[e]);
  for (const int32_t* t = askers; t < end; ++t) {
    a.taken[a.at(*t, e)] = 1;
    --a.room[e];
  }
}

}  // namespace

template <class T>
void assign_experts(Cpu, const T* scores, const Assignment& a, int32_t* chosen) {
  for (int64_t i = 0; i < a.images * a.experts; ++i) {
    const auto x = static_cast<double>(scores[i]);
    a.q[i] = std::isnan(x) ? -INFINITY : x;
    a.taken[i] = 0;
  }
  std::fill_n(a.room, a.experts, static_cast<int32_t>(a.capacity));
  bool lacking = true;
  for (int round = 0; lacking && round < kRounds; ++round) {
    const bool unlimited = round + 1 == kRounds;
    lacking = false;
    for (int64_t t = 0; t < a.images; ++t) lacking = a.ask(t, unlimited) || lacking;
    for (int64_t e = 0; lacking && e < a.experts; ++e) take(a, e, unlimited);
  }
  for (int64_t t = 0; t < a.images; ++t) a.list(t, chosen + t * a.k);
}

template <class T>
void gate_weights_forward(Cpu, const T* s, RowsCols size, GateWeight form, T* w) {
  for (int64_t i = 0; i < size.numel(); i += size.cols) weigh(s + i, size.cols, form, w + i);
}

template <class T>
void gate_weights_backward(Cpu, const T* s, const T* dw, RowsCols size, GateWeight form, T* ds) {
  for (int64_t i = 0; i < size.numel(); i += size.cols) {
    weigh_backward(s + i, dw + i, size.cols, form, ds + i);
  }
}

template void select_noisily(Cpu, const float*, const SelectionNoise&, RowsCols, float*);
template void select_noisily(Cpu, const double*, const SelectionNoise&, RowsCols, double*);
template void assign_experts(Cpu, const float*, const Assignment&, int32_t*);
template void assign_experts(Cpu, const double*, const Assignment&, int32_t*);
template void gate_weights_forward(Cpu, const float*, RowsCols, GateWeight, float*);
template void gate_weights_forward(Cpu, const double*, RowsCols, GateWeight, double*);
template void gate_weights_backward(Cpu, const float*, const float*, RowsCols, GateWeight, float*);
template void gate_weights_backward(Cpu, const double*, const double*, RowsCols, GateWeight,
                                    double*);

}  // namespace moe::kernels
