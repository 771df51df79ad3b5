#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/core/cpu_limits.h"
#include "train/config.h"

namespace tools {

// What was measured of the machine.
struct Machine {
  engine::CpuLimits limits;
  double f32 = 0, bf16 = 0;  // GFLOP/s of a product of a layer's size
  double memory = 0;         // GB/s
  double pictures = 0;       // JPEG files a second, on one thread
  double disk = 0;           // MB/s, until it says that they are there
};

// What a recipe would take on it.
struct Forecast {
  double step_s = 0;
  int64_t needs = 0, available = 0;  // bytes; available 0: not known
};

// Source images of one step.
double images_of_step(const train::Config& config);

// What would help this recipe on this machine with so many threads, a line each, the setting
// first. isa: the environment's ROBUSTMOE_ISA, or empty.
std::vector<std::string> advice(const train::Config& config, const Machine& m, const Forecast& f,
                                int64_t threads, const std::string& isa);

// A number with so many digits behind the point; bytes in GiB.
std::string number(double value, int digits = 0);
std::string gib(int64_t bytes);

}  // namespace tools
