#include <bit>

#include "engine/core/block_scan.cuh"
#include "engine/core/cuda_workspace.h"
#include "engine/ops/warp.cuh"
#include "moe/dispatch_kernels.h"
#include "moe/serve.cuh"

namespace moe::kernels {
namespace {

using engine::block_scan;
using engine::Cuda;
using engine::kernels::kWarp;

// ---- Capacity: a block gives out the slots of one expert in one group.

// Who asks `expert` in one round of a group, tokens counted from the group's first.
template <class T>
struct Requests {
  const int32_t* chosen;
  const T* gates;
  PlanSize size;
  SlotRule rule;
  int64_t begin;
  int32_t expert;
  int64_t round;

  __device__ int64_t items() const { return size.group_tokens; }
  __device__ bool asks(int64_t i) const {
    if (rule == SlotRule::kExpertChoice) return true;
    return chosen[(begin + i) * size.choices + round] == expert;
  }
  __device__ Key<T> key(int64_t i) const {
    if (rule == SlotRule::kTokenOrder) return 0;
    const int64_t token = begin + i;
    const int32_t e = rule == SlotRule::kExpertChoice ? expert : chosen[token * size.choices];
    return key_of(gates[token * size.experts + e]);
  }
};

// served: (N, E) bytes, whether the expert took the token; only with kExpertChoice.
template <class T>
__global__ void __launch_bounds__(kGiveThreads)
    give_out_kernel(Requests<T> r, int32_t* expert_of, uint8_t* served) {
  const int64_t experts = r.size.experts;
  r.expert = static_cast<int32_t>(blockIdx.x % experts);
  r.begin = blockIdx.x / experts * r.size.group_tokens;
  const bool experts_choose = r.rule == SlotRule::kExpertChoice;
  const int64_t rounds = experts_choose ? 1 : r.size.choices;
  int64_t room = r.size.capacity;
  for (int64_t round = 0; round < rounds; ++round) {
    r.round = round;
    const int32_t asked = count_askers(r);
    Bar<T> bar{0, asked};  // all
    if (room <= 0) {
      bar = {static_cast<Key<T>>(~Key<T>{0}), 0};
    } else if (asked > room) {
      bar.equal = static_cast<int32_t>(room);
      if (r.rule != SlotRule::kTokenOrder) bar = find_bar<T>(r, bar.equal);
    }
    serve(r, bar, [&](int64_t at, bool taken) {
      const int64_t token = r.begin + at;
      if (experts_choose) {
        served[token * experts + r.expert] = taken ? 1 : 0;
      } else {
        expert_of[token * r.size.choices + r.round] = taken ? r.expert : -1;
      }
    });
    room -= asked;  // refused ones count
  }
}

// ---- The counting sort: chunks are counted, their counts summed up, and the choices of a chunk
// placed in order by one warp.

constexpr int kChunk = 1024;
constexpr int kCountThreads = 128;
constexpr int kScanThreads = 1024;
constexpr int kScanPerThread = 4;

// counts: (E, chunks).
__global__ void __launch_bounds__(kCountThreads)
    count_kernel(const int32_t* expert_of, int64_t count, int experts, int32_t* counts) {
  __shared__ int32_t mine[kMaxExperts];
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += kCountThreads) mine[e] = 0;
  __syncthreads();
  const int64_t begin = int64_t{blockIdx.x} * kChunk;
#pragma unroll
  for (int at = 0; at < kChunk; at += kCountThreads) {
    const int64_t c = begin + at + threadIdx.x;
    const int32_t e = c < count ? expert_of[c] : -1;
    if (e >= 0) atomicAdd(&mine[e], 1);
  }
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += kCountThreads) {
    counts[int64_t{e} * gridDim.x + blockIdx.x] = mine[e];
  }
}

// counts (E, chunks) become the sums of all before them; each expert's first is its offset.
__global__ void __launch_bounds__(kScanThreads)
    scan_kernel(int32_t* counts, int64_t chunks, int experts, int32_t* offset) {
  const int64_t n = chunks * experts;
  int32_t before = 0;
  for (int64_t base = 0; base < n; base += kScanThreads * kScanPerThread) {
    const int64_t first = base + int64_t{threadIdx.x} * kScanPerThread;
    int32_t x[kScanPerThread], sum = 0, all = 0;
#pragma unroll
    for (int j = 0; j < kScanPerThread; ++j) {
      x[j] = first + j < n ? counts[first + j] : 0;
      sum += x[j];
    }
    int32_t at = before + block_scan<kScanThreads>(sum, &all);
#pragma unroll
    for (int j = 0; j < kScanPerThread; ++j) {
      const int64_t i = first + j;
      if (i < n) {
        counts[i] = at;
        if (i % chunks == 0) offset[i / chunks] = at;
      }
      at += x[j];
    }
    before += all;
  }
  if (threadIdx.x == 0) offset[experts] = before;
}

