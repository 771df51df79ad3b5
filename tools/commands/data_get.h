#pragma once

#include <string>

#include "tools/commands/options.h"

namespace tools {

// `data get NAME`: downloads a published data set with curl, goes on where an earlier call
// stopped, compares MD5 sums (md5sum), unpacks (tar) and opens the set once. Nothing has its final
// name before it is whole. Reads --out, --from, --sums and --json.
int data_get(const std::string& name, const Options& options);
// Their names, for messages.
std::string gettable_sets();

}  // namespace tools
