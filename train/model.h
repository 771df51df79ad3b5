#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/loader.h"
#include "engine/core/param_store.h"
#include "train/checkpoint.h"
#include "train/config.h"
#include "train/init/rules.h"
#include "train/network.h"

// From a Config to the objects it describes. The one place where names of the config become
// types of the libraries.
namespace train {

// Trainable parameters of the model a config describes, counted without allocating them.
int64_t count_parameters(const Config& config);

// A model with its weights. Neither copied nor moved: layers point into the store.
struct Model {
  // Weights from (config.train.seed, path). Gradients only where asked for.
  Model(const Config& config, bool with_grads, engine::Dtype dtype = engine::Dtype::kF32,
        engine::Device device = engine::Device::kCpu);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  std::unique_ptr<Network> network;
  engine::ParamStore params;
};

// What a checkpoint says about itself and the model it holds.
struct LoadedModel {
  Config config;
  std::unique_ptr<Model> model;
  Loaded loaded;
};
// Reads the config from the checkpoint's metadata, builds the model and fills it. `ema`: the
// averaged weights. Error(kFormat) if there are none, if they are not finite and that is not
// allowed, or if the config describes a model that the memory cannot hold.
LoadedModel load_model(const std::string& checkpoint, bool ema, bool allow_nonfinite = false,
                       engine::Device device = engine::Device::kCpu);

// Fills a fresh model as config.init says (train/init/rules.h); a file of timm's names
// (train/init/timm_names.h) is brought under ours first, one of torchvision's
// (train/init/torchvision_names.h) into our layouts. Error(kFormat) where a weight has
// no place, before anything has changed.
InitReport init_model(const Config& config, Model& model);

// Error(kFormat) that begins with `where` and names the first parameter that has, or whose
// optimizer moments or average have, a value that is not finite; ends with `advice`.
void check_finite(const engine::ParamStore& params, const std::string& where,
                  const std::string& advice = "take another checkpoint");

// Fills what the data set decides (channels, image size, classes) unless set by hand; where a
// value set by hand does not fit the data: Error(kValue).
void adapt_to_data(Config& config, const data::Info& info);

// The training stream: config.train.batch views a step, two views of each image if
// data.two_view, in the config's augmentation. For a GPU batches are bytes where that is possible
// (BatchImages); adversarial training looks for images near the pixels, so it has pixels.
data::LoaderOptions training_loader(const Config& config,
                                    engine::Device device = engine::Device::kCpu);
data::JpegDialect jpeg_dialect(const Config& config);
// One plain view of every image, in order, config.eval.batch at a time.
data::LoaderOptions evaluation_loader(const Config& config,
                                      engine::Device device = engine::Device::kCpu);
// The two views of every image that audits compare: the config's own augmentation, drawn with
// `seed`, in order.
data::LoaderOptions audit_loader(const Config& config, uint64_t seed);

// What normalisation makes of one unit of the [0, 1] pixel range, and of black.
double pixel_unit(const Config& config, int64_t channel);
double black_value(const Config& config, int64_t channel);

// Names of the classes, from the weights' metadata. class_names: one for each class of the model,
// numbers where there is none. known_class_names: those of the training data, which may be fewer.
std::vector<std::string> class_names(const LoadedModel& loaded);
std::vector<std::string> known_class_names(const LoadedModel& loaded);

// A tensor over a batch's own memory (no copy). The pixels of a batch of bytes are
// Error(kInternal).
engine::Tensor pixels_of(const data::Batch& batch, const Config& config);
engine::Tensor labels_of(const data::Batch& batch);
engine::Tensor match_of(const data::Batch& batch);  // (sources, patches) i32

}  // namespace train
