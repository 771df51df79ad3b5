#include "engine/ops/numbers.h"

#include "engine/ops/numbers_kernels.h"

namespace engine {

void read_numbers(std::span<const Tensor> tensors, std::span<double> out) {
  if (tensors.empty()) return;
  int64_t count = 0;
  for (const Tensor& x : tensors) {
    check(x.dtype() == Dtype::kF32 || x.dtype() == Dtype::kF64, ErrorKind::kDtype,
          "read_numbers: expected f32 or f64, got ", x.dtype());
    check(x.device() == tensors[0].device(), ErrorKind::kDevice,
          "read_numbers: tensors of two devices");
    count += x.numel();
  }
  check(count == static_cast<int64_t>(out.size()), ErrorKind::kShape, "read_numbers: ", count,
        " numbers into ", out.size());
  if (tensors[0].device() == Device::kCpu) return kernels::copy_numbers(Cpu{}, tensors, out.data());
  if constexpr (kCudaEnabled) kernels::copy_numbers(cuda_backend(), tensors, out.data());
}

}  // namespace engine
