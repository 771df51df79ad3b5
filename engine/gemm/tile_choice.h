#pragma once

#include <type_traits>

#include "engine/core/cpu_features.h"
#include "engine/core/precision.h"
#include "engine/gemm/f32_tiles.h"
#include "engine/gemm/register_tile.h"

// Include it in *_cpu.cc files only.
namespace engine::kernels {

// Calls f with the register tile that this machine multiplies fastest with.
template <class T, class F>
void with_tile(Precision precision, F&& f) {
  if constexpr (std::is_same_v<T, float>) {
    static const bool avx512 = usable_isa() >= Isa::kAvx512 && f32_tile_avx512() != nullptr;
    const bool rounds = precision == Precision::kBf16;
    if (avx512) return rounds ? f(Rounding<Avx512Tile>()) : f(Avx512Tile());
    if (rounds) return f(Rounding<BaseTile<T>>());
  }
  f(BaseTile<T>());
}

}  // namespace engine::kernels
