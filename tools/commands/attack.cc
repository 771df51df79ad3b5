#include "train/attacks/attack.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <map>
#include <optional>
#include <span>

#include "tools/commands/attack_options.h"
#include "tools/commands/checkpoint_input.h"
#include "tools/commands/command.h"
#include "tools/commands/options.h"
#include "tools/commands/session.h"
#include "train/attacks/progress.h"
#include "train/safetensors.h"

namespace tools {
namespace {

Options command_options() {
  Options options("attack",
                  "Accuracy under attack: images changed so little that people hardly see it.");
  add_checkpoint_options(options);
  add_device_option(options);
  add_attack_options(options, "pgd");
  options.add_value("save", "write the images before and after each attack", "",
                    "FILE.safetensors");
  options.add_value("progress",
                    "save what is done after every batch, and go on from there when started again; "
                    "SIGINT and SIGTERM then end after a batch, with exit code 3",
                    "", "FILE");
  return options;
}

// "images", "labels" and "right", and "NAME.images" and "NAME.broken" of each attack; of a name
// that is there twice the second is "NAME.2".
void save_images(const std::string& path, train::AttackImages& images, const train::Config& config,
                 const std::vector<train::AttackPlan>& plans) {
  const auto n = static_cast<int64_t>(images.labels.size());
  const engine::Shape shape{n, config.model.channels, config.model.image_size,
                            config.model.image_size};
  std::vector<train::NamedTensor> tensors;
  const auto add = [&]<class T>(const std::string& name, std::vector<T>& v,
                                const engine::Shape& as) {
    tensors.push_back(
        {name, engine::Tensor(v.data(), as, engine::dtype_of<T>(), engine::Device::kCpu)});
  };
  add("images", images.clean, shape);
  add("labels", images.labels, {n});
  add("right", images.right, {n});
  std::map<std::string, int> seen;
  for (size_t a = 0; a < plans.size(); ++a) {
    std::string name = plans[a].name();
    const int before = seen[name]++;
    if (before > 0) name += "." + std::to_string(before + 1);
    add(name + ".images", images.attacks[a].adversarial, shape);
    add(name + ".broken", images.attacks[a].broken, {n});
  }
  train::write_safetensors(path, tensors);
}

// The sums of the files that the weights came from.
std::string weights_sum(const CheckpointInput& input, const Options& options) {
  const std::string& path = input.loaded.loaded.path;
  if (!std::filesystem::is_directory(path)) return train::sum_text(train::sum_file(path));
  std::string text = train::sum_text(train::sum_file(path + "/model.safetensors"));
  if (options.has("ema")) {
    text += "; averages " + train::sum_text(train::sum_file(path + "/state.safetensors"));
  }
  return text;
}

// All that the result depends on, under the names of the command line.
train::Fields settings_of(const CheckpointInput& input, const Options& options,
                          std::span<const float> starts) {
  const train::Config& config = input.loaded.config;
  const data::Dataset& set = *input.dataset;
  const int64_t n = config.eval.limit > 0 ? std::min(config.eval.limit, set.size()) : set.size();
  train::FileSum starts_sum;
  train::add_to(starts_sum, starts.data(), static_cast<int64_t>(starts.size_bytes()));
  train::Fields settings = {
      {"--checkpoint", weights_sum(input, options)},
      {"--data", options.get("data")},
      {"--split", input.split.text},
      {"--limit", config.eval.limit},
      {"--batch", config.eval.batch},
      {"images of --data", n},
      {"crc32 of some of them", static_cast<int64_t>(data::sample_crc32(set, n))},
      {"--attack", options.get("attack")},
      {"--starts", starts.empty() ? "none" : train::sum_text(starts_sum)},
      {"--save", std::string(options.get("save").empty() ? "not given" : "given")}};
  // Another device rounds otherwise. Files of before there was a choice are the CPU's.
  if (input.loaded.model->network->device() != engine::Device::kCpu) {
    settings.emplace_back("--device", std::string("cuda"));
  }
  for (const auto& [key, value] : attack_fields(options)) {
    settings.emplace_back(key == "attack_step"    ? "--step"
                          : key == "random_start" ? "random start"
                                                  : "--" + key,
                          value);
  }
  return settings;
}

void check_output_files(const Options& options) {
  const std::string checkpoint = options.required("checkpoint");
  const std::string save = options.get("save"), progress = options.get("progress");
  std::vector<std::string> files;
  if (options.has("json") && options.get("json") != "-") files.push_back(options.get("json"));
  if (!save.empty()) files.push_back(save);
  if (!progress.empty()) files.push_back(progress);
  if (!progress.empty() && !save.empty()) {
    files.push_back(train::AttackProgress::images_path(progress));
  }
  for (size_t i = 0; i < files.size(); ++i) {
    for (size_t k = 0; k < i; ++k) check_other_file(files[i], files[k]);
    check_apart(files[i], checkpoint);
    check_writable(files[i]);
  }
}

std::string command_line(int argc, char** argv) {
  std::string line = "robustmoe";
  for (int i = 0; i < argc; ++i) line += " " + shell_word(argv[i]);
  return line;
}

}  // namespace

int run_attack(int argc, char** argv) {
  Options options = command_options();
  if (!options.parse(argc, argv)) return 0;
  std::vector<train::AttackPlan> plans = attack_plans(options);
  if (plans.empty()) throw UsageError("--attack names none; expected pgd, for one");
  check_output_files(options);
  const CheckpointInput input = open_checkpoint_input(options);
  const train::Config& config = input.loaded.config;
  const std::vector<float> starts = attack_starts(options, config);
  for (train::AttackPlan& plan : plans) plan.pgd.starts = starts;
  train::AttackImages images;
  train::AttackOptions how;
  if (!options.get("save").empty()) how.images = &images;
  std::optional<train::AttackProgress> progress;
  if (!options.get("progress").empty()) {
    progress.emplace(options.get("progress"), settings_of(input, options, starts));
    how.progress = &*progress;
    how.stop = &stop_requested;
    note_stop_signals();
    if (progress->done() > 0) {
      std::cerr << "robustmoe: " << options.get("progress") << ": going on after "
                << progress->done() << " images\n";
    }
  }
  const train::AttackResult result =
      train::attack_model(*input.loaded.model->network, config, *input.dataset, plans, how);
  if (result.stopped) {
    std::cerr << "robustmoe: stopped by a signal after " << result.n
              << " images; continue with: " << command_line(argc, argv) << "\n";
    return kStopped;
  }
  if (!options.get("save").empty()) save_images(options.get("save"), images, config, plans);
  train::Fields head = describe(input, options);
  for (const auto& field : attack_fields(options)) head.push_back(field);
  write_result(options,
               headline(input, options) + neighbour_warning(config) + attack_headline(options) +
                   train::attack_text(result),
               train::attack_json(result, head));
  return 0;
}

}  // namespace tools
