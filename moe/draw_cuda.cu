#include <cmath>

#include "engine/core/cuda_launch.cuh"
#include "engine/core/rng.cuh"
#include "moe/draw_kernels.h"

namespace moe::kernels {

using engine::Cuda;
using engine::RngKey;
using engine::StepKey;

template <class T>
void put_noise(Cuda on, const StepKey& key, const int64_t* ids, double sigma, engine::RowsCols size,
               T* noise) {
  engine::launch_each(on, size.numel(), [=] __device__(int64_t at) {
    const RngKey own = key.at().with(static_cast<uint64_t>(ids[at / size.cols]));
    noise[at] =
        static_cast<T>(sigma * engine::normal_at(own, static_cast<uint64_t>(at % size.cols)));
  });
}

namespace {

constexpr int kMaskThreads = 128;

// A block a row. Philox gives two numbers at once, so a thread puts pairs.
template <class T>
__global__ void __launch_bounds__(kMaskThreads)
    mask_kernel(StepKey where, const int64_t* ids, uint64_t drops, T keep, MaskSlots plan,
                T* mask) {
  const int64_t s = blockIdx.x;
  T* row = mask + s * plan.width;
  const int64_t choice = plan.choice_of_slot[s];
  if (choice < 0) {
    for (int64_t i = threadIdx.x; i < plan.width; i += kMaskThreads) row[i] = T(0);
    return;
  }
  const RngKey key = where.at();
  const RngKey own = plan.by_slot
                         ? key.with(static_cast<uint64_t>(s - plan.offset[plan.expert_of[choice]]))
                         : key.with(static_cast<uint64_t>(ids[choice / plan.choices]))
                               .with(static_cast<uint64_t>(choice % plan.choices));
  for (int64_t pair = threadIdx.x; 2 * pair < plan.width; pair += kMaskThreads) {
    const auto r = engine::philox(
        {static_cast<uint32_t>(pair), static_cast<uint32_t>(pair >> 32), 0, 0}, own.value());
    const uint64_t first = uint64_t{r[0]} << 32 | r[1], second = uint64_t{r[2]} << 32 | r[3];
    row[2 * pair] = first < drops ? T(0) : keep;
    if (2 * pair + 1 < plan.width) row[2 * pair + 1] = second < drops ? T(0) : keep;
  }
}

}  // namespace

template <class T>
void put_mask(Cuda on, const StepKey& key, const int64_t* ids, double rate, const MaskSlots& plan,
              T* mask) {
  if (plan.slots == 0) return;
  engine::launch(on, engine::blocks_for(plan.slots, 1), kMaskThreads, mask_kernel<T>, key, ids,
                 RngKey::below_uniform(rate), static_cast<T>(1 / (1 - rate)), plan, mask);
}

template <class T>
void fill(Cuda on, T* out, int64_t count, T value) {
  engine::launch_each(on, count, [=] __device__(int64_t i) { out[i] = value; });
}

void put_owners(Cuda on, int64_t count, int64_t slots, int64_t experts, int32_t* owner) {
  engine::launch_each(on, count, [=] __device__(int64_t i) {
    owner[i] = static_cast<int32_t>(i / slots % experts);
  });
}

template <class T>
void put_shares(Cuda on, const T* weight, int64_t slots, int64_t count, T* shares, T* logs) {
  engine::launch_each(on, count, [=] __device__(int64_t i) {
    T sum = 0;
    for (int64_t s = 0; s < slots; ++s) sum += weight[i * slots + s];
    shares[i] = sum;
    logs[i] = log(sum);
  });
}

template void put_noise(Cuda, const StepKey&, const int64_t*, double, engine::RowsCols, float*);
template void put_noise(Cuda, const StepKey&, const int64_t*, double, engine::RowsCols, double*);
template void put_mask(Cuda, const StepKey&, const int64_t*, double, const MaskSlots&, float*);
template void put_mask(Cuda, const StepKey&, const int64_t*, double, const MaskSlots&, double*);
template void fill(Cuda, int32_t*, int64_t, int32_t);
template void fill(Cuda, float*, int64_t, float);
template void fill(Cuda, double*, int64_t, double);
template void put_shares(Cuda, const float*, int64_t, int64_t, float*, float*);
template void put_shares(Cuda, const double*, int64_t, int64_t, double*, double*);

}  // namespace moe::kernels
