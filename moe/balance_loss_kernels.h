#pragma once

#include "engine/core/backend.h"
#include "nn/loss/token_groups.h"

// Raw kernels of the balance losses (balance_loss.h has the formulas); the backward of
// importance_loss is nn::kernels::add_group_slopes().
namespace moe::kernels {

using engine::Cpu;
using engine::Cuda;

//   clean  (groups * tokens, E)
//   sums   (groups, E) scratch
//   slope  (groups, E): d loss / d sums
//   loss   (1)
template <class T>
void importance_forward(Cpu, const T* clean, const nn::Groups& g, double* sums, double* slope,
                        T* loss);
template <class T>
void importance_forward(Cuda, const T* clean, const nn::Groups& g, double* sums, double* slope,
                        T* loss);

struct LoadRule {
  int64_t top_k;
  double sigma;
};

//   logits, noisy  (groups * tokens, E)
//   kth            (groups * tokens): where the K-th largest noisy logit is
//   sums           (groups, E) scratch
//   slope          (groups, E): d loss / d sums
//   loss           (1)
template <class T>
void load_forward(Cpu, const T* logits, const T* noisy, const nn::Groups& g, const LoadRule& rule,
                  int32_t* kth, double* sums, double* slope, T* loss);
template <class T>
void load_forward(Cuda, const T* logits, const T* noisy, const nn::Groups& g, const LoadRule& rule,
                  int32_t* kth, double* sums, double* slope, T* loss);
// dlogits and dnoisy += dy[0] times their slopes; null where nobody wants it.
template <class T>
void load_backward(Cpu, const T* logits, const T* noisy, const nn::Groups& g, const LoadRule& rule,
                   const int32_t* kth, const double* slope, const T* dy, T* dlogits, T* dnoisy);
template <class T>
void load_backward(Cuda, const T* logits, const T* noisy, const nn::Groups& g, const LoadRule& rule,
                   const int32_t* kth, const double* slope, const T* dy, T* dlogits, T* dnoisy);

}  // namespace moe::kernels
