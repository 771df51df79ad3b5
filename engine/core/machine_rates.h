#pragma once

#include <functional>

namespace engine {

// What this machine can do at its best, measured on num_threads() threads: what a kernel's rate is
// compared with. Each takes about `seconds` and returns the best of several tries, since neighbours
// on a shared machine only ever slow it down.

// The largest of `work` divided by the seconds that `task` takes, of at least three tries.
double best_rate(double seconds, double work, const std::function<void()>& task);

// Multiply-adds of f32 in registers alone, 2 operations each, in GFLOP/s.
double measure_fma_gflops(double seconds);

// Reading one array and writing another, 256 MiB each, far beyond every cache, in GB/s of both.
double measure_memory_gbs(double seconds);

}  // namespace engine
