#pragma once

#include "engine/core/tape.h"

namespace moe {

// Pictures cut into a grid x grid of patches that are routed one by one, and put together again
// (spec robust-sparse-moes 2.4, patch MoE).

// x (B, H, W, C) to (B grid^2, H/grid + 2 halo, W/grid + 2 halo, C): each patch with its
// neighbours' pixels around it, zeros outside the picture. Patches of a picture follow each other
// row by row. Error(kShape) if the grid does not divide the picture.
engine::Tensor cut_patches(const engine::Tensor& x, int64_t grid, int64_t halo);

// The inverse, for what an expert made of patches: (B grid^2, h, w, C), of which a border of one
// pixel is left out, to (B, grid (h - 2), grid (w - 2), C).
engine::Tensor join_patches(const engine::Tensor& patches, int64_t grid);

}  // namespace moe
