#include "engine/core/cuda_launch.cuh"
#include "engine/ops/normalise_bytes_kernels.h"

namespace engine::kernels {
namespace {

constexpr int kTimes = 4;  // accesses a thread has under way

// Where an image's box is; in pixels of y.
struct Box {
  int64_t top, left, bottom, right;
};

__device__ Box box_of(const int32_t* erased, int64_t image) {
  if (erased == nullptr) return {0, 0, 0, 0};
  const int32_t* box = erased + 4 * image;
  return {box[0], box[1], int64_t{box[0]} + box[2], int64_t{box[1]} + box[3]};
}

// A plane (fewer than 2^31 pixels) in `cuts` blocks, kWide neighbours of a row an access: 4 where
// rows are whole and aligned accesses, else 1. The plane's table is in shared memory.
template <int kWide>
__global__ void __launch_bounds__(kEachThreads)
    normalise_kernel(ByteViews in, float* y, uint32_t area, uint32_t width, unsigned cuts) {
  __shared__ float table[256];
  static_assert(kEachThreads == 256);
  const uint32_t plane = blockIdx.x / cuts, image = plane / static_cast<uint32_t>(in.channels);
  const int64_t channel = plane % static_cast<uint32_t>(in.channels);
  table[threadIdx.x] = in.table[channel * 256 + threadIdx.x];
  __syncthreads();
  const bool mirrored = in.mirrored[image] != 0;
  const Box box = box_of(in.erased, image);
  const uint8_t* from = in.bytes + int64_t{plane} * area;
  float* to = y + int64_t{plane} * area;
  const uint32_t first = blockIdx.x % cuts * (kEachThreads * kWide * kTimes);
#pragma unroll
  for (int t = 0; t < kTimes; ++t) {
    const uint32_t i = first + (t * kEachThreads + threadIdx.x) * kWide;
    if (i >= area) continue;
    const uint32_t row = i / width, column = i - row * width;
    const uint32_t at = mirrored ? row * width + width - kWide - column : i;
    uint32_t bytes;
    if constexpr (kWide == 4) {
      bytes = *reinterpret_cast<const uint32_t*>(from + at);
    } else {
      bytes = from[at];
    }
    float out[kWide];
    for (int k = 0; k < kWide; ++k) {
      const bool erased =
          row >= box.top && row < box.bottom && column + k >= box.left && column + k < box.right;
      const int shift = 8 * (mirrored ? kWide - 1 - k : k);
      out[k] = erased ? 0.0f : table[bytes >> shift & 255u];
    }
    if constexpr (kWide == 4) {
      *reinterpret_cast<float4*>(to + i) = {out[0], out[1], out[2], out[3]};
    } else {
      to[i] = out[0];
    }
  }
}

template <int kWide>
void normalise(Cuda on, const ByteViews& in, float* y) {
  const int64_t area = in.height * in.width;
  const unsigned cuts = blocks_for(area, kEachThreads * kWide * kTimes);
  launch(on, blocks_for(in.planes() * cuts, 1), kEachThreads, normalise_kernel<kWide>, in, y,
         static_cast<uint32_t>(area), static_cast<uint32_t>(in.width), cuts);
}

}  // namespace

void normalise_bytes(Cuda on, const ByteViews& in, float* y) {
  const int64_t area = in.height * in.width;
  if (in.planes() == 0 || area == 0) return;
  check(area <= INT32_MAX, ErrorKind::kShape, "normalise_bytes: a plane of ", area, " pixels");
  const bool aligned =
      reinterpret_cast<uintptr_t>(in.bytes) % 4 == 0 && reinterpret_cast<uintptr_t>(y) % 16 == 0;
  in.width % 4 == 0 && aligned ? normalise<4>(on, in, y) : normalise<1>(on, in, y);
}

}  // namespace engine::kernels
