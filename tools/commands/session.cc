#include "tools/commands/session.h"

#include <omp.h>

#include "engine/core/error.h"

namespace tools {

void use_threads(int64_t threads) {
  omp_set_dynamic(0);
  omp_set_num_threads(threads > 0 ? static_cast<int>(threads) : omp_get_num_procs());
}

void set_train_value(train::Config& config, const Options& options, const std::string& name) {
  if (!options.has(name)) return;
  try {
    train::set_value(config, "train." + name + "=" + options.get(name), "--" + name);
  } catch (const engine::Error& error) {
    throw UsageError(error.message());
  }
}

}  // namespace tools
