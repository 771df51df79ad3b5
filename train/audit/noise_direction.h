#pragma once

#include <cstdint>
#include <vector>

#include "data/loader.h"
#include "train/config.h"

namespace train {

// The direction in which noise moves each image of a batch: z of standard normals, a pure function
// of (seed, place in the data set, element), times w_c, what normalisation makes of one unit of the
// [0, 1] pixel range. out (views, C, S, S).
void draw_directions(const Config& config, uint64_t seed, const data::Batch& batch,
                     std::vector<float>& out);

// out = pixels + sigma * directions, element by element. Not clipped to the pixel range: clipping
// would make the noise of bright and dark pixels smaller and change its mean.
void add_noise(const std::vector<float>& pixels, double sigma, const std::vector<float>& directions,
               std::vector<float>& out);

}  // namespace train
