#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "tools/commands/checkpoint_input.h"
#include "tools/commands/command.h"
#include "tools/commands/options.h"
#include "tools/commands/report_page.h"
#include "tools/commands/report_tty.h"
#include "tools/commands/run_audit.h"
#include "tools/commands/session.h"
#include "train/config.h"
#include "train/file_io.h"
#include "train/network.h"
#include "train/predict/seen_picture.h"
#include "train/report/chosen_images.h"
#include "train/report/noise_routes.h"
#include "train/report/run_report.h"

namespace tools {
namespace {

namespace fs = std::filesystem;
using engine::check;
using engine::ErrorKind;
using nlohmann::json;

constexpr size_t kMostRuns = 2;

Options report_options() {
  Options options("report",
                  "One HTML page, without network or server, that shows why experts were chosen "
                  "and when they flip; of one run, or of two side by side.");
  options.add_value("run", "run directory; twice for two runs side by side", "", "DIR");
  options.add_value("out", "the page", "", "FILE.html");
  options.add_value("data", "data set (default: the first run's own)", "", "KIND:PATH");
  options.add_value("split", "train, test, or a part such as train[99%:]", "test", "SPLIT");
  options.add_value("images", "images on the page, evenly spread over the split", "64", "N");
  options.add_value("sigma", "deviation of the strongest noise, white being 1", "0.2", "S");
  options.add_value("seed", "of the two views and of the noise", "0", "S");
  options.add_value("audit-images",
                    "images of the audit that is made where RUN/audit.json is missing; 0: all",
                    "1000", "N");
  options.add_flag("ema", "take the averaged weights");
  options.add_flag("tty", "instead print the experts of one image's patches in the terminal");
  options.add_value("image", "with --tty: place of the image in the split", "0", "N");
  options.add_value("threads", "threads; 0: all that this process may use", "0", "N");
  options.add_value("json", "write what the page shows as JSON, too; - for standard output", "",
                    "FILE");
  return options;
}

struct Run {
  std::string dir;
  train::LoadedModel loaded;
  std::unique_ptr<data::Dataset> dataset;
};

// The data set of --data, or what the run's config.toml says it was trained on.
std::string data_of(const std::string& run, const Options& options) {
  if (options.has("data")) return options.get("data");
  const std::string path = run + "/config.toml";
  check(fs::exists(path), ErrorKind::kIo, path,
        ": not there, so it is not known which data to show; give --data KIND:PATH");
  const train::Config config = train::load_config(path);
  check(!config.data.source.empty(), ErrorKind::kValue, path,
        ": names no data set; give --data KIND:PATH");
  return config.data.source;
}

Run open_run(std::string dir, const std::string& data, const data::SplitPart& split,
             const Options& options) {
  while (dir.size() > 1 && dir.back() == '/') dir.pop_back();
  check(fs::is_directory(dir), ErrorKind::kIo, dir, ": no such run directory");
  check(train::has_checkpoint(dir), ErrorKind::kValue, dir,
        ": has no checkpoint, so there is no model to look into; train it first, or give another "
        "--run");
  Run run{dir, train::load_model(dir, options.has("ema")), nullptr};
  for (const std::string& warning : run.loaded.loaded.warnings) {
    std::cerr << "robustmoe: warning: " << warning << "\n";
  }
  train::Config& config = run.loaded.config;
  check(!train::moe_layer_indices(config).empty(), ErrorKind::kValue, dir,
        ": its model has no MoE layers (moe.layers is none), so there is no routing to report");
  check(config.moe.chooser != "soft", ErrorKind::kValue, dir,
        ": its MoE layers are Soft MoE (moe.chooser), which chooses no experts, so there is no "
        "routing to report");
  config.data.two_view = true;
  run.dataset = open_data(data, split, config, train::known_class_names(run.loaded));
  check_fit(config, run.dataset->info(), data);
  check(run.dataset->size() > 0, ErrorKind::kValue, data, ": no images");
  return run;
}

// Names of the runs: the last part of their paths, with more of it where two are alike.
std::vector<std::string> labels_of(const std::vector<Run>& runs) {
  std::vector<std::string> labels;
  const auto whole = [](const Run& run) { return fs::weakly_canonical(run.dir); };
  for (const Run& run : runs) labels.push_back(whole(run).filename().string());
  if (labels.size() == 2 && labels[0] == labels[1]) {
    for (size_t i = 0; i < 2; ++i) {
      const fs::path path = whole(runs[i]);
      labels[i] = (path.parent_path().filename() / path.filename()).string();
    }
    if (labels[0] == labels[1]) labels = {labels[0] + " (1)", labels[1] + " (2)"};
  }
  return labels;
}

void print_grid(const Run& run, const Options& options) {
  const train::Config& config = run.loaded.config;
  const int64_t image = options.integer("image", 0, run.dataset->size() - 1);
  train::Inference inference(*run.loaded.model->network);
  const char* plain = std::getenv("NO_COLOR");
  const bool colour = ::isatty(STDOUT_FILENO) != 0 && (plain == nullptr || *plain == '\0');
  const std::vector<std::string> names = train::class_names(run.loaded);
  train::for_each_chosen(*run.dataset, train::evaluation_loader(config), {image},
                         [&](int64_t, const data::Batch& batch) {
                           const train::Prediction p =
                               train::predict(inference, config, train::pixels_of(batch, config));
                           const int64_t best = train::best_classes(p, 1)[0];
                           std::cout
                               << one_line(run.dataset->name(image)) << ": "
                               << one_line(names[static_cast<size_t>(batch.labels[0])])
                               << ", taken for " << one_line(names[static_cast<size_t>(best)])
                               << "\n"
                               << patch_grid(p, train::seen_picture(batch.pixels.data(), config),
                                             train::routed_patch(config), colour);
                         });
}

json report_of(std::vector<Run>& runs, const Options& options, const std::string& data,
               const data::SplitPart& split, std::vector<std::string>& warnings) {
  const int64_t size = runs[0].dataset->size();
  const std::vector<int64_t> images =
      train::spread_images(size, options.integer("images", 1, 4096));
  const std::vector<std::string> labels = labels_of(runs);
  json report = {{"format", "robustmoe report"},
                 {"version", 1},
                 {"program_version", program_version()},
                 {"data", data},
                 {"split", split.text},
                 {"seed", options.get("seed")},  // text: scripts round large numbers
                 {"runs", json::array()}};
  for (size_t i = 0; i < runs.size(); ++i) {
    Run& run = runs[i];
    const json audit = run_audit_of(run.dir, run.loaded, *run.dataset,
                                    {.data = data,
                                     .split = split.text,
                                     .weights = options.has("ema") ? "ema" : "last",
                                     .images = options.integer("audit-images", 0, int64_t{1} << 31),
                                     .seed = static_cast<uint64_t>(options.integer("seed"))},
                                    warnings);
    const train::RunReportOptions what{.run_dir = run.dir,
                                       .label = labels[i],
                                       .program_version = program_version(),
                                       .images = images,
                                       .seed = static_cast<uint64_t>(options.integer("seed")),
                                       .sigma = options.number("sigma")};
    report["runs"].push_back(train::describe_run(run.loaded, *run.dataset, audit, what, warnings));
  }
  report["warnings"] = warnings;
  return report;
}

void check_command_line(const Options& options) {
  const size_t runs = options.all("run").size();
  if (runs == 0) throw UsageError("report needs --run DIR");
  if (runs > kMostRuns)
    throw UsageError("report shows one run or two, but --run was given " + std::to_string(runs) +
                     " times");
  if (options.integer("seed") < 0) throw UsageError("report: --seed must not be negative");
  if (!(options.number("sigma") > 0) || options.number("sigma") > 1000) {
    throw UsageError("report: --sigma is " + options.get("sigma") + ", expected above 0, to 1000");
  }
  options.integer("images", 1, 4096);
  if (options.has("tty")) {
    if (options.has("out") || options.has("json")) {
      throw UsageError("report: --tty prints; it goes with neither --out nor --json");
    }
    if (runs > 1) throw UsageError("report: --tty prints one run");
    return;
  }
  if (options.has("image")) throw UsageError("report: --image goes with --tty");
  if (options.required("out") == "-") throw UsageError("report: --out needs the name of a file");
}

void check_outputs(const Options& options) {
  for (const char* name : {"out", "json"}) {
    if (!options.has(name) || (std::string(name) == "json" && options.get(name) == "-")) continue;
    for (const std::string& run : options.all("run")) {
      check_apart(options.get(name), run);
      for (const char* file : {"/audit.json", "/eval.json", "/path.json"}) {
        check_other_file(options.get(name), run + file);
      }
    }
    check_writable(options.get(name));
  }
  if (options.has("json") && options.get("json") != "-") {
    check_other_file(options.get("out"), options.get("json"));
  }
}

}  // namespace

int run_report(int argc, char** argv) {
  Options options = report_options();
  if (!options.parse(argc, argv)) return 0;
  check_command_line(options);
  const data::SplitPart split = split_from(options);
  use_threads(options.integer("threads", 0, 4096));
  if (!options.has("tty")) check_outputs(options);
  const std::vector<std::string> dirs = options.all("run");
  const std::string data = data_of(dirs[0], options);
  std::vector<Run> runs;
  for (const std::string& dir : dirs) runs.push_back(open_run(dir, data, split, options));
  if (options.has("tty")) {
    print_grid(runs[0], options);
    return 0;
  }
  std::vector<std::string> warnings;
  const json report = report_of(runs, options, data, split, warnings);
  for (const std::string& warning : warnings) {
    std::cerr << "robustmoe: warning: " << one_line(warning) << "\n";
  }
  const std::string text = report.dump(-1, ' ', false, json::error_handler_t::replace);
  const std::string page = report_page(text);
  train::write_file(options.get("out"), page);
  const size_t count = report["runs"][0]["images"].size();
  write_result(options,
               options.get("out") + ": " + std::to_string(count) + " images, " +
                   std::to_string(page.size() / 1024) + " KiB; open it in a browser\n",
               text);
  return 0;
}

}  // namespace tools
