#pragma once

#include "data/loader.h"
#include "train/config.h"

namespace tools {

// A batch of noise with every patch of view 1 matched to the same place of view 2, so that PRC
// runs over all pairs: the work of a step without a data set.
data::Batch synthetic_batch(const train::Config& config);

}  // namespace tools
