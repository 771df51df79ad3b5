#pragma once

#include "engine/core/backend.h"
#include "engine/core/precision.h"

// Raw kernels of attention; layouts as in attention.h.
namespace engine::kernels {

struct AttentionSize {
  int64_t batch, tokens, heads, head_dim;
};

// probabilities: (B, H, T, T), written.
template <class T>
void attention_forward(Cpu, const T* qkv, T* probabilities, T* y, AttentionSize size,
                       Precision precision);

template <class T>
void attention_backward(Cpu, const T* qkv, const T* probabilities, const T* dy, T* dqkv,
                        AttentionSize size, GradWrite write, Precision precision);

}  // namespace engine::kernels
