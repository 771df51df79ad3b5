#include <cublas_v2.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <vector>

#include "engine/core/buffer.h"
#include "engine/core/cuda_check.h"
#include "engine/gemm/gemm.h"
#include "engine/gemm/grouped_loop.h"
#include "engine/ops/cast_kernels.h"
#include "engine/ops/layer_norm_kernels.h"
#include "engine/ops/softmax_kernels.h"

// Times the device kernels one by one; built and run by tools/gpu_check.sh, after the tests.
//
//   the largest rate of products in bf16 and tf32,
//   gemm f32 no/no 4096x4096x4096, softmax and layer_norm (65536, 1024) forward and backward,
//   the experts' first layer of V-MoE-S/32 at 512 pairs in bf16, beside one product an expert
namespace {

using engine::Buffer;
using engine::Device;
using engine::Dtype;
using engine::GradWrite;
using engine::RowsCols;
using namespace engine::kernels;

constexpr int kWarmUp = 3, kRuns = 20;

// Median milliseconds of `run` on the backend's stream.
double time_ms(const std::function<void(engine::Cuda)>& run) {
  const engine::Cuda on = engine::cuda_backend();
  cudaEvent_t begin, end;
  engine::check_cuda(cudaEventCreate(&begin));
  engine::check_cuda(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < kWarmUp + kRuns; ++i) {
    engine::check_cuda(cudaEventRecord(begin, on.stream));
    run(on);
    engine::check_cuda(cudaEventRecord(end, on.stream));
    engine::check_cuda(cudaEventSynchronize(end));
    float ms = 0;
    engine::check_cuda(cudaEventElapsedTime(&ms, begin, end));
    if (i >= kWarmUp) times.push_back(ms);
  }
  engine::check_cuda(cudaEventDestroy(begin));
  engine::check_cuda(cudaEventDestroy(end));
  std::nth_element(times.begin(), times.begin() + kRuns / 2, times.end());
  return times[kRuns / 2];
}

// Values in [-1, 1): zeros would run faster than training does.
Buffer random_matrix(int64_t rows, int64_t cols) {
  std::vector<float> values(static_cast<size_t>(rows * cols));
  uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
  }
  Buffer out({rows, cols}, Dtype::kF32, Device::kCuda);
  engine::device_copy(Device::kCuda, out.tensor().raw(), Device::kCpu, values.data(),
                      out.tensor().bytes());
  return out;
}

void bench_gemm() {
  constexpr int64_t kSize = 4096;
  const Buffer a = random_matrix(kSize, kSize), b = random_matrix(kSize, kSize),
               c = random_matrix(kSize, kSize);
  struct Product {
    Trans ta, tb;
    const char* name;
  };
  for (const Product& p :
       {Product{Trans::kNo, Trans::kNo, "gemm a b"}, Product{Trans::kNo, Trans::kYes, "gemm a b^T"},
        Product{Trans::kYes, Trans::kNo, "gemm a^T b"}}) {
    const double ms = time_ms([&](engine::Cuda on) {
      gemm<float>(on, p.ta, p.tb, {kSize, kSize, kSize}, a.data<const float>(), kSize,
                  b.data<const float>(), kSize, c.data<float>(), kSize, GradWrite::kOverwrite);
    });
    std::printf("%-28s %8.3f ms %9.0f GFLOP/s\n", p.name, ms,
                2.0 * kSize * kSize * kSize / ms / 1e6);
  }
}

// The rate that tensor cores reach on one large product of operands that are bf16 or tf32 already:
// what training steps are held against.
void bench_peak() {
  constexpr int kSize = 8192;
  const Buffer a = random_matrix(kSize, kSize), b = random_matrix(kSize, kSize),
               c = random_matrix(kSize, kSize);
  cublasHandle_t handle = nullptr;
  if (cublasCreate(&handle) != CUBLAS_STATUS_SUCCESS) return;
  struct Kind {
    const char* name;
    cudaDataType type;
    cublasComputeType_t compute;
  };
  // Random bits are bf16 numbers as good as any.
  for (const Kind& kind : {Kind{"bf16", CUDA_R_16BF, CUBLAS_COMPUTE_32F},
                           Kind{"tf32", CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32}}) {
    const float one = 1, zero = 0;
    const double ms = time_ms([&](engine::Cuda on) {
      (void)cublasSetStream(handle, on.stream);
      (void)cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, kSize, kSize, kSize, &one,
                         a.tensor().raw(), kind.type, kSize, b.tensor().raw(), kind.type, kSize,
                         &zero, c.tensor().raw(), CUDA_R_32F, kSize, kind.compute,
                         CUBLAS_GEMM_DEFAULT);
    });
    std::printf("matrix peak %s %9.1f Tflop/s\n", kind.name,
                2.0 * kSize * kSize * kSize / ms / 1e9);
  }
  (void)cublasDestroy(handle);
}

// `passes`: how often the kernel must read or write a whole matrix.
void report_rows(const char* name, RowsCols size, int passes, double ms) {
  const double bytes = static_cast<double>(passes) * static_cast<double>(size.numel()) * 4;
  std::printf("%-28s %8.3f ms %9.0f GB/s\n", name, ms, bytes / ms / 1e6);
}

