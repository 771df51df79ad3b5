#pragma once

#include <memory>
#include <string>

#include "data/dataset.h"

namespace data {

// Drawn colour pictures that need no files: one of ten shapes (disc, ring, half disc,
// crescent, triangle, square, bar, cross, star, ell) at a random place, size, turn and colour
// on a noisy two-coloured background of stripes, checks or blobs. Image i has class i mod 10
// and is a function of (split, i, size) alone; all arithmetic is on integers, so it is the
// same on every machine.
//
// parts(): 2 where the shape covers the whole pixel, 0 where it covers nothing of it, 1 where
// it covers some of it and where a covered pixel has an uncovered neighbour above, below or
// beside it.
//
// `options` is empty or "size=32,train=10000,test=2000" in any order and number: side in
// pixels (16 to 512) and images of each split. Throws Error(kValue) for anything else.
std::unique_ptr<Dataset> open_shapes(const std::string& options, Split split);

}  // namespace data
