#include "tools/commands/bench_config.h"

#include <algorithm>

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

int64_t views_at_a_time(const train::Config& config) {
  return config.train.micro_batch > 0 ? config.train.micro_batch : config.train.batch;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t n = values.size();
  return n % 2 != 0 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

}  // namespace tools
