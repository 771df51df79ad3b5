#pragma once

#include "data/dataset.h"
#include "engine/core/rng.h"

namespace data {

// True for half of the draws: uniform >= 1/2 (fork: data/pp_ops.py).
bool draw_flip(engine::RngStream& rng);

// Mirrors the picture left to right, in place.
void flip(ImageU8& image);

}  // namespace data
