#include <cmath>

#include "engine/core/cuda_workspace.h"
#include "engine/core/rng.cuh"
#include "moe/cnn/image_gate_kernels.h"
#include "moe/serve.cuh"

namespace moe::kernels {

template <class T>
void select_noisily(Cuda on, const T* scores, const SelectionNoise& noise, RowsCols size, T* q) {
  const int64_t experts = size.cols, numel = size.numel();
  const auto n = static_cast<double>(numel);
  auto* mean = static_cast<double*>(engine::cuda_workspace((2 + numel) * int64_t{sizeof(double)}));
  double *unit = mean + 1, *moved = mean + 2;
  engine::launch_sums<double>(
      on, 1, numel,
      [=] __device__(int64_t, int64_t i) -> double { return static_cast<double>(scores[i]) / n; },
      [=] __device__(int64_t, double sum) { *mean = sum; });
  engine::launch_sums<double>(
      on, 1, numel,
      [=] __device__(int64_t, int64_t i) -> double {
        const double d = static_cast<double>(scores[i]) - *mean;
        return n > 1 ? d * d / (n - 1) : 0;
      },
      [=] __device__(int64_t, double var) { *unit = var > 0 ? 1 / ::sqrt(var) : 1; });
  engine::launch_each(on, numel, [=] __device__(int64_t i) {
    const int64_t t = i / experts, e = i % experts;
    const auto own = noise.key.with(static_cast<uint64_t>(noise.ids[t / noise.patches]));
    const double normal =
        engine::normal_at(own, static_cast<uint64_t>(t % noise.patches * experts + e));
    moved[i] = static_cast<double>(scores[i]) * *unit + 0.1 * normal;
  });
  engine::launch_each(on, size.rows, [=] __device__(int64_t t) {
    const double* row = moved + t * experts;
    double largest = -INFINITY, sum = 0;
    for (int64_t e = 0; e < experts; ++e) largest = ::fmax(largest, row[e]);
    for (int64_t e = 0; e < experts; ++e) sum += ::exp(row[e] - largest);
    for (int64_t e = 0; e < experts; ++e) {
      q[t * experts + e] = static_cast<T>(::exp(row[e] - largest) / sum);
    }
  });
}

namespace {

// Who asks for an expert.
struct Askers {
  Assignment a;
  int64_t expert;
  __device__ int64_t items() const { return a.images; }
  __device__ bool asks(int64_t t) const { return a.asks[a.at(t, expert)] != 0; }
  __device__ Key<double> key(int64_t t) const { return key_of(a.q[a.at(t, expert)]); }
};

// A block an expert, which takes those who ask for it, the best first, as many as it has room for.
__global__ void __launch_bounds__(kGiveThreads) take_kernel(Assignment a, bool unlimited) {
  const Askers r{a, blockIdx.x};
  const int32_t asked = count_askers(r);
  if (asked == 0) return;
  const int32_t room = a.room[r.expert];
  Bar<double> bar{0, asked};  // all
  const bool too_many = !unlimited && asked > room;
  if (too_many) bar = find_bar<double>(r, room);
  serve(r, bar, [&](int64_t t, bool served) {
    if (served) a.taken[a.at(t, r.expert)] = 1;
  });
  // Behind the barriers of serve(): everybody has read the room.
  if (threadIdx.x == 0) a.room[r.expert] = too_many ? 0 : room - asked;
}

}  // namespace

// The host does not wait to see whether a round was the last one that anybody needed: later ones
// find nobody who asks.
template <class T>
void assign_experts(Cuda on, const T* scores, const Assignment& a, int32_t* chosen) {
  if (a.images == 0) return;
  const int64_t n = a.images * a.experts;
  engine::launch_each(on, n, [=] __device__(int64_t i) {
    const auto x = static_cast<double>(scores[i]);
    a.q[i] = x != x ? -INFINITY : x;
    a.taken[i] = 0;
    if (i < a.experts) a.room[i] = static_cast<int32_t>(a.capacity);
  });
  for (int round = 0; round < kRounds; ++round) {
    const bool unlimited = round + 1 == kRounds;
    engine::launch_each(on, a.images, [=] __device__(int64_t t) { (void)a.ask(t, unlimited); });
    engine::launch(on, engine::blocks_for(a.experts, 1), kGiveThreads, take_kernel, a, unlimited);
  }
  engine::launch_each(on, a.images, [=] __device__(int64_t t) { a.list(t, chosen + t * a.k); });
}

template <class T>
void gate_weights_forward(Cuda on, const T* s, RowsCols size, GateWeight form, T* w) {
  const int64_t k = size.cols;
  engine::launch_each(on, size.rows,
                      [=] __device__(int64_t t) { weigh(s + t * k, k, form, w + t * k); });
}

template <class T>
void gate_weights_backward(Cuda on, const T* s, const T* dw, RowsCols size, GateWeight form,
                           T* ds) {
  const int64_t k = size.cols;
  engine::launch_each(on, size.rows, [=] __device__(int64_t t) {
    weigh_backward(s + t * k, dw + t * k, k, form, ds + t * k);
  });
}

template void select_noisily(Cuda, const float*, const SelectionNoise&, RowsCols, float*);
template void select_noisily(Cuda, const double*, const SelectionNoise&, RowsCols, double*);
template void assign_experts(Cuda, const float*, const Assignment&, int32_t*);
template void assign_experts(Cuda, const double*, const Assignment&, int32_t*);
template void gate_weights_forward(Cuda, const float*, RowsCols, GateWeight, float*);
template void gate_weights_forward(Cuda, const double*, RowsCols, GateWeight, double*);
template void gate_weights_backward(Cuda, const float*, const float*, RowsCols, GateWeight, float*);
template void gate_weights_backward(Cuda, const double*, const double*, RowsCols, GateWeight,
                                    double*);

}  // namespace moe::kernels
