#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tools {

// What eval and audit wrote about one run: RUN/eval.json, RUN/audit.json and, if it is there,
// RUN/path.json of audit --noise-path.
struct RunFigures {
  std::string name;  // the run directory, without a slash at its end
  nlohmann::json eval, audit, path;

  // Error(kFormat) that names the file where there is no such number, or there are no layers.
  double of_eval(const std::string& key) const;
  const nlohmann::json& layers() const;
  bool has_path() const { return path.is_object(); }
  double of_path(const std::string& key) const;
  double set_changes(size_t layer) const;
  double of_layer(size_t layer, const std::string& key) const;
  // The 0-based block of an MoE layer.
  int64_t block(size_t layer) const;
  // The smallest share of all routed choices that any expert of a layer serves, in fair shares.
  double emptiest(size_t layer) const;
};

// Error(kIo, kFormat).
RunFigures read_figures(std::string run);

// Of several runs that are to be compared. Error(kValue) where they differ in what the figures are
// of: the split, the number of images, the weights, the blocks with experts, or the step of eval
// and audit.
std::vector<RunFigures> read_all_figures(const std::vector<std::string>& runs);

// "test" or "train": what eval.json is of.
std::string split_of(const RunFigures& run);

// `value` with so many decimals.
std::string fixed(double value, int digits);

// The figures that tables show of every MoE layer.
struct LayerFigure {
  const char *key, *name;
  double factor;
  int digits;
};
inline constexpr LayerFigure kLayerFigures[] = {
    {"match_top1", "same first expert, %", 100, 2},
    {"match_top1_chance", "  by chance, %", 100, 2},
    {"mutual_information", "mutual information, nats", 1, 4},
    {"effective_experts_all_tokens", "effective experts", 1, 2},
    {"confidence_first", "mean probability of the first", 1, 4},
    {"margin_mean", "margin, first - second", 1, 4}};

}  // namespace tools
