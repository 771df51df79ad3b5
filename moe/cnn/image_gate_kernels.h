#pragma once

#include "engine/core/backend.h"
#include "engine/core/rng.h"
#include "moe/cnn/image_gate.h"

// Raw kernels of image_gate.h, which has the formulas. constexpr functions serve both backends.
namespace moe::kernels {

using engine::Cpu;
using engine::Cuda;
using engine::RowsCols;

// key: of the step and the layer; ids: of the images, `patches` rows each.
struct SelectionNoise {
  engine::RngKey key;
  const int64_t* ids;
  int64_t patches;
};
// q (T, N) of noisy_selection().
template <class T>
void select_noisily(Cpu, const T* scores, const SelectionNoise& noise, RowsCols size, T* q);
template <class T>
void select_noisily(Cuda, const T* scores, const SelectionNoise& noise, RowsCols size, T* q);

inline constexpr int kRounds = 25;  // of asking and taking, the last without capacities

// One assignment of images to experts with room for so many. Arrays are scratch.
struct Assignment {
  int64_t images, experts, k, capacity;
  double* q;       // (images, experts): the scores, -inf for NaN
  int32_t* room;   // (experts)
  uint8_t* taken;  // (images, experts): 1 where they belong together
  uint8_t* asks;   // (images, experts): 1 where the image asks in this round

  constexpr int64_t at(int64_t t, int64_t e) const { return t * experts + e; }

  // The best expert for image t among those that may(e), the lower one of equals; -1: none may.
  template <class May>
  constexpr int64_t best(int64_t t, const May& may) const {
    int64_t found = -1;
    for (int64_t e = 0; e < experts; ++e) {
      if (may(e) && (found < 0 || q[at(t, e)] > q[at(t, found)])) found = e;
    }
    return found;
  }

  // Marks the experts that image t asks for in this round; false if it lacks none.
  constexpr bool ask(int64_t t, bool unlimited) const {
    int64_t missing = k;
    for (int64_t e = 0; e < experts; ++e) {
      asks[at(t, e)] = 0;
      missing -= taken[at(t, e)];
    }
    for (int64_t n = 0; n < missing; ++n) {
      const int64_t e = best(t, [&](int64_t i) {
        return taken[at(t, i)] == 0 && asks[at(t, i)] == 0 && (unlimited || room[i] > 0);
      });
      if (e < 0) break;
      asks[at(t, e)] = 1;
    }
    return missing > 0;
  }

  // The experts that took image t, the best first; `taken` is used up.
  constexpr void list(int64_t t, int32_t* chosen) const {
    for (int64_t j = 0; j < k; ++j) {
      const int64_t e = best(t, [&](int64_t i) { return taken[at(t, i)] != 0; });
      taken[at(t, e)] = 0;
      chosen[j] = static_cast<int32_t>(e);
    }
  }
};

// chosen (T, k) of choose_experts() with a capacity.
template <class T>
void assign_experts(Cpu, const T* scores, const Assignment& a, int32_t* chosen);
template <class T>
void assign_experts(Cuda, const T* scores, const Assignment& a, int32_t* chosen);

// What the chosen scores of an image are divided by.
template <class T>
constexpr double gate_divisor(const T* s, int64_t k, GateWeight form) {
  double sum = 0;
  for (int64_t j = 0; j < k; ++j) sum += static_cast<double>(s[j]);
  return form == GateWeight::kNormalised ? sum + 1e-5 : 1.0;
}
// w (k): the weights of an image's chosen scores s (k).
template <class T>
constexpr void weigh(const T* s, int64_t k, GateWeight form, T* w) {
  const double below = gate_divisor(s, k, form);
  for (int64_t j = 0; j < k; ++j) {
    const double x = static_cast<double>(s[j]) / below;
    const double weight = form == GateWeight::kStraightThrough ? 1 : x;
    w[j] = static_cast<T>(x != x ? 0 : weight);
  }
}
// ds += the gradient.
template <class T>
constexpr void weigh_backward(const T* s, const T* dw, int64_t k, GateWeight form, T* ds) {
  const double d = gate_divisor(s, k, form);
  double shared = 0;  // through the sum below
  for (int64_t j = 0; form == GateWeight::kNormalised && j < k; ++j) {
    shared += static_cast<double>(dw[j]) * static_cast<double>(s[j]) / (d * d);
  }
  for (int64_t j = 0; j < k; ++j) {
    const double x = static_cast<double>(s[j]) / d;
    if (x == x) ds[j] += static_cast<T>(static_cast<double>(dw[j]) / d - shared);
  }
}

// All images: s, w, dw, ds (T, k).
template <class T>
void gate_weights_forward(Cpu, const T* s, RowsCols size, GateWeight form, T* w);
template <class T>
void gate_weights_forward(Cuda, const T* s, RowsCols size, GateWeight form, T* w);
template <class T>
void gate_weights_backward(Cpu, const T* s, const T* dw, RowsCols size, GateWeight form, T* ds);
template <class T>
void gate_weights_backward(Cuda, const T* s, const T* dw, RowsCols size, GateWeight form, T* ds);

}  // namespace moe::kernels
