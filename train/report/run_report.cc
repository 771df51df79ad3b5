#include "train/report/run_report.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "train/audit/content.h"
#include "train/config_fields.h"
#include "train/file_io.h"
#include "train/ledger.h"
#include "train/network.h"
#include "train/report/base64.h"
#include "train/report/noise_routes.h"
#include "train/report/run_history.h"
#include "train/report/view_pairs.h"

namespace train {

using nlohmann::json;

namespace {

constexpr int64_t kShownClasses = 6;  // of an image, beside its own

// Classes whose curves an image gets: its own and those most probable at any level, in order of
// their largest probability.
std::vector<int32_t> classes_to_show(const NoiseRoutes& routes, int64_t image) {
  const int64_t classes = routes.classes;
  std::vector<double> largest(static_cast<size_t>(classes));
  for (size_t level = 0; level < routes.sigmas.size(); ++level) {
    const double* p = routes.probabilities.data() +
                      (static_cast<int64_t>(level) * routes.images + image) * classes;
    for (int64_t c = 0; c < classes; ++c) largest[c] = std::max(largest[c], p[c]);
  }
  std::vector<int32_t> order(static_cast<size_t>(classes));
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](int32_t a, int32_t b) { return largest[a] > largest[b]; });
  std::vector<int32_t> shown(order.begin(), order.begin() + std::min(kShownClasses, classes));
  const int32_t label = routes.labels[static_cast<size_t>(image)];
  if (std::ranges::find(shown, label) == shown.end()) shown.push_back(label);
  return shown;
}

// Of each image: its shown classes, their probabilities (levels, classes shown), the predictions.
json curves_of(const NoiseRoutes& routes) {
  json curves = json::array();
  const auto levels = static_cast<int64_t>(routes.sigmas.size());
  for (int64_t k = 0; k < routes.images; ++k) {
    const std::vector<int32_t> shown = classes_to_show(routes, k);
    std::vector<double> probabilities, steps;
    std::vector<int64_t> predictions;
    for (int64_t level = 0; level < levels; ++level) {
      const double* p = routes.probabilities.data() + (level * routes.images + k) * routes.classes;
      for (const int32_t c : shown) probabilities.push_back(p[c]);
      predictions.push_back(std::max_element(p, p + routes.classes) - p);
      if (level > 0) steps.push_back(routes.logit_steps[(level - 1) * routes.images + k]);
    }
    curves.push_back({{"classes", shown},
                      {"probabilities", probabilities},
                      {"predictions", predictions},
                      {"logit_steps", steps}});
  }
  return curves;
}

json layers_of(const NoiseRoutes& routes, const ViewPairs& views) {
  json layers = json::array();
  for (size_t l = 0; l < routes.layers.size(); ++l) {
    const NoiseRoutesLayer& r = routes.layers[l];
    layers.push_back({{"layer", r.layer},
                      {"experts", r.experts},
                      {"top_k", r.top_k},
                      {"capacity", r.capacity},
                      {"expert_choice", r.expert_choice},
                      {"experts_of", base64_of(r.experts_of)},
                      {"gates", base64_of(r.gates)},
                      {"dropped", base64_of(r.dropped)},
                      {"logits", base64_of(r.logits)},
                      {"view_probabilities", base64_of(views.layers[l].clean)}});
  }
  return layers;
}

// The value as the config file has it.
json ledger_of(const Config& config) {
  Config copy = config;
  const std::vector<Field> all = fields(copy);
  json rows = json::array();
  for (const LedgerRow& row : ledger()) {
    const auto at = std::ranges::find_if(all, [&](const Field& f) { return f.key == row.key; });
    rows.push_back({{"key", row.key},
                    {"value", at == all.end() ? "" : toml_value(*at)},
                    {"paper", row.paper},
                    {"code", row.code},
                    {"note", row.note}});
  }
  return rows;
}

json provenance_of(const LoadedModel& loaded, const RunReportOptions& options) {
  const CheckpointState& state = loaded.loaded.state;
  const std::string config = (std::filesystem::path(options.run_dir) / "config.toml").string();
  const json data = json::parse(state.extra, nullptr, false);
  return {{"program_version", options.program_version},
          {"recipe", loaded.config.recipe},
          {"checkpoint", std::filesystem::path(loaded.loaded.path).filename().string()},
          {"step", state.step},
          {"epoch", state.epoch},
          {"seed", std::to_string(state.seed)},
          {"config_hash", state.config_hash},
          {"config", std::filesystem::exists(config) ? read_file(config) : ""},
          {"training_data", data.is_object() ? data : json::object()},
          {"parameters", count_parameters(loaded.config)},
          {"precision", loaded.config.train.precision},
          {"ledger", ledger_of(loaded.config)}};
}

// (images, patches) by content.h's Part; empty where the data set does not know.
std::vector<uint8_t> parts_of(const Config& config, const data::Dataset& dataset,
                              const std::vector<int64_t>& images) {
  std::vector<uint8_t> all, pixels;
  if (!sees_parts(config, dataset.info())) return {};
  for (const int64_t i : images) {
    if (!dataset.parts(i, pixels)) return {};
    const std::vector<uint8_t> parts =
        parts_of_patches(pixels, config.model.image_size, routed_patch(config));
    all.insert(all.end(), parts.begin(), parts.end());
  }
  return all;
}

}  // namespace

json describe_run(const LoadedModel& loaded, const data::Dataset& dataset, const json& audit,
                  const RunReportOptions& options, std::vector<std::string>& warnings) {
  const Config& config = loaded.config;
  Inference inference(*loaded.model->network);
  const NoiseRoutes routes = follow_noise(inference, config, dataset, options.images, options.seed,
                                          options.levels, options.sigma);
  const ViewPairs views = look_at_views(inference, config, dataset, options.images, options.seed);
  json images = json::array();
  for (size_t k = 0; k < options.images.size(); ++k) {
    images.push_back({{"index", options.images[k]},
                      {"name", dataset.name(options.images[k])},
                      {"label", routes.labels[k]},
                      {"picture", routes.pictures[k]},
                      {"views", {views.pictures[2 * k], views.pictures[2 * k + 1]}},
                      {"noise_key", std::to_string(routes.noise_keys[k])}});
  }
  return {{"label", options.label},
          {"model",
           {{"image_size", config.model.image_size},
            {"patch", routed_patch(config)},
            {"channels", config.model.channels},
            {"classes", config.model.classes},
            {"class_token", routes.class_token},
            {"eval_capacity_factor", config.moe.eval_capacity_factor},
            {"depends_on_neighbours", depends_on_neighbours(config)}}},
          {"class_names", class_names(loaded)},
          {"sigmas", routes.sigmas},
          {"images", images},
          {"curves", curves_of(routes)},
          {"layers", layers_of(routes, views)},
          {"match", base64_of(views.match)},
          {"flat", base64_of(views.flat)},
          {"parts", base64_of(parts_of(config, dataset, options.images))},
          {"audit", audit},
          {"history", read_history(options.run_dir, config.moe.experts, warnings)},
          {"provenance", provenance_of(loaded, options)}};
}

}  // namespace train
