#include "tools/commands/attack_options.h"

#include <cmath>
#include <iomanip>
#include <optional>
#include <sstream>

#include "train/fraction.h"
#include "train/safetensors.h"

namespace tools {

void add_attack_options(Options& options, const std::string& attacks) {
  options.add_value("attack",
                    "noise, fgsm, pgd, apgd, apgd-dlr or apgd-t, or several, such as pgd,apgd",
                    attacks, "LIST");
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
}

namespace {

double fraction(const Options& options, const std::string& name) {
  const std::string text = options.get(name);
  const std::optional<double> value = train::read_fraction(text);
  if (!value.has_value()) {
    throw UsageError("--" + name + " is " + text +
                     ", expected a number of 0 or more, or a fraction such as 8/255");
  }
  return *value;
}

}  // namespace

std::vector<float> attack_starts(const Options& options, const train::Config& config) {
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

std::vector<train::AttackPlan> attack_plans(const Options& options) {
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
  return plans;
}

namespace {

// "0.031373 (8/255)": both ways.
std::string both_ways(double eps) {
  std::ostringstream text;
  text << std::setprecision(6) << eps << " (" << eps * 255 << "/255)";
  return text.str();
}

}  // namespace

train::Fields attack_fields(const Options& options) {
  const double eps = fraction(options, "eps");
  // A checkpoint has a "step" of its own.
  return {{"norm", options.get("norm")},
          {"eps", eps},
          {"attack_step", options.has("step") ? fraction(options, "step") : eps / 4},
          {"steps", options.integer("steps")},
          {"restarts", options.integer("restarts")},
          {"random_start", int64_t{options.has("from-clean") ? 0 : 1}},
          {"sigma", fraction(options, "sigma")},
          {"seed", options.integer("seed")}};
}

std::string attack_headline(const Options& options) {
  return options.get("norm") + ", eps " + both_ways(fraction(options, "eps")) + "\n";
}

}  // namespace tools
