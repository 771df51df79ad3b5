#pragma once

#include "tools/commands/options.h"

namespace tools {

// bench experts: the forward pass of a residual network with mixtures of experts beside that of the
// plain network, in turn on the same images, with experts loaded in several ways. Error(kValue) for
// a recipe without mixtures.
int bench_experts(const Options& options);

}  // namespace tools
