#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include "engine/core/parallel.h"
#include "moe/draw_kernels.h"

namespace moe::kernels {

using engine::Cpu;
using engine::RngKey;
using engine::StepKey;

template <class T>
void put_noise(Cpu, const StepKey& where, const int64_t* ids, double sigma, engine::RowsCols size,
               T* noise) {
  const RngKey key = where.at();
  engine::parallel_for(size.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const RngKey own = key.with(static_cast<uint64_t>(ids[b]));
      for (int64_t i = 0; i < size.cols; ++i) {
        noise[b * size.cols + i] = static_cast<T>(sigma * own.normal(static_cast<uint64_t>(i)));
      }
    }
  });
}

namespace {

// out[i] = key.uniform(i) < rate ? 0 : keep, where `drops` stands for the rate.
template <class T>
void fill_row(const RngKey& key, uint64_t drops, T keep, std::span<T> out) {
  std::array<uint64_t, 256> bits;
  for (size_t i = 0; i < out.size(); i += bits.size()) {
    const std::span<uint64_t> here(bits.data(), std::min(bits.size(), out.size() - i));
    key.bits(i, here);
    for (size_t j = 0; j < here.size(); ++j) out[i + j] = here[j] < drops ? T(0) : keep;
  }
}

}  // namespace

template <class T>
void put_mask(Cpu, const StepKey& where, const int64_t* ids, double rate, const MaskSlots& plan,
              T* mask) {
  const RngKey key = where.at();
  const T keep = static_cast<T>(1 / (1 - rate));
  const uint64_t drops = RngKey::below_uniform(rate);
  const auto width = static_cast<size_t>(plan.width);
  const int64_t grain = engine::rows_per_grain(plan.width);
  engine::parallel_for(plan.slots, grain, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const int64_t choice = plan.choice_of_slot[s];
      const RngKey own =
          plan.by_slot ? key.with(static_cast<uint64_t>(s - plan.offset[plan.expert_of[choice]]))
                       : key.with(static_cast<uint64_t>(ids[choice / plan.choices]))
                             .with(static_cast<uint64_t>(choice % plan.choices));
      fill_row(own, drops, keep, std::span<T>(mask + s * plan.width, width));
    }
  });
}

template <class T>
void fill(Cpu, T* out, int64_t count, T value) {
  std::fill_n(out, count, value);
}

void put_owners(Cpu, int64_t count, int64_t slots, int64_t experts, int32_t* owner) {
  for (int64_t i = 0; i < count; ++i) owner[i] = static_cast<int32_t>(i / slots % experts);
}

template <class T>
void put_shares(Cpu, const T* weight, int64_t slots, int64_t count, T* shares, T* logs) {
  for (int64_t i = 0; i < count; ++i) {
    T sum = 0;
    for (int64_t s = 0; s < slots; ++s) sum += weight[i * slots + s];
    shares[i] = sum;
    logs[i] = std::log(sum);
  }
}

template void put_noise(Cpu, const StepKey&, const int64_t*, double, engine::RowsCols, float*);
template void put_noise(Cpu, const StepKey&, const int64_t*, double, engine::RowsCols, double*);
template void put_mask(Cpu, const StepKey&, const int64_t*, double, const MaskSlots&, float*);
template void put_mask(Cpu, const StepKey&, const int64_t*, double, const MaskSlots&, double*);
template void fill(Cpu, int32_t*, int64_t, int32_t);
template void fill(Cpu, float*, int64_t, float);
template void fill(Cpu, double*, int64_t, double);
template void put_shares(Cpu, const float*, int64_t, int64_t, float*, float*);
template void put_shares(Cpu, const double*, int64_t, int64_t, double*, double*);

}  // namespace moe::kernels
