#include "tools/commands/bench_config.h"

namespace tools {

train::Config bench_config(const Options& options) {
  train::Config config = train::load_config(options.required("recipe"));
  for (const std::string& assignment : options.all("set")) train::set_value(config, assignment);
  if (config.model.channels == 0) config.model.channels = 3;
  if (config.model.classes == 0) config.model.classes = 10;
  if (config.train.steps == 0) config.train.steps = 1000;
  train::validate(config);
  return config;
}

}  // namespace tools
