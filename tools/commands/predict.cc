#include "train/predict/predict.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "data/codec/encode_image.h"
#include "data/names.h"
#include "data/pictures/picture_files.h"
#include "tools/commands/checkpoint_input.h"
#include "tools/commands/command.h"
#include "tools/commands/options.h"
#include "tools/commands/session.h"
#include "train/audit/noise_direction.h"
#include "train/file_io.h"
#include "train/network.h"
#include "train/predict/route_picture.h"
#include "train/predict/seen_picture.h"

namespace tools {
namespace {

using engine::Tensor;
using nlohmann::json;

Options predict_options() {
  Options options("predict", "Classify pictures, and show which experts their patches go to.");
  options.add_positional("IMAGE...", "JPEG or PNG files", 4096);
  options.add_value("checkpoint", "run directory (its latest), step directory or .safetensors", "",
                    "PATH");
  options.add_flag("ema", "take the averaged weights");
  options.add_flag("allow-nonfinite", "read weights that are not finite, too");
  options.add_value("top", "classes shown of each picture", "5", "N");
  options.add_value("noise", "also with Gaussian noise of this deviation, white being 1", "", "S");
  options.add_value("seed", "of the noise", "0", "S");
  options.add_value("routes", "draw the experts of each patch, of one IMAGE", "", "FILE.png");
  options.add_value("trace", "one token's way: block and patch (from 0), or class", "",
                    "LAYER:PATCH");
  add_device_option(options);
  options.add_value("threads", "threads; 0: all that this process may use", "0", "N");
  options.add_value("json", "write the result as JSON; - for standard output", "", "FILE");
  return options;
}

struct Trace {
  int64_t layer, patch;
};

Trace trace_from(const std::string& text) {
  const size_t colon = std::min(text.find(':'), text.size());
  try {
    size_t end = 0, patch_end = 0;
    const std::string layer = text.substr(0, colon),
                      patch = colon < text.size() ? text.substr(colon + 1) : "";
    const Trace trace{std::stoll(layer, &end),
                      patch == "class" ? -1 : std::stoll(patch, &patch_end)};
    if (end == layer.size() &&
        (patch == "class" || (patch_end == patch.size() && trace.patch >= 0)))
      return trace;
  } catch (const std::exception&) {
  }
  throw UsageError("predict: --trace is " + text +
                   ", expected LAYER:PATCH such as 5:12, or 5:class");
}

json json_of(const train::TokenRoute& route) {
  return {{"experts", route.experts}, {"weights", route.weights}};
}

json json_of(const train::Prediction& prediction, const std::vector<std::string>& names,
             int64_t top) {
  json classes = json::array(), layers = json::array();
  for (const int64_t c : train::best_classes(prediction, top)) {
    classes.push_back({{"class", c},
                       {"name", names[static_cast<size_t>(c)]},
                       {"probability", prediction.probabilities[static_cast<size_t>(c)]}});
  }
  for (const train::LayerRoutes& layer : prediction.layers) {
    json patches = json::array();
    for (const train::TokenRoute& route : layer.patches) patches.push_back(json_of(route));
    layers.push_back({{"layer", layer.layer},
                      {"experts", layer.experts},
                      {"class_token", json_of(layer.class_token)},
                      {"patches", patches}});
  }
  return {{"top", classes}, {"layers", layers}};
}

// Share of the patches of a layer whose first expert differs.
double changed_share(const train::LayerRoutes& a, const train::LayerRoutes& b) {
  int64_t changed = 0;
  for (size_t p = 0; p < a.patches.size(); ++p) {
    const auto& x = a.patches[p].experts;
    const auto& y = b.patches[p].experts;
    changed += x.empty() != y.empty() || (!x.empty() && x[0] != y[0]) ? 1 : 0;
  }
  return static_cast<double>(changed) / static_cast<double>(std::max<size_t>(1, a.patches.size()));
}

std::string text_of(const train::Prediction& prediction, const std::vector<std::string>& names,
                    int64_t top) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(2);
  for (const int64_t c : train::best_classes(prediction, top)) {
    text << "  " << std::setw(6) << 100 * prediction.probabilities[static_cast<size_t>(c)] << " %  "
         << names[static_cast<size_t>(c)] << "\n";
  }
  return text.str();
}

// What is asked for, and what it is asked of.
struct Job {
  const Options& options;
  const train::LoadedModel& loaded;
  std::vector<std::string> names;
  double noise = 0;
  int64_t top = 5;
  std::ostringstream text = {};
  json result = json::array();
};

// The picture with noise: one direction an image, a function of seed and place in the list.
std::vector<float> with_noise(const Job& job, const data::Batch& batch) {
  std::vector<float> directions, noisy;
  const auto seed = static_cast<uint64_t>(job.options.integer("seed"));
  train::draw_directions(job.loaded.config, seed, batch, directions);
  train::add_noise(batch.pixels, job.noise, directions, noisy);
  return noisy;
}

void predict_one(Job& job, train::Inference& inference, const data::Batch& batch,
                 const std::string& path) {
  const train::Config& config = job.loaded.config;
  const Tensor clean = train::pixels_of(batch, config);
  const train::Prediction prediction = train::predict(inference, config, clean);
  job.text << path << "\n" << text_of(prediction, job.names, job.top);
  json one = json_of(prediction, job.names, job.top);
  one["image"] = path;
  if (job.options.has("trace")) {
    const Trace trace = trace_from(job.options.get("trace"));
    job.text << train::trace_token(inference.run(clean), trace.layer, trace.patch);
  }
  const data::ImageU8 picture = train::seen_picture(batch.pixels.data(), config);
  train::Prediction noisy_prediction;
  data::ImageU8 noisy_picture;
  if (job.noise > 0) {
    const std::vector<float> noisy = with_noise(job, batch);
    noisy_prediction = train::predict(
        inference, config,
        Tensor(const_cast<float*>(noisy.data()), clean.shape(), clean.dtype(), clean.device()));
    noisy_picture = train::seen_picture(noisy.data(), config);
    job.text << "  with noise of " << job.noise << ":\n"
             << text_of(noisy_prediction, job.names, job.top);
    one["noise"] = json_of(noisy_prediction, job.names, job.top);
    for (size_t l = 0; l < prediction.layers.size(); ++l) {
      const double share = changed_share(prediction.layers[l], noisy_prediction.layers[l]);
      job.text << "  block " << prediction.layers[l].layer << ": another first expert in "
               << std::fixed << std::setprecision(1) << 100 * share << " % of the patches\n";
      one["noise"]["layers"][l]["changed_share"] = share;
    }
  }
  if (job.options.has("routes")) {
    const train::NoisyView view{&noisy_prediction, &noisy_picture};
    const std::vector<uint8_t> png = data::encode_png(train::draw_routes(
        picture, prediction, train::routed_patch(config), job.noise > 0 ? &view : nullptr));
    train::write_file(job.options.get("routes"),
                      {reinterpret_cast<const char*>(png.data()), png.size()});
    job.text << "  drawn in " << job.options.get("routes") << "\n";
  }
  job.result.push_back(one);
}

}  // namespace

