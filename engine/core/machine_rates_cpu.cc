#include <omp.h>

#include <algorithm>
#include <memory>

#include "engine/core/machine_rates.h"
#include "engine/core/op_times.h"
#include "engine/core/parallel.h"
#include "engine/core/simd.h"

namespace engine {
namespace {

using simd::Packet;

constexpr int kChains = 12;  // enough for two units that take four or five cycles

// `steps` times kChains independent multiply-adds; the sum, so that nothing is left out.
float run_chains(int64_t steps, float factor) {
  Packet<float> acc[kChains];
  for (int c = 0; c < kChains; ++c) acc[c] = simd::set(1.0f + static_cast<float>(c));
  const Packet<float> x = simd::set(factor), y = simd::set(1 - factor);
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) acc[c] = simd::fma(acc[c], x, y);
  }
  float lanes[simd::kLanes<float>], sum = 0;
  for (const Packet<float>& a : acc) {
    simd::store(lanes, a);
    for (const float lane : lanes) sum += lane;
  }
  return sum;
}

}  // namespace

double best_rate(double seconds, double work, const std::function<void()>& task) {
  double best = 0;
  const double start = OpTimes::now_s();
  for (int tries = 0; tries < 3 || OpTimes::now_s() - start < seconds; ++tries) {
    const double begin = OpTimes::now_s();
    task();
    best = std::max(best, work / (OpTimes::now_s() - begin));
  }
  return best;
}

double measure_fma_gflops(double seconds) {
  constexpr int64_t kSteps = 2'000'000;
  const int threads = num_threads();
  const double work = 2.0 * kChains * simd::kLanes<float> * kSteps * threads;
  float sum = 0;
  const double rate = best_rate(seconds, work, [&] {
#pragma omp parallel num_threads(threads) reduction(+ : sum)
    sum += run_chains(kSteps, 0.5f);
  });
  return sum > 0 ? rate / 1e9 : 0;  // the sum is: its chains tend to 1
}

double measure_memory_gbs(double seconds) {
  constexpr int64_t kCount = int64_t{1} << 26;
  // Not initialised here: each thread touches its own part first.
  const std::unique_ptr<float[]> from(new float[kCount]), to(new float[kCount]);
  const auto sweep = [&](auto&& body) { parallel_for(kCount, kCount / 64, body); };
  sweep([&](int64_t begin, int64_t end) {
    std::fill(from.get() + begin, from.get() + end, 1.0f);
    std::fill(to.get() + begin, to.get() + end, 0.0f);
  });
  const double work = 2.0 * sizeof(float) * kCount;
  const double rate = best_rate(seconds, work, [&] {
    sweep([&](int64_t begin, int64_t end) {
      simd::for_lanes<float>(end - begin, [&](int64_t i, int64_t n) {
        const auto x = simd::load_n(from.get() + begin + i, n);
        simd::store_n(to.get() + begin + i, simd::add(x, x), n);
      });
    });
  });
  return to[kCount / 2] == 2.0f ? rate / 1e9 : 0;
}

}  // namespace engine
