#pragma once

#include "tools/commands/options.h"
#include "train/config.h"

namespace tools {

// The config of a benchmark: --recipe with --set; what a data set would say, 3 channels and 10
// classes unless they are given. Checked.
train::Config bench_config(const Options& options);

}  // namespace tools
