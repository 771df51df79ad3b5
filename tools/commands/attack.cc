#include "train/attacks/attack.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <map>
#include <optional>
#include <span>
#include <sstream>

#include "tools/commands/checkpoint_input.h"
#include "tools/commands/command.h"
#include "tools/commands/options.h"
#include "tools/commands/session.h"
#include "train/attacks/progress.h"
#include "train/fraction.h"
#include "train/safetensors.h"

namespace tools {
namespace {

Options attack_options() {
  Options options("attack",
                  "Accuracy under attack: images changed so little that people hardly see it.");
  add_checkpoint_options(options);
  options.add_value("attack",
                    "noise, fgsm, pgd, apgd, apgd-dlr or apgd-t, or several, such as pgd,apgd",
                    "pgd", "LIST");
  options.add_value("norm", "linf or l2", "linf", "NORM");
  options.add_value("eps", "how far an image may be changed, white being 1", "8/255", "E");
  options.add_value("step", "length of a step of pgd (default: a quarter of --eps)", "", "E");
  options.add_value("steps", "of pgd and apgd", "20", "N");
  options.add_value("restarts", "random starts of pgd and apgd, draws of noise", "1", "N");
  options.add_flag("from-clean", "pgd starts at the image itself, not at a random one near it");
  options.add_value("sigma", "deviation of noise", "0.2", "S");
  options.add_value("seed", "of random starts and noise", "0", "S");
  options.add_value("starts", "take first starts from tensor \"starts\" of this file, (n, C, S, S)",
                    "", "FILE.safetensors");
  options.add_value("save", "write the images before and after each attack", "",
                    "FILE.safetensors");
  options.add_value("progress",
                    "save what is done after every batch, and go on from there when started again; "
                    "SIGINT and SIGTERM then end after a batch, with exit code 3",
                    "", "FILE");
  return options;
}

double fraction(const Options& options, const std::string& name) {
  const std::string text = options.get(name);
  const std::optional<double> value = train::read_fraction(text);
  if (!value.has_value()) {
    throw UsageError("--" + name + " is " + text +
                     ", expected a number of 0 or more, or a fraction such as 8/255");
  }
  return *value;
}

// Tensor "starts" of the file that --starts names, one image a row; empty without it.
std::vector<float> starts_of(const Options& options, const train::Config& config) {
  std::vector<float> starts;
  const std::string path = options.get("starts");
  if (path.empty()) return starts;
  const train::SafetensorsFile file(path);
  const auto* entry = file.find("starts");
  const int64_t size = config.model.image_size, channels = config.model.channels;
  engine::check(entry != nullptr, engine::ErrorKind::kFormat, path,
                ": there is no tensor starts, (n, ", channels, ", ", size, ", ", size, ") f32");
  // Before anything of its size is asked of the system.
  const int64_t n = entry->shape.rank() > 0 ? entry->shape[0] : 0;
  engine::check(entry->shape == engine::Shape{n, channels, size, size} &&
                    entry->dtype == engine::Dtype::kF32 && entry->foreign.empty(),
                engine::ErrorKind::kFormat, path, ": starts is ", entry->shape, ", expected (n, ",
                channels, ", ", size, ", ", size, ") f32");
  starts.resize(static_cast<size_t>(n * channels * size * size));
  file.read("starts", engine::Tensor(starts.data(), {n, channels, size, size}, engine::Dtype::kF32,
                                     engine::Device::kCpu));
  for (const float x : starts) {
    engine::check(std::isfinite(x), engine::ErrorKind::kValue, path,
                  ": starts has numbers that are not finite");
  }
  return starts;
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

std::vector<train::AttackPlan> plans_of(const Options& options) {
  train::PgdOptions pgd;
  const std::string norm = options.get("norm");
  if (norm != "linf" && norm != "l2") {
    throw UsageError("--norm is " + norm + ", expected linf or l2");
  }
  pgd.ball = {norm == "l2" ? train::Norm::kL2 : train::Norm::kLinf, fraction(options, "eps")};
  pgd.step = options.has("step") ? fraction(options, "step") : pgd.ball.eps / 4;
  pgd.steps = options.integer("steps", 1, 1000000);
  pgd.restarts = options.integer("restarts", 1, 1000000);
  pgd.random_start = !options.has("from-clean");
  if (options.integer("seed") < 0) throw UsageError("attack: --seed must not be negative");
  pgd.seed = static_cast<uint64_t>(options.integer("seed"));
  const double sigma = fraction(options, "sigma");
  std::vector<train::AttackPlan> plans;
  std::istringstream names(options.get("attack"));
  for (std::string name; std::getline(names, name, ',');) {
    try {
      plans.push_back(train::plan_attack(name, pgd, sigma));
    } catch (const engine::Error& error) {
      throw UsageError("--attack: " + error.message());
    }
  }
  if (plans.empty()) throw UsageError("--attack names none; expected pgd, for one");
  return plans;
}

train::Fields attack_fields(const Options& options) {
  const double eps = fraction(options, "eps");
  return {{"norm", options.get("norm")},
          {"eps", eps},
          {"attack_step", options.has("step") ? fraction(options, "step") : eps / 4},
          {"steps", options.integer("steps")},
          {"restarts", options.integer("restarts")},
          {"random_start", int64_t{options.has("from-clean") ? 0 : 1}},
          {"sigma", fraction(options, "sigma")},
          {"seed", options.integer("seed")}};
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

// "0.031373 (8/255)": both ways.
std::string both_ways(double eps) {
  std::ostringstream text;
  text << std::setprecision(6) << eps << " (" << eps * 255 << "/255)";
  return text.str();
}

}  // namespace

int run_attack(int argc, char** argv) {
  Options options = attack_options();
  if (!options.parse(argc, argv)) return 0;
  std::vector<train::AttackPlan> plans = plans_of(options);
  check_output_files(options);
  const CheckpointInput input = open_checkpoint_input(options);
  const train::Config& config = input.loaded.config;
  const std::vector<float> starts = starts_of(options, config);
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
               headline(input, options) + neighbour_warning(config) + options.get("norm") +
                   ", eps " + both_ways(fraction(options, "eps")) + "\n" +
                   train::attack_text(result),
               train::attack_json(result, head));
  return 0;
}

}  // namespace tools
