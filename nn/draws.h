#pragma once

#include "engine/core/step_key.h"
#include "engine/core/upload.h"
#include "nn/module.h"

// What kernels that draw random numbers in a forward pass are given, on the tape's device.
namespace nn {

// RngKey(f.seed, purpose).with(f.step); further parts are added by with().
inline engine::StepKey step_key(const Forward& f, engine::Purpose purpose) {
  const int64_t* step =
      f.step_there != nullptr ? f.step_there : engine::upload(f.tape.arena(), {&f.step, 1});
  return {engine::RngKey(f.seed, purpose), step};
}
inline const int64_t* sample_ids(const Forward& f) {
  return f.sample_ids_there != nullptr ? f.sample_ids_there
                                       : engine::upload(f.tape.arena(), f.sample_ids);
}

}  // namespace nn
