#include "tools/commands/paired_table.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iomanip>
#include <map>
#include <regex>
#include <sstream>

#include "engine/core/error.h"
#include "train/config.h"
#include "train/paired.h"

namespace tools {
namespace {

using engine::check;
using engine::ErrorKind;
using nlohmann::json;

struct Arm {
  std::string name, hash;                     // hash: of the config with seed 0
  std::map<int64_t, const RunFigures*> runs;  // by seed
};

std::string arm_name(const std::string& run) {
  static const std::regex kSeed("[-_/]seed[-_]?[0-9]+$");
  const std::string plain = std::regex_replace(run, kSeed, "");
  return plain.substr(plain.find_last_of('/') + 1);
}

std::vector<Arm> arms_of(const std::vector<RunFigures>& runs) {
  std::vector<Arm> arms;
  for (const RunFigures& run : runs) {
    train::Config config = train::load_config(run.name + "/config.toml");
    const int64_t seed = config.train.seed;
    config.train.seed = 0;
    const std::string hash = train::config_hash(config);
    auto at = std::ranges::find(arms, hash, &Arm::hash);
    if (at == arms.end()) at = arms.insert(at, {arm_name(run.name), hash, {}});
    const auto [place, is_new] = at->runs.try_emplace(seed, &run);
    check(is_new, ErrorKind::kValue, run.name, " and ", place->second->name,
          " have the same settings and the same seed ", seed);
  }
  return arms;
}

using Figure = std::function<double(const RunFigures&)>;

std::string with_error(double mean, double error, int digits) {
  return fixed(mean, digits) + " +- " + (std::isnan(error) ? "?" : fixed(error, digits));
}

json number_or_null(double x) { return std::isfinite(x) ? json(x) : json(nullptr); }

// One figure of all arms: a row of the table and an object.
class Rows {
 public:
  explicit Rows(const std::vector<Arm>& arms) : arms_(arms) {
    text_ << std::left << std::setw(36) << "" << std::right;
    for (const Arm& arm : arms) {
      text_ << std::setw(22) << arm.name + " (n " + std::to_string(arm.runs.size()) + ")";
    }
    text_ << "\n";
  }

  void heading(const std::string& name) { text_ << name << "\n"; }

  void add(const std::string& name, const std::string& key, int digits, const Figure& figure) {
    json object = {{"figure", key}, {"arms", json::array()}};
    std::ostringstream means, differences;
    for (const Arm& arm : arms_) {
      std::vector<double> values;
      for (const auto& [seed, run] : arm.runs) values.push_back(figure(*run));
      const train::MeanError m = train::mean_error(values);
      means << std::right << std::setw(22) << with_error(m.mean, m.error, digits);
      json one = {{"arm", arm.name}, {"n", m.n}, {"mean", m.mean}, {"se", number_or_null(m.error)}};
      if (&arm != &arms_.front()) differences << difference(arm, figure, digits, one);
      object["arms"].push_back(one);
    }
    text_ << std::left << std::setw(36) << name << means.str() << "\n";
    if (arms_.size() > 1) {
      text_ << std::left << std::setw(58) << "    minus " + arms_.front().name << differences.str()
            << "\n";
    }
    figures_.push_back(object);
  }

  PairedTable take() const { return {text_.str(), json{{"figures", figures_}}.dump()}; }

 private:
  std::string difference(const Arm& arm, const Figure& figure, int digits, json& out) const {
    std::vector<double> values;
    for (const auto& [seed, run] : arm.runs) {
      const auto base = arms_.front().runs.find(seed);
      if (base != arms_.front().runs.end()) values.push_back(figure(*run) - figure(*base->second));
    }
    check(!values.empty(), ErrorKind::kValue, "no seed of ", arm.name, " is one of ",
          arms_.front().name, ": nothing to pair");
    const train::PairedTest test = train::paired_test(values);
    out["difference"] = {{"n", test.difference.n},
                         {"mean", test.difference.mean},
                         {"se", number_or_null(test.difference.error)},
                         {"t", number_or_null(test.t)},
                         {"p_above_0", number_or_null(test.p)}};
    const std::string p = std::isnan(test.p) ? "" : " p " + fixed(test.p, 3);
    const std::string sign = test.difference.mean >= 0 ? "+" : "";
    std::ostringstream cell;
    cell << std::right << std::setw(22) << sign + fixed(test.difference.mean, digits) + p;
    return cell.str();
  }

  const std::vector<Arm>& arms_;
  std::ostringstream text_;
  json figures_ = json::array();
};

}  // namespace

PairedTable paired_table(const std::vector<RunFigures>& runs) {
  const std::vector<Arm> arms = arms_of(runs);
  Rows rows(arms);
  rows.add(split_of(runs.front()) + " accuracy, %", "accuracy", 2,
           [](const RunFigures& r) { return 100 * r.of_eval("accuracy"); });
  const bool paths = std::ranges::all_of(runs, &RunFigures::has_path);
  if (paths) {
    rows.add("logits, mean step into noise", "mean_logit_step", 4,
             [](const RunFigures& r) { return r.of_path("mean_logit_step"); });
    rows.add("logits, largest step", "largest_logit_step", 4,
             [](const RunFigures& r) { return r.of_path("largest_logit_step"); });
  }
  for (size_t l = 0; l < runs.front().layers().size(); ++l) {
    rows.heading("MoE layer in block " + std::to_string(runs.front().block(l)));
    const std::string prefix = "block_" + std::to_string(runs.front().block(l)) + "_";
    for (const LayerFigure& f : kLayerFigures) {
      rows.add(std::string("  ") + f.name, prefix + f.key, f.digits,
               [&](const RunFigures& r) { return f.factor * r.of_layer(l, f.key); });
    }
    if (paths) {
      rows.add("  changes of a patch's experts", prefix + "set_changes", 4,
               [l](const RunFigures& r) { return r.set_changes(l); });
    }
  }
  return rows.take();
}

}  // namespace tools
