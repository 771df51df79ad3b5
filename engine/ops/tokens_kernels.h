#pragma once

#include "engine/core/stored.h"

// Raw kernels of the token ops; layouts as in tokens.h. On CUDA T may be bf16, but for patchify.
namespace engine::kernels {

struct PatchSize {
  int64_t batch, channels, height, width, patch;
};
struct TokenSize {
  int64_t batch, tokens, width;
};

template <class T>
void patchify_forward(Cpu, const T* images, T* patches, PatchSize size);
template <class T>
void patchify_forward(Cuda, const T* images, T* patches, PatchSize size);
template <class T>
void patchify_backward(Cpu, const T* dpatches, T* dimages, PatchSize size, GradWrite write);
template <class T>
void patchify_backward(Cuda, const T* dpatches, T* dimages, PatchSize size, GradWrite write);

// class_token may be null. size.tokens counts the class token.
template <class T>
void embed_tokens_forward(Cpu, const T* patches, const T* class_token, const T* position, T* y,
                          TokenSize size);
template <class T>
void embed_tokens_forward(Cuda, const T* patches, const Wide<T>* class_token,
                          const Wide<T>* position, T* y, TokenSize size);
// dpatches (write) from dy; `skip` is 1 with a class token.
template <class T>
void embed_tokens_backward_patches(Cpu, const T* dy, T* dpatches, TokenSize size, int64_t skip,
                                   GradWrite write);
template <class T>
void embed_tokens_backward_patches(Cuda, const T* dy, T* dpatches, TokenSize size, int64_t skip,
                                   GradWrite write);
// Adds to dposition (T, D).
template <class T>
void embed_tokens_backward_position(Cpu, const T* dy, T* dposition, TokenSize size);
template <class T>
void embed_tokens_backward_position(Cuda, const T* dy, Wide<T>* dposition, TokenSize size);
// Adds sum_b dy[b, 0] to dclass (D).
template <class T>
void embed_tokens_backward_class(Cpu, const T* dy, T* dclass, TokenSize size);
template <class T>
void embed_tokens_backward_class(Cuda, const T* dy, Wide<T>* dclass, TokenSize size);

template <class T>
void select_token_forward(Cpu, const T* x, T* y, TokenSize size, int64_t token);
template <class T>
void select_token_forward(Cuda, const T* x, T* y, TokenSize size, int64_t token);
// Adds to dx, which the caller has zeroed or which holds earlier gradients.
template <class T>
void select_token_backward(Cpu, const T* dy, T* dx, TokenSize size, int64_t token);
template <class T>
void select_token_backward(Cuda, const T* dy, T* dx, TokenSize size, int64_t token);

template <class T>
void mean_tokens_forward(Cpu, const T* x, T* y, TokenSize size);
template <class T>
void mean_tokens_forward(Cuda, const T* x, T* y, TokenSize size);
template <class T>
void mean_tokens_backward(Cpu, const T* dy, T* dx, TokenSize size, GradWrite write);
template <class T>
void mean_tokens_backward(Cuda, const T* dy, T* dx, TokenSize size, GradWrite write);

}  // namespace engine::kernels