void bench_rows() {
  const RowsCols size{65536, 1024};
  const Buffer x = random_matrix(size.rows, size.cols), y = random_matrix(size.rows, size.cols),
               dx = random_matrix(size.rows, size.cols), scale = random_matrix(1, size.cols),
               bias = random_matrix(1, size.cols), stats = random_matrix(size.rows, 2),
               dscale = random_matrix(1, size.cols), dbias = random_matrix(1, size.cols);
  const float *in = x.data<const float>(), *w = scale.data<const float>(),
              *s = stats.data<const float>();
  report_rows("softmax forward", size, 2,
              time_ms([&](engine::Cuda on) { softmax_forward(on, in, y.data<float>(), size); }));
  report_rows("softmax backward", size, 3, time_ms([&](engine::Cuda on) {
                softmax_backward(on, y.data<const float>(), in, dx.data<float>(), size,
                                 GradWrite::kOverwrite);
              }));
  report_rows("layer_norm forward", size, 2, time_ms([&](engine::Cuda on) {
                layer_norm_forward(on, in, w, bias.data<const float>(), y.data<float>(),
                                   stats.data<float>(), size, 1e-6);
              }));
  report_rows("layer_norm backward input", size, 3, time_ms([&](engine::Cuda on) {
                layer_norm_backward<float>(on, in, w, s, y.data<const float>(), size,
                                           {.dx = dx.data<float>()});
              }));
  report_rows("layer_norm backward params", size, 2, time_ms([&](engine::Cuda on) {
                layer_norm_backward<float>(
                    on, in, w, s, y.data<const float>(), size,
                    {.dscale = dscale.data<float>(), .dbias = dbias.data<float>()});
              }));
}

Buffer in_bf16(const Buffer& x) {
  Buffer out(x.tensor().shape(), Dtype::kBF16, Device::kCuda);
  put_cast(engine::cuda_backend(), x.data<const float>(), out.data<engine::bf16>(),
           x.tensor().numel(), GradWrite::kOverwrite);
  return out;
}

// Our grouped products, which read the offsets on the device, beside the reference form.
void bench_grouped() {
  using engine::bf16;
  constexpr int64_t kGroups = 8, kRows = 102'400, kIn = 512, kOut = 2048;
  constexpr auto kPrecision = engine::Precision::kBf16;
  const Buffer x = in_bf16(random_matrix(kRows, kIn)),
               w = in_bf16(random_matrix(kGroups * kIn, kOut)),
               y = in_bf16(random_matrix(kRows, kOut)), dx = in_bf16(random_matrix(kRows, kIn)),
               dw = random_matrix(kGroups * kIn, kOut);
  const auto *in = x.data<const bf16>(), *weight = w.data<const bf16>();
  auto* const out = y.data<bf16>();
  for (const bool even : {true, false}) {
    std::vector<int32_t> host(kGroups + 1);
    for (int64_t g = 0; g <= kGroups; ++g) {  // skewed: half of the rows, half of the rest, ...
      host[static_cast<size_t>(g)] =
          static_cast<int32_t>(even || g == kGroups ? kRows * g / kGroups : kRows - (kRows >> g));
    }
    Buffer at({kGroups + 1}, Dtype::kI32, Device::kCuda);
    engine::device_copy(Device::kCuda, at.tensor().raw(), Device::kCpu, host.data(),
                        at.tensor().bytes());
    const auto* offset = at.data<const int32_t>();
    const auto report = [&](const char* name, double ours, double loop) {
      const double flops = 2.0 * kRows * kIn * kOut;
      std::printf("experts %-10s %-6s %8.3f ms %7.1f Tflop/s, as a loop %8.3f ms, ratio %.2f\n",
                  name, even ? "even" : "skewed", ours, flops / ours / 1e9, loop, ours / loop);
    };
    report("forward", time_ms([&](engine::Cuda on) {
             grouped_gemm<bf16>(on, Trans::kNo, offset, kGroups, {kRows, kOut, kIn}, in, weight,
                                out, GradWrite::kOverwrite, {}, kPrecision);
           }),
           time_ms([&](engine::Cuda on) {
             grouped_gemm_loop<bf16>(on, Trans::kNo, host.data(), kGroups, {kRows, kOut, kIn}, in,
                                     weight, out, GradWrite::kOverwrite, {}, kPrecision);
           }));
    report("dx", time_ms([&](engine::Cuda on) {
             grouped_gemm<bf16>(on, Trans::kYes, offset, kGroups, {kRows, kIn, kOut},
                                y.data<const bf16>(), weight, dx.data<bf16>(),
                                GradWrite::kOverwrite, {}, kPrecision);
           }),
           time_ms([&](engine::Cuda on) {
             grouped_gemm_loop<bf16>(on, Trans::kYes, host.data(), kGroups, {kRows, kIn, kOut},
                                     y.data<const bf16>(), weight, dx.data<bf16>(),
                                     GradWrite::kOverwrite, {}, kPrecision);
           }));
    report("dw", time_ms([&](engine::Cuda on) {
             grouped_gemm_transposed<bf16>(on, offset, kGroups, {kIn, kOut, kRows}, in,
                                           y.data<const bf16>(), dw.data<float>(),
                                           GradWrite::kOverwrite, kPrecision);
           }),
           time_ms([&](engine::Cuda on) {
             grouped_gemm_transposed_loop<bf16>(on, host.data(), kGroups, {kIn, kOut, kRows}, in,
                                                y.data<const bf16>(), dw.data<float>(),
                                                GradWrite::kOverwrite, kPrecision);
           }));
  }
}

}  // namespace

int main() try {
  bench_peak();
  bench_gemm();
  bench_rows();
  bench_grouped();
  return 0;
} catch (const engine::Error& error) {
  std::fprintf(stderr, "gpu_bench: %s\n", error.what());
  return 1;
}
