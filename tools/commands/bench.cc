#include <algorithm>
#include <iostream>

#include "engine/core/parallel.h"
#include "tools/commands/bench_config.h"
#include "tools/commands/bench_data.h"
#include "tools/commands/bench_experts.h"
#include "tools/commands/bench_ops.h"
#include "tools/commands/checkpoint_input.h"
#include "tools/commands/command.h"
#include "tools/commands/options.h"
#include "tools/commands/session.h"
#include "tools/commands/synthetic_batch.h"
#include "train/device.h"
#include "train/file_io.h"
#include "train/metrics.h"
#include "train/train_step.h"

namespace tools {
namespace {

// The step by op, slowest first; the last line sums to the step.
void print_ops(const engine::OpTimes& times, double total_s, int64_t steps, std::ostream& out) {
  std::vector<engine::OpTimes::Row> rows;
  double sum = 0;
  for (const engine::OpTimes::Row& row : times.rows()) {
    if (row.name.empty()) continue;
    rows.push_back(row);
    sum += row.forward_s + row.backward_s;
  }
  std::ranges::sort(rows, std::greater{},
                    [](const auto& row) { return row.forward_s + row.backward_s; });
  const auto line = [&](std::string_view name, double forward_s, double backward_s) {
    char text[128];
    std::snprintf(text, sizeof(text), "  %-16s %8.2f %8.2f ms  %5.1f %%\n",
                  std::string(name).c_str(), 1e3 * forward_s / static_cast<double>(steps),
                  1e3 * backward_s / static_cast<double>(steps),
                  100 * (forward_s + backward_s) / total_s);
    out << text;
  };
  out << "  op                forward backward    share of the step\n";
  for (const auto& row : rows) line(row.name, row.forward_s, row.backward_s);
  line("clip and update", total_s - sum, 0);
}

int bench_train(const Options& options) {
  if (options.integer("steps") < 1) {
    throw UsageError("bench: --steps is " + options.get("steps") + ", expected at least 1");
  }
  const std::string json = options.get("json");
  if (!json.empty() && json != "-") check_writable(json);
  train::Config config = bench_config(options);
  set_train_value(config, options, "threads");
  use_threads(config.train.threads);
  const engine::Device device = device_from(options);
  train::check_runs_on(config, device);
  train::Model model(config, true, engine::Dtype::kF32, device);
  train::TrainStep step(config, model, config.train.steps);
  const bool on_cpu = device == engine::Device::kCpu;
  data::Batch batch = synthetic_batch(config, device), other = on_cpu ? data::Batch{} : batch;
  // A GPU gets the next batch's images while it works, as in training: two take turns. Its third
  // step is recorded, to be replayed from then on.
  const int64_t warm = on_cpu ? 2 : 4, counted = options.integer("steps");
  const auto run = [&](int64_t i) {
    if (on_cpu) return static_cast<void>(step.run(batch, i));
    data::Batch &now = i % 2 == 0 ? batch : other, &next = i % 2 == 0 ? other : batch;
    next.step = i + 1;
    step.run(now, i, next);
  };
  for (int64_t i = 0; i < warm; ++i) run(i);
  engine::device_synchronize(device);
  engine::OpTimes times;
  if (options.has("ops")) step.profile(&times);
  std::vector<double> seconds;
  double total = 0;
  for (int64_t i = 0; i < counted; ++i) {
    const double start = engine::OpTimes::now_s();
    run(warm + i);
    engine::device_synchronize(device);
    seconds.push_back(engine::OpTimes::now_s() - start);
    total += seconds.back();
  }
  const double middle = median(seconds);
  const double rate = static_cast<double>(batch.views) / middle;
  // A product, and its two gradients; two operations for each multiply-add.
  const double tflops = 6e-12 * rate * static_cast<double>(model.network->cost_per_image().done());
  const train::Fields fields{{"recipe", config.recipe},
                             {"views_per_s", rate},
                             {"step_ms", 1e3 * middle},
                             {"views", batch.views},
                             {"steps", counted},
                             {"threads", static_cast<int64_t>(engine::num_threads())},
                             {"device", train::device_text(device)},
                             {"precision", config.train.precision},
                             {"replayed", static_cast<int64_t>(step.replaying())},
                             {"tflops", tflops},
                             {"activation_bytes", step.activation_bytes()},
                             {"parameters", model.params.count()}};
  std::ostream& text = json == "-" ? std::cerr : std::cout;
  text << config.recipe << ": median step " << 1e3 * middle << " ms, " << rate << " views/s, "
       << (on_cpu ? std::to_string(engine::num_threads()) + " threads" : train::device_text(device))
       << ", " << config.train.precision << ", " << tflops << " Tflop/s of products\n";
  if (options.has("ops")) print_ops(times, total, counted, text);
  if (json == "-") {
    std::cout << train::json_line(fields) << "\n";
  } else if (!json.empty()) {
    train::write_file(json, train::json_line(fields) + "\n");
  }
  return 0;
}

}  // namespace

int run_bench(int argc, char** argv) {
  Options options("bench",
                  "measure the speed of training steps, of their operations, of the loader, or of "
                  "mixtures in residual networks");
  options.add_positional("train|ops|data|experts", "what to measure", 1);
  options.add_value("recipe", "recipe name or TOML file", "", "NAME|FILE");
  options.add_value("set", "set one config value; may be repeated", "", "KEY=VALUE");
  options.add_value("steps", "steps that count, after two that do not (GPU: four)", "7", "N");
  options.add_value("threads", "threads (default: all that this process may use)", "", "N");
  options.add_value("device", "train: where: cpu, cuda or cuda:N", "", "DEVICE");
  options.add_flag("ops", "also print the time of each operation");
  options.add_value("json", "write the figures as one JSON object; - for standard output", "",
                    "FILE|-");
  options.add_value("seconds", "ops, data: how long to measure", "10", "S");
  options.add_value("rows", "ops: only the matrices of tokens and experts, on this many rows", "",
                    "M");
  options.add_value("workers", "data: loader threads; 0: none but the main one", "1", "N");
  options.add_value("images", "data: JPEG files to make", "256", "N");
  options.add_value("size", "data: their width and height", "500x375", "WxH");
  options.add_flag("packed", "data: pack them at 256 px first");
  options.add_value("pack-quality", "data: as data pack's --quality", "90", "Q");
  options.add_value("quality", "data: their JPEG quality", "90", "Q");
  if (!options.parse(argc, argv)) return 0;
  const std::string what = options.positional().empty() ? "" : options.positional()[0];
  if (options.has("device") && what != "train") {
    throw UsageError("bench: --device is for bench train; " + what + " measures the CPU");
  }
  if (what == "train") return bench_train(options);
  if (what == "data") return bench_data(options);
  if (what == "ops") return bench_ops(options);
  if (what == "experts") return bench_experts(options);
  throw UsageError("bench measures: train, ops, data, experts");
}

}  // namespace tools