// The warp's lanes whose x, of `bits` bits, is that of this lane.
__device__ unsigned lanes_with(unsigned x, int bits) {
  unsigned same = 0xffffffffu;
  for (int b = 0; b < bits; ++b) {
    const bool set = (x >> b & 1u) != 0;
    const unsigned votes = __ballot_sync(0xffffffffu, set);
    same &= set ? votes : ~votes;
  }
  return same;
}

// bits: of the numbers 0 ... experts.
__global__ void __launch_bounds__(kWarp)
    place_kernel(const int32_t* __restrict__ expert_of, int64_t count, int experts, int bits,
                 const int32_t* __restrict__ starts, int32_t* __restrict__ slot_of) {
  __shared__ int32_t next[kMaxExperts];
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += kWarp) {
    next[e] = starts[int64_t{e} * gridDim.x + blockIdx.x];
  }
  __syncwarp();
  const int64_t begin = int64_t{blockIdx.x} * kChunk;
  const unsigned earlier = (1u << threadIdx.x) - 1;
#pragma unroll 4
  for (int at = 0; at < kChunk; at += kWarp) {
    const int64_t c = begin + at + threadIdx.x;
    const int32_t e = c < count ? expert_of[c] : -1;
    const unsigned same = lanes_with(static_cast<unsigned>(e < 0 ? experts : e), bits);
    const int rank = __popc(same & earlier);
    const int32_t slot = e < 0 ? -1 : next[e] + rank;
    __syncwarp();
    if (e >= 0 && rank == 0) next[e] += __popc(same);
    __syncwarp();
    if (c < count) slot_of[c] = slot;
  }
}

}  // namespace

template <class T>
void give_out_slots(Cuda on, const int32_t* chosen, const T* gates, const PlanSize& size,
                    SlotRule rule, int32_t* expert_of) {
  if (size.tokens == 0) return;
  const int64_t k = size.choices, experts = size.experts;
  const bool experts_choose = rule == SlotRule::kExpertChoice;
  auto* served = experts_choose
                     ? static_cast<uint8_t*>(engine::cuda_workspace(size.tokens * experts))
                     : nullptr;
  engine::launch(on, engine::blocks_for(size.groups() * experts, 1), kGiveThreads,
                 give_out_kernel<T>, Requests<T>{chosen, gates, size, rule, 0, 0, 0}, expert_of,
                 served);
  if (!experts_choose) return;
  engine::launch_each(on, size.tokens * k, [=] __device__(int64_t c) {
    const int32_t e = chosen[c];
    expert_of[c] = served[c / k * experts + e] != 0 ? e : -1;
  });
}

void find_slots(Cuda on, const int32_t* expert_of, int64_t count, int64_t experts, int32_t* offset,
                int32_t* slot_of) {
  const int e = static_cast<int>(experts);
  const int64_t chunks = count > 0 ? (count + kChunk - 1) / kChunk : 1;
  auto* counts = static_cast<int32_t*>(
      engine::cuda_workspace(chunks * experts * static_cast<int64_t>(sizeof(int32_t))));
  const dim3 grid(engine::blocks_for(chunks, 1));
  engine::launch(on, grid, kCountThreads, count_kernel, expert_of, count, e, counts);
  engine::launch(on, 1, kScanThreads, scan_kernel, counts, chunks, e, offset);
  engine::launch(on, grid, kWarp, place_kernel, expert_of, count, e,
                 static_cast<int>(std::bit_width(static_cast<unsigned>(e))), counts, slot_of);
}

void invert_slots(Cuda on, const int32_t* slot_of, int64_t count, const int32_t* used,
                  int64_t slots, int32_t* choice_of_slot) {
  engine::launch_each(on, count > slots ? count : slots, [=] __device__(int64_t i) {
    if (i < count && slot_of[i] >= 0) choice_of_slot[slot_of[i]] = static_cast<int32_t>(i);
    if (i < slots && i >= *used) choice_of_slot[i] = -1;
  });
}

void copy(Cuda on, const int32_t* from, int64_t count, int32_t* to) {
  engine::launch_each(on, count, [=] __device__(int64_t i) { to[i] = from[i]; });
}

template void give_out_slots(Cuda, const int32_t*, const float*, const PlanSize&, SlotRule,
                             int32_t*);
template void give_out_slots(Cuda, const int32_t*, const double*, const PlanSize&, SlotRule,
                             int32_t*);

}  // namespace moe::kernels
