#include "data/batch_builder.h"

#include <cmath>
#include <utility>

#include "data/transform/flip.h"
#include "data/transform/inception_crop.h"
#include "data/transform/normalise.h"
#include "data/transform/pad_crop.h"
#include "data/two_view.h"
#include "engine/core/error.h"

namespace data {
namespace {

using engine::check;
using engine::ErrorKind;

void check_view(const ViewOptions& view, const char* name) {
  check(view.area_min > 0 && view.area_min <= view.area_max && view.area_max <= 1,
        ErrorKind::kValue, "loader: ", name, ": area ", view.area_min, " to ", view.area_max,
        ", expected 0 < area_min <= area_max <= 1");
  check(view.aspect_min > 0 && view.aspect_min <= view.aspect_max && std::isfinite(view.aspect_max),
        ErrorKind::kValue, "loader: ", name, ": aspect ", view.aspect_min, " to ", view.aspect_max,
        ", expected 0 < aspect_min <= aspect_max");
  check(view.pad >= 0, ErrorKind::kValue, "loader: ", name, ": pad ", view.pad,
        ", expected 0 or more");
}

Normaliser make_normaliser(const LoaderOptions& options, int64_t channels) {
  if (options.mean.empty() && options.stddev.empty()) {
    return Normaliser(channels, options.low, options.high);
  }
  const auto per_channel = [&](const std::vector<float>& values) {
    return values.size() == 1 ? std::vector<float>(static_cast<size_t>(channels), values[0])
                              : values;
  };
  const std::vector<float> mean = per_channel(options.mean), stddev = per_channel(options.stddev);
  check(static_cast<int64_t>(mean.size()) == channels, ErrorKind::kValue, "loader: ", mean.size(),
        " means for images of ", channels, " channels");
  return Normaliser(mean, stddev);
}

}  // namespace

BatchBuilder::BatchBuilder(const Dataset& dataset, const LoaderOptions& options)
    : dataset_(dataset),
      options_(options),
      renderer_(make_normaliser(options, dataset.info().channels), options.image_size) {
  check(options.image_size > 0, ErrorKind::kValue, "loader: image size ", options.image_size,
        ", expected 1 or more");
  check(!options.two_view || (options.patch > 0 && options.image_size % options.patch == 0),
        ErrorKind::kValue, "loader: image size ", options.image_size,
        ", expected a multiple of the patch size ", options.patch);
  check_view(options.view_a, "view a");
  check_view(options.view_b, "view b");
  const Info& info = dataset.info();
  if (info.height > 0) renderer_.warm_up(info.height, info.width);
  image_.reshape(info.height, info.width, info.channels);
}

CropBox BatchBuilder::draw(const ViewOptions& view, const engine::RngKey& key) const {
  engine::RngStream rng(key);
  CropBox box{image_.height, image_.width, 0, 0, false};
  if (view.crop == Crop::kInception) {
    const InceptionCrop range{view.area_min, view.area_max, view.aspect_min, view.aspect_max};
    box = draw_inception_crop(image_.height, image_.width, range, rng);
  } else if (view.crop == Crop::kPad) {
    box = draw_pad_crop(image_.height, image_.width, view.pad, rng);
  }
  if (view.flip) box.flip = draw_flip(rng);
  return box;
}

void BatchBuilder::build_pair(Batch& batch, int64_t source, const engine::RngKey& key) {
  CropBox view1 = draw(options_.view_a, key.with(0));
  CropBox view2 = draw(options_.view_b, key.with(1));
  if (!first_is_view1(view1, view2)) std::swap(view1, view2);
  const int64_t size = options_.image_size, grid = size / options_.patch;
  float* out = batch.pixels.data() + 2 * source * image_.channels * size * size;
  renderer_.render(image_, view1, out);
  renderer_.render(image_, view2, out + image_.channels * size * size);
  patch_match(view1, view2, size, options_.patch, batch.match.data() + source * grid * grid);
}

void BatchBuilder::build(Batch& batch, int64_t first_position, int64_t begin, int64_t end) {
  const engine::RngKey augment(options_.seed, engine::Purpose::kAugment);
  const int64_t view_size = dataset_.info().channels * options_.image_size * options_.image_size;
  for (int64_t i = begin; i < end; ++i) {
    const engine::RngKey key = augment.with(static_cast<uint64_t>(first_position + i));
    dataset_.read(batch.samples[i], image_);
    const auto label = static_cast<int32_t>(dataset_.label(batch.samples[i]));
    if (options_.two_view) {
      build_pair(batch, i, key);
      batch.labels[2 * i] = batch.labels[2 * i + 1] = label;
    } else {
      const CropBox box = draw(options_.view_a, key.with(0));
      renderer_.render(image_, box, batch.pixels.data() + i * view_size);
      batch.labels[i] = label;
    }
  }
}

}  // namespace data
