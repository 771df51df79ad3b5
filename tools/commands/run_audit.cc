#include "tools/commands/run_audit.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "engine/core/error.h"
#include "tools/commands/checkpoint_input.h"
#include "train/audit/audit.h"
#include "train/file_io.h"
#include "train/report/shallow_json.h"

namespace tools {

using engine::check;
using engine::ErrorKind;
using nlohmann::json;

namespace {

// Figures of a layer: numbers, and lists with so many numbers; 0 allows an empty list, too.
constexpr const char* kNumbers[] = {"n_pairs",
                                    "match_top1",
                                    "match_top1_se",
                                    "match_top1_chance",
                                    "match_top2",
                                    "match_top2_se",
                                    "match_top2_any_order",
                                    "match_top2_any_order_se",
                                    "mutual_information",
                                    "effective_experts",
                                    "margin_mean",
                                    "confidence_first",
                                    "confidence_second",
                                    "confidence_rest",
                                    "s_diagonal_mean",
                                    "s_offdiagonal_mean",
                                    "dropped_share",
                                    "dropped_share_se",
                                    "class_information",
                                    "part_information"};

bool is_list(const json& value, int64_t size) {
  return value.is_array() && value.size() == static_cast<size_t>(size) &&
         std::ranges::all_of(value, [](const json& x) { return x.is_number(); });
}

// Written by a program that did not know all figures yet.
bool is_older(const json& audit) {
  return !audit.contains("model_crc32") ||
         std::ranges::any_of(audit["layers"], [](const json& layer) {
           return !layer.contains("s") || !layer.contains("margin_histogram") ||
                  !layer.contains("class_expert") || !layer.contains("part_expert") ||
                  !layer.contains("class_information") || !layer.contains("part_information");
         });
}

void check_figures(const json& audit, const std::string& path, const train::Config& config) {
  const auto refuse = [&](const std::string& key) {
    engine::fail(ErrorKind::kFormat, path, ": ", key,
                 " is not what robustmoe audit --json writes; make it again or delete it");
  };
  for (const char* key : {"n_images", "accuracy", "accuracy_se"}) {
    if (!audit.value(key, json()).is_number()) refuse(key);
  }
  const int64_t experts = config.moe.experts;
  for (const json& layer : audit["layers"]) {
    for (const char* key : kNumbers) {
      if (!layer.value(key, json()).is_number()) refuse(key);
    }
    if (!is_list(layer["s"], experts * experts)) refuse("s");
    if (!is_list(layer["margin_histogram"], train::ConfidenceMeans::kMarginBins)) {
      refuse("margin_histogram");
    }
    if (!is_list(layer["class_expert"], config.model.classes * experts)) refuse("class_expert");
    const json& parts = layer["part_expert"];
    if (!is_list(parts, 0) && !is_list(parts, 3 * experts)) refuse("part_expert");
  }
}

// The blocks with experts and how many each has.
json blocks_of(const json& audit) {
  json blocks = json::array();
  for (const json& layer : audit["layers"]) {
    const bool object = layer.is_object();
    blocks.push_back({object ? layer.value("layer", json()) : json(),
                      object ? layer.value("experts", json()) : json(),
                      object ? layer.value("top_k", json()) : json()});
  }
  return blocks;
}

// Throws where the audit is of another model: of other layers, or of other weights though of the
// same step.
void check_model(const json& audit, const std::string& path, const train::LoadedModel& loaded) {
  const auto refuse = [&](const std::string& what) {
    engine::fail(ErrorKind::kValue, path, ": is of another model than the run's checkpoint (", what,
                 "); make it again with robustmoe audit --json, or delete it");
  };
  const train::Config& config = loaded.config;
  json expected = json::array();
  const int64_t chosen = config.moe.chooser == "experts" ? config.moe.experts : -1;
  for (const int64_t block : train::moe_layer_indices(config)) {
    const int64_t eval_k = config.moe.eval_top_k > 0 ? config.moe.eval_top_k : config.moe.top_k;
    expected.push_back({block, config.moe.experts, chosen > 0 ? chosen : eval_k});
  }
  const json blocks = blocks_of(audit);
  if (blocks != expected) {
    refuse("blocks, experts and K " + blocks.dump() + " instead of " + expected.dump());
  }
  const std::string sum = model_crc32(loaded);
  if (audit.contains("model_crc32") && audit["model_crc32"] != sum &&
      audit.value("step", json()) == loaded.loaded.state.step) {
    refuse("checksum " + audit["model_crc32"].dump() + " instead of \"" + sum + "\"");
  }
}

// Why the file cannot serve, though it is of this model; empty where it can.
std::string why_again(const json& audit, const train::LoadedModel& loaded,
                      const std::string& weights) {
  if (is_older(audit)) return "was written by an older version";
  const json step = audit.value("step", json()), of = audit.value("weights", json());
  if (step != loaded.loaded.state.step) {
    return "is of step " + step.dump() + ", the checkpoint of " +
           std::to_string(loaded.loaded.state.step);
  }
  if (of != weights) return "is of the weights " + of.dump() + ", not \"" + weights + "\"";
  return "";
}

}  // namespace

json run_audit_of(const std::string& run_dir, const train::LoadedModel& loaded,
                  const data::Dataset& dataset, const RunAuditOptions& options,
                  std::vector<std::string>& warnings) {
  const std::string path = run_dir + "/audit.json";
  if (std::filesystem::exists(path)) {
    const json audit = train::parse_shallow(train::read_file(path, int64_t{1} << 30));
    const bool whole = audit.is_object() && audit.value("layers", json()).is_array();
    check(whole, ErrorKind::kFormat, path,
          ": not what robustmoe audit --json writes; make it again or delete it");
    check_model(audit, path, loaded);
    const std::string again = why_again(audit, loaded, options.weights);
    if (again.empty()) {
      check_figures(audit, path, loaded.config);
      if (audit.value("data", json()) != options.data ||
          audit.value("split", json()) != options.split) {
        warnings.push_back(path + ": is of " + audit.value("data", json()).dump() + " " +
                           audit.value("split", json()).dump() + ", the images shown are of " +
                           options.data + " " + options.split);
      }
      return audit;
    }
    warnings.push_back(path + ": " + again + "; audited again");
  } else {
    warnings.push_back(path + ": not there; audited now");
  }
  train::Config config = loaded.config;
  config.eval.limit = options.images;
  const train::AuditResult result =
      train::audit_model(*loaded.model->network, config, dataset,
                         {.seed = options.seed, .noise_sigmas = {0.05, 0.1, 0.2}});
  const train::Fields head{{"step", loaded.loaded.state.step},
                           {"weights", options.weights},
                           {"model_crc32", model_crc32(loaded)},
                           {"recipe", loaded.config.recipe},
                           {"data", options.data},
                           {"split", options.split},
                           {"seed", static_cast<int64_t>(options.seed)}};
  return json::parse(train::audit_json(result, head));
}

}  // namespace tools
