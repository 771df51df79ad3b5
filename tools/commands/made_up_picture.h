#pragma once

#include <cstdint>

#include "data/dataset.h"
#include "engine/core/rng.h"

namespace tools {

// A picture with about as much in it as a photograph: waves of all lengths and some noise.
data::ImageU8 made_up_picture(int64_t width, int64_t height, const engine::RngKey& key);

}  // namespace tools
