#include "tools/commands/session.h"

#include <omp.h>

#include <iostream>
#include <vector>

#include "engine/core/error.h"

namespace tools {

void use_threads(int64_t threads) {
  omp_set_dynamic(0);
  omp_set_num_threads(threads > 0 ? static_cast<int>(threads) : omp_get_num_procs());
}

std::unique_ptr<data::Dataset> open_data(const std::string& spec, data::Split split,
                                         bool skip_bad) {
  std::vector<std::string> skipped;
  auto dataset = data::open_dataset(spec, split, {.skip_bad = skip_bad, .skipped = &skipped});
  for (const std::string& line : skipped) std::cerr << "robustmoe: skipped: " << line << "\n";
  if (skip_bad) {
    std::cerr << "robustmoe: " << data::split_name(split) << ": " << skipped.size()
              << " bad images skipped, " << dataset->size() << " left\n";
  }
  return dataset;
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
