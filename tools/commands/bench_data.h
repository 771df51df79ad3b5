#pragma once

#include "tools/commands/options.h"

namespace tools {

// `bench data`: how many pictures a second the loader makes into views, from JPEG files of its own
// making, by --recipe, --set, --seconds, --workers, --images, --size, --quality and --json.
int bench_data(const Options& options);

}  // namespace tools
