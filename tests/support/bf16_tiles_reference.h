#pragma once

#include "engine/gemm/bf16_tiles.h"

namespace engine::test {

// What AMX's tiles do in plain loops, on any machine: sums of f32 multiply-adds, the pair's first
// element first.
const kernels::Bf16Tiles& bf16_tiles_reference();

}  // namespace engine::test
