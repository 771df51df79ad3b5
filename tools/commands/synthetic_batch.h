#pragma once

#include "data/loader.h"
#include "engine/core/tensor.h"
#include "train/config.h"

namespace tools {

// A batch of noise with every patch of view 1 matched to the same place of view 2, so that PRC
// runs over all pairs: the work of a step without a data set. For a GPU its images are bytes, as a
// training's are, which makes them other noise.
data::Batch synthetic_batch(const train::Config& config,
                            engine::Device device = engine::Device::kCpu);

}  // namespace tools
