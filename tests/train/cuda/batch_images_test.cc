#include "train/batch_images.h"

#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/support/devices.h"
#include "tests/train/small_model.h"
#include "train/evaluate.h"
#include "train/train_step.h"

using engine::Device;
using engine::Slab;
using engine::Tensor;
using engine::test::cuda_available;
using engine::test::download;
using engine::test::same_bits;
using train::BatchImages;
using train::Config;

namespace {

using Settings = std::vector<std::string>;

const char* const kData = "shapes:size=16,train=64,test=40";

// Every way to make a view.
const Settings kViews[] = {
    {"augment.flip=true"},
    {"augment.crop=pad", "augment.flip=true", "augment.erasing=0.7"},
    {"augment.crop=none", "augment.randaugment=vmoe", "augment.erasing=0.5"},
    {"augment.jitter_brightness=0.4", "data.two_view=true"},
    {"augment.mean=0.4,0.5,0.6", "augment.stddev=0.2,0.3,0.4", "augment.flip=true"},
    {"model.image_size=12", "augment.low=0", "augment.erasing=1"},
};

Config config_of(const data::Dataset& set, const Settings& settings) {
  Settings all = {"train.batch=16"};
  all.insert(all.end(), settings.begin(), settings.end());
  return train::test::small_config(set, all);
}

data::LoaderOptions training_options(const Config& config, bool bytes) {
  data::LoaderOptions options = train::training_loader(config, Device::kCuda);
  CHECK(options.bytes);
  options.bytes = bytes;
  return options;
}

// Shows six batches, each with and without a start ahead of it.
void check_shown(Device device, const Settings& settings) {
  const auto set = data::open_dataset(kData, data::Split::kTrain);
  const Config config = config_of(*set, settings);
  for (const bool ahead : {false, true}) {
    data::Loader plain(*set, training_options(config, false)),
        loader(*set, training_options(config, true));
    BatchImages images(device);
    std::set<const void*> places;
    for (int step = 0; step < 6; ++step) {
      const data::Batch& want = *plain.next();
      const Tensor got = images.show(*loader.next(), config);
      if (ahead) images.start_next(loader);
      CHECK(got.device() == device);
      CHECK(same_bits(download<float>(got), want.pixels));
      places.insert(got.raw());
    }
    CHECK(places.size() == 1);
  }
}

struct Trained {
  std::vector<double> losses;
  std::vector<float> weights, moments;
};

Trained training(const Settings& settings, bool bytes, bool ahead) {
  const auto set = data::open_dataset(kData, data::Split::kTrain);
  const Config config = config_of(*set, settings);
  train::Model model(config, true, engine::Dtype::kF32, Device::kCuda);
  train::TrainStep step(config, model, 100);
  data::Loader loader(*set, training_options(config, bytes));
  Trained out;
  for (int i = 0; i < 3; ++i) {
    out.losses.push_back(step.run(*loader.next(), i, ahead ? &loader : nullptr).loss.total);
  }
  out.weights = download<float>(model.params.slab(Slab::kValue));
  out.moments = download<float>(model.params.slab(Slab::kMoment1));
  return out;
}

}  // namespace

TEST_CASE("images of a batch of bytes are the pixels, to the bit") {
  for (const Settings& settings : kViews) check_shown(Device::kCpu, settings);
}

TEST_CASE("cuda: images of a batch of bytes are the pixels, to the bit" *
          doctest::skip(!cuda_available())) {
  for (const Settings& settings : kViews) check_shown(Device::kCuda, settings);
}

