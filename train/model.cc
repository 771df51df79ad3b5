#include "train/model.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <utility>

#include "data/names.h"
#include "train/device.h"
#include "train/init/timm_names.h"
#include "train/init/torchvision_names.h"
#include "train/memory_plan.h"

namespace train {

using engine::check;
using engine::Device;
using engine::Dtype;
using engine::ErrorKind;
using engine::Tensor;

namespace {

struct Counter final : nn::ParamVisitor {
  void parameter(const std::string&, nn::Parameter&, const nn::ParamSpec& spec) override {
    if (spec.trainable) count += spec.shape.numel();
  }
  int64_t count = 0;
};

}  // namespace

int64_t count_parameters(const Config& config) {
  Counter counter;
  build_network(config)->visit(counter);
  return counter.count;
}

Model::Model(const Config& config, bool with_grads, Dtype dtype, Device device)
    : network(build_network(config)) {
  nn::Binder(params, static_cast<uint64_t>(config.train.seed), with_grads)
      .bind(*network, dtype, device);
  network->put_on(device);
}

LoadedModel load_model(const std::string& checkpoint, bool ema, bool allow_nonfinite,
                       Device device) {
  LoadedModel out;
  const Loaded peeked = peek_checkpoint(checkpoint);
  std::vector<std::string> notes = peeked.warnings;
  const auto text = peeked.metadata.find("config");
  check(text != peeked.metadata.end(), ErrorKind::kFormat, peeked.path,
        ": the weights carry no \"config\" in their metadata, so the model they belong to is "
        "unknown");
  out.config = parse_config(text->second, peeked.path + " (config)", Origin::kFile);
  // Before anything of its size is asked of the system: the text may have been altered.
  const int64_t parameters = count_parameters(out.config), available = available_on(device);
  check(available == 0 || parameters <= available / static_cast<int64_t>(sizeof(float)),
        ErrorKind::kFormat, peeked.path, ": the \"config\" in its metadata describes a model of ",
        parameters, " parameters, more than fit into the ", available >> 20, " MiB available");
  if (device == Device::kCpu && out.config.train.precision == "tf32") {
    out.config.train.precision = "f32";
    notes.push_back(peeked.path +
                    ": its products were of tf32, which only GPUs have; here they are of f32");
  }
  check_runs_on(out.config, device);
  out.model = std::make_unique<Model>(out.config, false, Dtype::kF32, device);
  out.loaded =
      load_checkpoint(peeked.path, out.model->params, ema ? LoadWhat::kEma : LoadWhat::kWeights);
  out.loaded.warnings.insert(out.loaded.warnings.begin(), notes.begin(), notes.end());
  if (!allow_nonfinite) {
    check_finite(out.model->params, out.loaded.path,
                 "take another checkpoint, or --allow-nonfinite");
  }
  return out;
}

InitReport init_model(const Config& config, Model& model) {
  const std::string weights = weights_of(config.init.from);
  try {
    SourceTensors source = read_source(weights);
    if (has_timm_names(source)) source = from_timm(std::move(source));
    if (!is_vit(config) && has_torchvision_layout(source)) source = from_torchvision(source);
    // Rules work in the CPU's memory.
    const bool here = model.params.device() == Device::kCpu;
    std::unique_ptr<Model> on_cpu;
    if (!here) on_cpu = std::make_unique<Model>(config, false);
    InitReport report =
        init_from(source,
                  {config.init.rules, config.init.tile_noise,
                   static_cast<uint64_t>(config.train.seed), config.init.allow_nonfinite},
                  here ? model.params : on_cpu->params);
    if (!here) {
      const Tensor from = on_cpu->params.slab(engine::Slab::kValue);
      engine::device_copy(model.params.device(), model.params.slab(engine::Slab::kValue).raw(),
                          Device::kCpu, from.raw(), from.bytes());
    }
    return report;
  } catch (const engine::Error& error) {
    engine::fail(error.kind(), weights, ": ", error.message());
  }
}

void check_finite(const engine::ParamStore& params, const std::string& where,
                  const std::string& advice) {
  using engine::Slab;
  for (const auto& [slab, what] : {std::pair{Slab::kValue, ""},
                                   {Slab::kMoment1, "the first moment of "},
                                   {Slab::kMoment2, "the second moment of "},
                                   {Slab::kEma, "the average of "}}) {
    if (!params.has(slab) || params.dtype() != Dtype::kF32) continue;
    for (const engine::ParamStore::Entry& entry : params.entries()) {
      engine::StepArena host;
      const auto* begin = engine::brought_to(host, params.view(entry, slab)).data<const float>();
      check(
          std::all_of(begin, begin + entry.shape.numel(), [](float x) { return std::isfinite(x); }),
          ErrorKind::kFormat, where, ": ", what, entry.path, " holds numbers that are not finite; ",
          advice);
    }
  }
}

void adapt_to_data(Config& config, const data::Info& info) {
  const auto adapt = [&](const char* key, int64_t& value, int64_t from_data, bool must_equal) {
    if (!config.by_hand(key) || value == 0) {
      value = from_data;
    } else {
      check(!must_equal || value == from_data, ErrorKind::kValue, key, " = ", value,
            " was set by hand, but the data set ", info.kind, " has ", from_data);
    }
  };
  adapt("model.channels", config.model.channels, info.channels, true);
  adapt("model.classes", config.model.classes, info.classes, false);
  check(config.model.classes >= info.classes, ErrorKind::kValue,
        "model.classes = ", config.model.classes, " is fewer than the ", info.classes,
        " classes of ", info.kind);
  // A square image of another size than the model's is resized only if the size was chosen.
  if (!config.by_hand("model.image_size") && info.height == info.width && info.height > 0) {
    config.model.image_size = info.height;
  }
}

namespace {

data::Crop crop_of(const std::string& name) {
  if (name == "inception") return data::Crop::kInception;
  if (name == "pad") return data::Crop::kPad;
  return data::Crop::kNone;
}

data::RandAugmentDialect dialect_of(const std::string& name) {
  if (name == "vmoe") return data::RandAugmentDialect::kVmoe;
  if (name == "prc") return data::RandAugmentDialect::kPrc;
  if (name == "literal") return data::RandAugmentDialect::kLiteral;
  return data::RandAugmentDialect::kNone;
}

data::LoaderOptions common_loader(const Config& config) {
  data::LoaderOptions o;
  o.image_size = config.model.image_size;
  o.patch = routed_patch(config);
  o.low = config.augment.low;
  o.high = config.augment.high;
  o.mean.assign(config.augment.mean.begin(), config.augment.mean.end());
  o.stddev.assign(config.augment.stddev.begin(), config.augment.stddev.end());
  o.seed = static_cast<uint64_t>(config.train.seed);
  o.workers = config.data.workers;
  o.prefetch = config.data.prefetch;
  return o;
}

}  // namespace

data::JpegDialect jpeg_dialect(const Config& config) {
  return config.data.jpeg == "fast" ? data::JpegDialect::kFast : data::JpegDialect::kAccurate;
}

data::LoaderOptions training_loader(const Config& config, Device device) {
  data::LoaderOptions o = common_loader(config);
  o.bytes = device == Device::kCuda && config.adversarial.kind == "none";
  o.two_view = config.data.two_view;
  o.batch = config.train.batch / (o.two_view ? 2 : 1);
  o.limit = config.data.limit;
  data::ViewOptions& a = o.view_a;
  a.crop = crop_of(config.augment.crop);
  a.area_min = config.augment.area_min;
  a.area_max = config.augment.area_max;
  a.aspect_min = config.augment.aspect_min;
  a.aspect_max = config.augment.aspect_max;
  a.pad = config.augment.pad;
  a.flip = config.augment.flip;
  a.randaugment = {dialect_of(config.augment.randaugment), config.augment.randaugment_layers,
                   config.augment.randaugment_magnitude};
  a.jitter = {config.augment.jitter_brightness, config.augment.jitter_contrast,
              config.augment.jitter_saturation, config.augment.jitter_hue};
  a.erasing = config.augment.erasing;
  o.repeats = config.augment.repeats;
  o.view_b = a;
  if (config.augment.area_min_b > 0) o.view_b.area_min = config.augment.area_min_b;
  if (config.augment.area_max_b > 0) o.view_b.area_max = config.augment.area_max_b;
  return o;
}

data::LoaderOptions evaluation_loader(const Config& config, Device device) {
  data::LoaderOptions o = common_loader(config);
  o.bytes = device == Device::kCuda;
  o.batch = config.eval.batch;
  o.limit = config.eval.limit;
  o.shuffle = false;
  if (config.eval.resize != "tf-bilinear" || config.eval.shorter > 0) {
    o.view_a.crop = data::Crop::kWhole;
    o.view_a.resize = config.eval.resize == "tf-area"        ? data::Resize::kTfArea
                      : config.eval.resize == "pil-bilinear" ? data::Resize::kPilBilinear
                                                             : data::Resize::kTfBilinear;
    o.view_a.shorter = config.eval.shorter;
  }
  return o;
}

data::LoaderOptions audit_loader(const Config& config, uint64_t seed) {
  data::LoaderOptions o = training_loader(config);
  o.two_view = true;
  o.batch = std::max<int64_t>(1, config.eval.batch / 2);
  o.repeats = 1;
  o.limit = config.eval.limit;
  o.shuffle = false;
  o.seed = seed;
  return o;
}

namespace {

double of_channel(const std::vector<double>& values, int64_t channel) {
  return values[values.size() == 1 ? 0 : static_cast<size_t>(channel)];
}

}  // namespace

double pixel_unit(const Config& config, int64_t channel) {
  const Config::Augment& a = config.augment;
  return a.stddev.empty() ? a.high - a.low : 1 / of_channel(a.stddev, channel);
}

double black_value(const Config& config, int64_t channel) {
  const Config::Augment& a = config.augment;
  return a.mean.empty() ? a.low : -of_channel(a.mean, channel) / of_channel(a.stddev, channel);
}

std::vector<std::string> known_class_names(const LoadedModel& loaded) {
  const auto text = loaded.loaded.metadata.find("class_names");
  std::vector<std::string> names;
  if (text != loaded.loaded.metadata.end()) {
    std::istringstream lines(text->second);
    for (std::string line; std::getline(lines, line);) names.push_back(line);
  }
  if (names.size() > static_cast<size_t>(loaded.config.model.classes)) names.clear();
  return names;
}

std::vector<std::string> class_names(const LoadedModel& loaded) {
  std::vector<std::string> names = known_class_names(loaded);
  const std::vector<std::string> numbers = data::number_names(loaded.config.model.classes);
  for (size_t c = names.size(); c < numbers.size(); ++c) names.push_back(numbers[c]);
  return names;
}

Tensor pixels_of(const data::Batch& batch, const Config& config) {
  check(!batch.has_bytes(), ErrorKind::kInternal, "the pixels of a batch of bytes are asked for");
  const int64_t s = config.model.image_size;
  return Tensor(const_cast<float*>(batch.pixels.data()),  // NOLINT: a view for reading
                {batch.views, config.model.channels, s, s}, Dtype::kF32, Device::kCpu);
}

Tensor labels_of(const data::Batch& batch) {
  return Tensor(const_cast<int32_t*>(batch.labels.data()), {batch.views}, Dtype::kI32,
                Device::kCpu);
}

Tensor match_of(const data::Batch& batch) {
  const int64_t patches =
      batch.sources > 0 ? static_cast<int64_t>(batch.match.size()) / batch.sources : 0;
  return Tensor(const_cast<int32_t*>(batch.match.data()), {batch.sources, patches}, Dtype::kI32,
                Device::kCpu);
}

}  // namespace train
