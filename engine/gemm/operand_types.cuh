#pragma once

#include <type_traits>

#include "engine/gemm/gemm.h"

// What products check alike. CUDA sources only.
namespace engine::kernels {

// Error(kDtype) where operands stored as In are not multiplied in that precision.
template <class In>
void check_operands(Precision precision) {
  if constexpr (std::is_same_v<In, bf16>) {
    check(precision == Precision::kBf16, ErrorKind::kDtype,
          "operands stored in bf16 are multiplied in bf16");
  } else {
    check(precision == Precision::kF32 || std::is_same_v<In, float>, ErrorKind::kDtype,
          "a product in bf16 or tf32 takes f32, not f64");
  }
}

}  // namespace engine::kernels
