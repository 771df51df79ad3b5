#include "engine/ops/numbers_kernels.h"

namespace engine::kernels {

void copy_numbers(Cpu, std::span<const Tensor> tensors, double* out) {
  for (const Tensor& x : tensors) {
    for (int64_t i = 0; i < x.numel(); ++i) {
      *out++ = x.dtype() == Dtype::kF64 ? x.data<const double>()[i]
                                        : static_cast<double>(x.data<const float>()[i]);
    }
  }
}

}  // namespace engine::kernels
