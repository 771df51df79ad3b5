#include "engine/core/cuda_launch.cuh"
#include "engine/core/cuda_runtime.h"
#include "engine/core/cuda_workspace.h"
#include "engine/ops/numbers_kernels.h"

namespace engine::kernels {
namespace {

constexpr int kParts = 64;  // tensors of one launch: what fits into a kernel's arguments

struct Parts {
  const void* data[kParts];
  int32_t begin[kParts + 1];  // of their elements among all
  bool is_f64[kParts];
  int count;
};

__global__ void gather_kernel(Parts parts, double* out) {
  for (int p = 0; p < parts.count; ++p) {
    const int32_t begin = parts.begin[p], n = parts.begin[p + 1] - begin;
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < n; i += kEachThreads) {
      out[begin + i] = parts.is_f64[p]
                           ? static_cast<const double*>(parts.data[p])[i]
                           : static_cast<double>(static_cast<const float*>(parts.data[p])[i]);
    }
  }
}

}  // namespace

void copy_numbers(Cuda on, std::span<const Tensor> tensors, double* out) {
  int64_t count = 0;
  for (const Tensor& x : tensors) count += x.numel();
  double* gathered =
      static_cast<double*>(cuda_workspace(count * static_cast<int64_t>(sizeof(double))));
  int64_t at = 0;
  for (size_t first = 0; first < tensors.size(); first += kParts) {
    const auto part = tensors.subspan(first, std::min<size_t>(kParts, tensors.size() - first));
    Parts parts{};
    for (const Tensor& x : part) {
      parts.data[parts.count] = x.raw();
      parts.is_f64[parts.count] = x.dtype() == Dtype::kF64;
      parts.begin[parts.count + 1] = parts.begin[parts.count] + static_cast<int32_t>(x.numel());
      ++parts.count;
    }
    launch(on, 1, kEachThreads, gather_kernel, parts, gathered + at);
    at += parts.begin[parts.count];
  }
  cuda_copy(out, gathered, count * static_cast<int64_t>(sizeof(double)));
}

}  // namespace engine::kernels
