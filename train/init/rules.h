#pragma once

#include <string>
#include <vector>

#include "engine/core/param_store.h"
#include "train/init/source_tensors.h"

namespace train {

// How weights of another model become those of this one. Rules, parted by spaces:
//
//   rename:REGEX=>NAME  source tensors that REGEX matches in whole; $1 is its first group
//   tile:REGEX=>NAME    the same, and copied into each of the target's experts (sparse upcycling)
//   zoom:REGEX          targets that are position embeddings of another grid (zoom.h)
//   drop:REGEX          source tensors that are not wanted
//   keep:REGEX          targets that stay as they were initialised
//
// Without a rule a source tensor goes to the target of its name. Every source tensor must then go
// somewhere or be dropped, every target must get something or be kept, shapes must agree, every
// number that is taken must be finite unless others are allowed, and every rule must match:
// whatever is left over is named in one Error(kFormat), five of a kind and how many more, before
// anything changed.
struct InitReport {
  std::vector<std::string> taken, zoomed, tiled, dropped, kept;
  std::string text() const;  // one line; names all but those taken as they are
};

struct InitRules {
  std::string text;
  // Tiled copies get normal noise of so many standard deviations of the tensor, drawn from `seed`,
  // another for each expert.
  double tile_noise = 0;
  uint64_t seed = 0;
  bool allow_nonfinite = false;
};

// Fills slab kValue of `params` (f32).
InitReport init_from(const SourceTensors& source, const InitRules& rules,
                     engine::ParamStore& params);

}  // namespace train