int run_predict(int argc, char** argv) {
  Options options = predict_options();
  if (!options.parse(argc, argv)) return 0;
  const std::vector<std::string>& paths = options.positional();
  if (paths.empty()) throw UsageError("predict needs pictures: robustmoe predict IMAGE...");
  if (options.has("routes") && paths.size() > 1) {
    throw UsageError("predict: --routes draws one picture, but " + std::to_string(paths.size()) +
                     " were given");
  }
  if (options.has("routes") && options.has("json")) {
    check_other_file(options.get("routes"), options.get("json"));
  }
  if (options.has("trace")) trace_from(options.get("trace"));
  const double noise = options.has("noise") ? options.number("noise") : 0;
  if (noise < 0 || noise > 1000)
    throw UsageError("predict: --noise is " + options.get("noise") + ", expected 0 to 1000");
  for (const char* file : {"routes", "json"}) {
    if (!options.has(file) || options.get(file) == "-") continue;
    check_apart(options.get(file), options.required("checkpoint"));
    for (const std::string& path : paths) check_other_file(options.get(file), path);
    check_writable(options.get(file));
  }
  use_threads(options.integer("threads"));
  const train::LoadedModel loaded =
      train::load_model(options.required("checkpoint"), options.has("ema"),
                        options.has("allow-nonfinite"), device_from(options));
  for (const std::string& warning : loaded.loaded.warnings) {
    std::cerr << "robustmoe: warning: " << warning << "\n";
  }
  const train::Config& config = loaded.config;
  engine::check(!options.has("routes") || !train::moe_layer_indices(config).empty(),
                engine::ErrorKind::kValue, "this model has no experts to draw");
  Job job{options, loaded, train::class_names(loaded), noise,
          std::clamp<int64_t>(options.integer("top"), 1, config.model.classes)};
  const data::PictureFiles pictures(paths, config.model.channels, train::jpeg_dialect(config));
  data::LoaderOptions loading = train::evaluation_loader(config);
  loading.batch = 1;
  loading.limit = 0;
  loading.workers = 0;
  data::Loader loader = data::Loader::evaluation(pictures, loading);
  train::Inference inference(*loaded.model->network);
  for (const std::string& path : paths) predict_one(job, inference, *loader.next(), path);
  job.text << neighbour_warning(config);
  write_result(
      options, job.text.str(),
      json{{"eval_capacity_factor", config.moe.eval_capacity_factor}, {"images", job.result}}.dump(
          -1, ' ', false, json::error_handler_t::replace));
  return 0;
}

}  // namespace tools