TEST_CASE("cuda: images of batches of every size, and of one that was started for nobody" *
          doctest::skip(!cuda_available())) {
  const auto set = data::open_dataset(kData, data::Split::kTest);
  const Config config = train::test::small_config(*set, {"eval.batch=16"});
  BatchImages images(Device::kCuda);
  for (int again = 0; again < 3; ++again) {
    data::Loader plain = data::Loader::evaluation(*set, train::evaluation_loader(config));
    data::Loader loader =
        data::Loader::evaluation(*set, train::evaluation_loader(config, Device::kCuda));
    images.drop_next();
    for (int step = 0; step < 3; ++step) {  // the last has 8 images
      const data::Batch& want = *plain.next();
      const data::Batch& batch = *loader.next();
      if (step == 1) continue;  // started, and not shown
      CHECK(same_bits(download<float>(images.show(batch, config)), want.pixels));
      images.start_next(loader);
      if (again == 1) break;
    }
  }
  Config other = config;
  other.model.image_size = 8;
  data::Loader loader =
      data::Loader::evaluation(*set, train::evaluation_loader(config, Device::kCuda));
  CHECK_THROWS_AS(images.show(*loader.next(), other), engine::Error);
  CHECK_THROWS_AS(train::pixels_of(*loader.next(), config), engine::Error);
}

TEST_CASE("cuda: training from bytes has the bits of training from pixels" *
          doctest::skip(!cuda_available())) {
  const Settings cases[] = {
      {"data.two_view=true", "prc.form=paper", "train.micro_batch=8", "augment.erasing=0.5"},
      {"augment.mixup=0.4", "moe.layers=none", "train.micro_batch=8"},
      {"augment.cutmix=1", "augment.randaugment=prc", "moe.layers=none", "train.precision=bf16"},
  };
  for (const Settings& settings : cases) {
    CAPTURE(settings[0]);
    const Trained want = training(settings, false, false);
    for (const bool ahead : {false, true}) {
      const Trained got = training(settings, true, ahead);
      CHECK(got.losses == want.losses);
      CHECK(same_bits(got.weights, want.weights));
      CHECK(same_bits(got.moments, want.moments));
    }
  }
}

TEST_CASE("cuda: evaluation from bytes has the bits of evaluation from pixels" *
          doctest::skip(!cuda_available())) {
  const Settings cases[] = {
      {},
      {"eval.resize=pil-bilinear", "eval.shorter=18"},
      {"eval.resize=tf-area", "eval.shorter=18"},  // no bytes
      {"moe.dispatch=capacity", "moe.capacity_factor=0.6", "moe.group_images=16"},
  };
  for (const Settings& more : cases) {
    CAPTURE(more.empty() ? "" : more[0]);
    Settings settings = {"eval.batch=16"};
    settings.insert(settings.end(), more.begin(), more.end());
    train::test::SmallModel small(kData, settings);
    train::Model model(small.config, false, engine::Dtype::kF32, Device::kCuda);
    const Tensor from = small.model.params.slab(Slab::kValue);
    engine::device_copy(Device::kCuda, model.params.slab(Slab::kValue).raw(), Device::kCpu,
                        from.raw(), from.bytes());
    train::Inference inference(*model.network);
    const auto evaluated = [&](Device device) {
      data::Loader loader =
          data::Loader::evaluation(*small.test, train::evaluation_loader(small.config, device));
      return train::evaluate(inference, small.config, loader);
    };
    const train::Evaluation want = evaluated(Device::kCpu);
    for (int again = 0; again < 2; ++again) {
      const train::Evaluation got = evaluated(Device::kCuda);
      CHECK(got.n == 40);
      CHECK(got.accuracy == want.accuracy);
      CHECK(got.loss == want.loss);
      CHECK(got.loss_se == want.loss_se);
    }
    const train::Evaluation whole = train::evaluate(*model.network, small.config, *small.test);
    CHECK(whole.loss == want.loss);
  }
}

TEST_CASE("batches are bytes for a GPU, unless a training looks for images near their pixels") {
  Config config;
  CHECK_FALSE(train::training_loader(config).bytes);
  CHECK_FALSE(train::evaluation_loader(config).bytes);
  CHECK(train::training_loader(config, Device::kCuda).bytes);
  CHECK(train::evaluation_loader(config, Device::kCuda).bytes);
  CHECK_FALSE(train::audit_loader(config, 1).bytes);
  train::set_value(config, "adversarial.kind=pgd");
  CHECK_FALSE(train::training_loader(config, Device::kCuda).bytes);
}
