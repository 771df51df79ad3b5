#pragma once

#include <string>
#include <vector>

#include "tools/commands/run_figures.h"

namespace tools {

// Runs of several arms and seeds as one table and as JSON. Runs whose config.toml differs in
// train.seed alone are one arm, named after the run directory without what names its seed
// (ARM-seed3, ARM/seed-3). The first run's arm is what the others are compared with: by seed, the
// mean difference, its standard error, and the one-sided p that it is above 0. Figures of ways into
// noise are shown where all runs have them.
struct PairedTable {
  std::string text, json;
};

// Error(kValue): one arm with the same seed twice, or an arm that shares no seed with the first.
PairedTable paired_table(const std::vector<RunFigures>& runs);

}  // namespace tools
