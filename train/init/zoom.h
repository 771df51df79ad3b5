#pragma once

#include "train/init/source_tensors.h"

namespace train {

// Position embeddings (T, W) for another number of positions (spec 3.4). The class slot, the first
// row where T - 1 is a square number, is taken off and put back unchanged; the rest is a square
// grid and is resized bilinearly with the corners aligned: output i samples place i (n_in - 1) /
// (n_out - 1).
//
//   target   (T', W): its shape, and the values of a class slot that the source does not have
//
// Error(kFormat) in the name of `name` unless both grids are square and the widths agree.
SourceTensor zoom_positions(const SourceTensor& source, const SourceTensor& target,
                            const std::string& name);

}  // namespace train
