#pragma once

#include <cstdint>
#include <string>

#include "tools/commands/options.h"
#include "train/config.h"

namespace tools {

// Threads of everything that follows; 0: all this process may use.
void use_threads(int64_t threads);

// --NAME, if it was given, becomes the config's train.NAME. UsageError where it does not fit.
void set_train_value(train::Config& config, const Options& options, const std::string& name);

}  // namespace tools
