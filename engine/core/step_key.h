#pragma once

#include <array>
#include <cstdint>

#include "engine/core/rng.h"

namespace engine {

// The key of what a training step draws at one place, as kernels get it: the step's number is read
// where the kernel runs, so that a step that is replayed on a GPU (step_replay.h) draws its own
// numbers. at() is base.with(*step).with(then[0]).with(then[1]) ... of `count`; base itself without
// a step.
struct StepKey {
  RngKey base;
  const int64_t* step = nullptr;  // where the kernel runs
  std::array<uint64_t, 3> then = {};
  int count = 0;

  StepKey(const RngKey& key) : base(key) {}  // NOLINT(google-explicit-constructor): is one
  StepKey(const RngKey& key, const int64_t* at_step) : base(key), step(at_step) {}
  StepKey with(uint64_t value) const {
    StepKey out = *this;
    out.then[static_cast<size_t>(out.count++)] = value;
    return out;
  }
  constexpr RngKey at() const {
    if (step == nullptr) return base;
    RngKey key = base.with(static_cast<uint64_t>(*step));
    for (int i = 0; i < count; ++i) key = key.with(then[static_cast<size_t>(i)]);
    return key;
  }
};

}  // namespace engine
