#include "tools/commands/checkpoint_input.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <sstream>

#include "engine/core/error.h"
#include "tools/commands/session.h"
#include "train/checkpoint_json.h"
#include "train/evaluate.h"
#include "train/file_io.h"

namespace tools {

using engine::check;
using engine::ErrorKind;

void add_checkpoint_options(Options& options) {
  options.add_value("checkpoint", "run directory (its latest), step directory or .safetensors", "",
                    "PATH");
  options.add_value("data", "data set", "", "KIND:PATH");
  options.add_value("split", "train, test, or a part such as train[99%:]", "test", "SPLIT");
  options.add_value("limit", "only the first N images; 0: all", "0", "N");
  options.add_value("batch", "images at a time (default: the model's eval.batch)", "", "N");
  options.add_flag("ema", "take the averaged weights");
  options.add_flag("allow-nonfinite", "read weights that are not finite, too");
  options.add_flag("skip-bad-images", "leave out and list pictures that cannot be read");
  options.add_value("threads", "threads; 0: all that this process may use", "0", "N");
  options.add_value("json", "write the result as JSON; - for standard output", "", "FILE");
}

data::SplitPart split_from(const Options& options) {
  try {
    return data::parse_split(options.get("split"));
  } catch (const engine::Error& error) {
    throw UsageError("--split: " + error.message());
  }
}

void check_fit(const train::Config& config, const data::Info& info, const std::string& spec) {
  check(info.channels == config.model.channels, ErrorKind::kValue, spec, " has ", info.channels,
        " channels, but the model was trained on ", config.model.channels);
  check(info.classes <= config.model.classes, ErrorKind::kValue, spec, " has ", info.classes,
        " classes, but the model knows ", config.model.classes);
}

std::string model_crc32(const train::LoadedModel& loaded) {
  const std::string path = loaded.loaded.path + "/manifest.json";
  if (!std::filesystem::exists(path)) return "";
  const train::Manifest manifest = train::parse_manifest(train::read_file(path), path);
  const auto sum = manifest.find("model.safetensors");
  if (sum == manifest.end()) return "";
  char text[9];
  std::snprintf(text, sizeof text, "%08x", sum->second.crc32);
  return text;
}

CheckpointInput open_checkpoint_input(const Options& options) {
  const std::string checkpoint = options.required("checkpoint"), spec = options.required("data");
  const data::SplitPart split = split_from(options);
  const int64_t limit = options.integer("limit", 0, int64_t{1} << 31);
  const int64_t batch = options.has("batch") ? options.integer("batch", 1, 1 << 20) : 0;
  use_threads(options.integer("threads", 0, 4096));
  if (options.has("json") && options.get("json") != "-") {
    check_apart(options.get("json"), checkpoint);
    check_writable(options.get("json"));
  }

  CheckpointInput input{train::load_model(checkpoint, options.has("ema"),
                                          options.has("allow-nonfinite"), device_from(options)),
                        nullptr, split};
  for (const std::string& warning : input.loaded.loaded.warnings) {
    std::cerr << "robustmoe: warning: " << warning << "\n";
  }
  train::Config& config = input.loaded.config;
  config.data.skip_bad_images = options.has("skip-bad-images");
  input.dataset = open_data(spec, split, config, train::known_class_names(input.loaded));
  check_fit(config, input.dataset->info(), spec);
  config.eval.limit = limit;
  if (batch > 0) config.eval.batch = batch;
  return input;
}

train::Fields describe(const CheckpointInput& input, const Options& options) {
  return {{"checkpoint", input.loaded.loaded.path},
          {"step", input.loaded.loaded.state.step},
          {"weights", std::string(options.has("ema") ? "ema" : "last")},
          {"model_crc32", model_crc32(input.loaded)},
          {"recipe", input.loaded.config.recipe},
          {"data", options.get("data")},
          {"split", input.split.text},
          {"eval_capacity_factor", input.loaded.config.moe.eval_capacity_factor}};
}

std::string headline(const CheckpointInput& input, const Options& options) {
  const int64_t step = input.loaded.loaded.state.step;
  return input.loaded.loaded.path + (options.has("ema") ? " (averaged weights)" : "") +
         (step >= 0 ? ", step " + std::to_string(step) : "") + ", on " + options.get("data") + " " +
         input.split.text + "\n";
}

std::string neighbour_warning(const train::Config& config) {
  if (!train::depends_on_neighbours(config)) return "";
  const moe::VmoeConfig model = train::vmoe_config(config);
  if (model.moe_layers.empty()) return "";
  std::ostringstream text;
  text << "Predictions depend on batch neighbours: moe.eval_capacity_factor = "
       << model.moe.eval_capacity_factor << " drops tokens by what else is in a group of "
       << (model.moe.group_images > 0 ? model.moe.group_images : config.eval.batch) << " images.\n";
  return text.str();
}

void write_result(const Options& options, const std::string& text, const std::string& json) {
  const std::string path = options.get("json");
  if (path == "-") {
    std::cout << json << "\n";
    return;
  }
  // The file first: a reader of the text that goes away must not cost it.
  if (!path.empty()) train::write_file(path, json + "\n");
  std::cout << text;
}

namespace {

// One name for a file, whether it is there or not.
std::filesystem::path one_name(const std::string& path) {
  std::error_code trouble;  // a path such as /dev/stdout may lead nowhere that has a name
  const std::filesystem::path whole = std::filesystem::absolute(path);
  const std::filesystem::path name = std::filesystem::weakly_canonical(whole, trouble);
  return trouble ? whole.lexically_normal() : name;
}

}  // namespace

void check_other_file(const std::string& path, const std::string& other) {
  check(one_name(path) != one_name(other), ErrorKind::kValue, path, " and ", other,
        " are the same file; choose another name");
}

void check_apart(const std::string& path, const std::string& checkpoint) {
  namespace fs = std::filesystem;
  const fs::path out = one_name(path);
  fs::path input = one_name(checkpoint);
  if (fs::exists(input.parent_path() / "manifest.json")) input = input.parent_path();
  const bool run = fs::is_directory(input) && !fs::exists(input / "manifest.json");
  const fs::path kept = run ? input / "checkpoints" : input;
  const auto [end, ignored] = std::mismatch(kept.begin(), kept.end(), out.begin(), out.end());
  check(end != kept.end(), ErrorKind::kValue, path,
        ": would overwrite the checkpoint that it is about; choose another name");
  for (const char* file : {"config.toml", "metrics.jsonl", "summary.csv", "log.txt"}) {
    if (run) check_other_file(path, (input / file).string());
  }
}

void check_writable(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const fs::file_status status = fs::symlink_status(path, ignored);
  check(!fs::is_symlink(status), ErrorKind::kIo, path,
        ": cannot write: this is a link, which would be replaced; name the file it leads to");
  check(!fs::exists(status) || fs::is_regular_file(status), ErrorKind::kIo, path,
        ": cannot write: this is no regular file; choose another name");
  const train::AtomicFile probe(path);
}

}  // namespace tools
