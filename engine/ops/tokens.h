#pragma once

#include "engine/core/tape.h"

namespace engine {

// Cuts images into patches that do not overlap and flattens each, so that the patch
// embedding is one product.
//
//   images   (B, C, H, W)  f32 or f64
//   patch    side of a patch in pixels; divides H and W
//   returns  (B, (H/patch)*(W/patch), patch*patch*C): patches row-major over the image,
//            values in (row, column, channel) order within a patch
//
// Gradient: the inverse permutation. Throws Error(kShape) when patch does not divide the
// image, Error(kValue) if images are not on a tape.
Tensor patchify(const Tensor& images, int64_t patch);

// Puts the class token in front of embedded patches and adds the position embedding.
//   y[b,0] = class_token + position[0],  y[b,1+p] = patches[b,p] + position[1+p]
// Without a class token (undefined): y[b,p] = patches[b,p] + position[p].
//
//   patches      (B, P, D)  f32 or f64, on CUDA also bf16; y has the same dtype
//   class_token  (D) or undefined; this and position are f32 beside bf16
//   position     (T, D), T = P + 1 with a class token, else P
//   returns      (B, T, D)
//
// Gradient: dpatches = its part of dy; dclass_token = sum_b dy[b,0]; dposition = sum_b dy[b].
// The sums run over images in order. Throws Error(kShape) when sizes do not fit.
Tensor embed_tokens(const Tensor& patches, const Tensor& class_token, const Tensor& position);

// One token of every image: (B, T, D) -> (B, D), y[b] = x[b, token]. Gradient: zeros elsewhere.
// Here and below f32 or f64, on CUDA also bf16.
Tensor select_token(const Tensor& x, int64_t token);

// Mean over the tokens of every image: (B, T, D) -> (B, D), summed in f32 where stored in bf16.
// Gradient: dy / T to each.
Tensor mean_tokens(const Tensor& x);

}  // namespace engine
