#include "engine/ops/cast_kernels.h"
#include "engine/ops/warp.cuh"

namespace engine::kernels {
namespace {

// kVec neighbouring elements a thread: 16 bytes of bf16.
template <class From, class To, int kVec>
__global__ void __launch_bounds__(kEachThreads)
    cast_kernel(const From* x, To* y, int64_t packs, bool add) {
  const int64_t pack = int64_t{blockIdx.x} * kEachThreads + threadIdx.x;
  if (pack >= packs) return;
  Pack<float, kVec>::load(x + pack * kVec).put(y + pack * kVec, add);
}

}  // namespace

template <class From, class To>
void put_cast(Cuda on, const From* x, To* y, int64_t count, GradWrite write) {
  if (count == 0) return;
  const bool packed = packable<bf16>(count, x, y), add = write == GradWrite::kAccumulate;
  const int64_t packs = packed ? count / kPack<bf16> : count;
  launch(on, blocks_for(packs, kEachThreads), kEachThreads,
         packed ? cast_kernel<From, To, kPack<bf16>> : cast_kernel<From, To, 1>, x, y, packs, add);
}

template void put_cast(Cuda, const float*, bf16*, int64_t, GradWrite);
template void put_cast(Cuda, const bf16*, float*, int64_t, GradWrite);

}  // namespace engine::kernels
