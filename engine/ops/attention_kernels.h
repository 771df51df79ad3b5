#pragma once

#include "engine/core/backend.h"
#include "engine/core/precision.h"
#include "engine/core/stored.h"

// Raw kernels of attention; layouts as in attention.h.
namespace engine::kernels {

struct AttentionSize {
  int64_t batch, tokens, heads, head_dim;
};

// Numbers of `saved`, what forward leaves to backward. CPU: the probabilities (B, H, T, T). CUDA:
// log2(sum_s 2^score) of every row (B, H, T), scores in units of log2; backward computes the
// probabilities again.
inline int64_t attention_saved(Cpu, AttentionSize s) {
  return s.batch * s.heads * s.tokens * s.tokens;
}
inline int64_t attention_saved(Cuda, AttentionSize s) { return s.batch * s.heads * s.tokens; }

// Writes `saved` and y. CUDA: head_dim of at most 128, else Error(kShape); tensors stored in bf16
// are for that precision alone.
template <class T>
void attention_forward(Cpu, const T* qkv, T* saved, T* y, AttentionSize size, Precision precision);
template <class T>
void attention_forward(Cuda, const T* qkv, Wide<T>* saved, T* y, AttentionSize size,
                       Precision precision);

template <class T>
void attention_backward(Cpu, const T* qkv, const T* saved, const T* y, const T* dy, T* dqkv,
                        AttentionSize size, GradWrite write, Precision precision);
template <class T>
void attention_backward(Cuda, const T* qkv, const Wide<T>* saved, const T* y, const T* dy, T* dqkv,
                        AttentionSize size, GradWrite write, Precision precision);

}  // namespace engine::kernels
