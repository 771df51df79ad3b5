#pragma once

#include <vector>

#include "tools/commands/options.h"
#include "train/config.h"

namespace tools {

// The config of a benchmark: --recipe with --set; what a data set would say, 3 channels and 10
// classes unless they are given. Checked.
train::Config bench_config(const Options& options);

// Views that pass through its model at a time.
int64_t views_at_a_time(const train::Config& config);

// The middle of at least one value, or the mean of the two in the middle.
double median(std::vector<double> values);

}  // namespace tools
