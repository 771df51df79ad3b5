#include "tools/commands/run_audit.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "engine/core/error.h"
#include "tools/commands/checkpoint_input.h"
#include "train/audit/audit.h"
#include "train/file_io.h"

namespace tools {

using engine::check;
using engine::ErrorKind;
using nlohmann::json;

namespace {

// The object of the file, if its layers are those of the model.
json read_audit(const std::string& path, const train::LoadedModel& loaded,
                const std::string& weights) {
  json audit = json::parse(train::read_file(path, int64_t{1} << 30), nullptr, false);
  const bool whole = audit.is_object() && audit.value("layers", json()).is_array();
  check(whole, ErrorKind::kFormat, path,
        ": not what robustmoe audit --json writes; make it again or delete it");
  const auto refuse = [&](const std::string& what) {
    engine::fail(ErrorKind::kValue, path, ": is of another model than the run's checkpoint (", what,
                 "); make it again with robustmoe audit --json, or delete it");
  };
  const int64_t step = loaded.loaded.state.step;
  if (audit.value("step", json()) != step) {
    refuse("step " + audit.value("step", json()).dump() + " instead of " + std::to_string(step));
  }
  if (audit.value("weights", json("last")) != weights) {
    refuse("weights " + audit.value("weights", json()).dump() + " instead of \"" + weights + "\"");
  }
  const std::string sum = model_crc32(loaded);
  if (audit.contains("model_crc32") && audit["model_crc32"] != sum) {
    refuse("checksum " + audit["model_crc32"].dump() + " instead of \"" + sum + "\"");
  }
  const std::vector<int64_t> blocks = train::moe_layer_indices(loaded.config);
  json layers = json::array(), expected = json::array();
  for (const json& layer : audit["layers"]) {
    const bool object = layer.is_object();
    layers.push_back({object ? layer.value("layer", json()) : json(),
                      object ? layer.value("experts", json()) : json()});
  }
  for (const int64_t block : blocks) expected.push_back({block, loaded.config.moe.experts});
  if (layers != expected) {
    refuse("blocks and experts " + layers.dump() + " instead of " + expected.dump());
  }
  return audit;
}

// Figures that older programs did not write.
bool has_all(const json& audit) {
  return std::ranges::all_of(audit["layers"], [](const json& layer) {
    return std::ranges::all_of(
        std::initializer_list<const char*>{"s", "margin_histogram", "class_expert", "part_expert"},
        [&](const char* key) { return layer.contains(key) && layer[key].is_array(); });
  });
}

}  // namespace

json run_audit_of(const std::string& run_dir, const train::LoadedModel& loaded,
                  const data::Dataset& dataset, const RunAuditOptions& options,
                  std::vector<std::string>& warnings) {
  const std::string path = run_dir + "/audit.json";
  if (std::filesystem::exists(path)) {
    json audit = read_audit(path, loaded, options.weights);
    if (has_all(audit)) return audit;
    warnings.push_back(path + ": was written by an older version; audited again");
  } else {
    warnings.push_back(path + ": not there; audited now");
  }
  train::Config config = loaded.config;
  config.eval.limit = options.images;
  const train::AuditResult result =
      train::audit_model(loaded.model->vmoe, config, dataset,
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
