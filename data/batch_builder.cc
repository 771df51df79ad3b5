#include "data/batch_builder.h"

#include <cmath>
#include <utility>

#include "data/transform/flip.h"
#include "data/transform/inception_crop.h"
#include "data/transform/normalise.h"
#include "data/transform/pad_crop.h"
#include "data/transform/planes.h"
#include "data/transform/random_erasing.h"
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
  check(view.randaugment.layers >= 0 && view.randaugment.magnitude >= 0, ErrorKind::kValue,
        "loader: ", name, ": RandAugment of ", view.randaugment.layers, " layers and magnitude ",
        view.randaugment.magnitude, ", expected numbers from 0 on");
  const ColorJitter& j = view.jitter;
  check(j.brightness >= 0 && j.contrast >= 0 && j.saturation >= 0 && j.hue >= 0 && j.hue <= 0.5,
        ErrorKind::kValue, "loader: ", name, ": colour jitter of ", j.brightness, ", ", j.contrast,
        ", ", j.saturation, ", ", j.hue, ", expected numbers from 0 on, the last at most 0.5");
  check(view.erasing >= 0 && view.erasing <= 1, ErrorKind::kValue, "loader: ", name, ": erasing ",
        view.erasing, ", expected 0 to 1");
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
      view_size_(dataset.info().channels * options.image_size * options.image_size),
      renderer_(make_normaliser(options, dataset.info().channels), options.image_size),
      whole_(make_normaliser(options, dataset.info().channels), options.image_size,
             options.view_a.resize, options.view_a.shorter),
      augment_a_(options.view_a.randaugment),
      augment_b_(options.view_b.randaugment) {
  check(options.image_size > 0, ErrorKind::kValue, "loader: image size ", options.image_size,
        ", expected 1 or more");
  check(!options.two_view || (options.patch > 0 && options.image_size % options.patch == 0),
        ErrorKind::kValue, "loader: image size ", options.image_size,
        ", expected a multiple of the patch size ", options.patch);
  check(options.view_a.crop != Crop::kWhole ||
            (!options.two_view && !options.view_a.flip && !options.view_a.changes_bytes() &&
             options.view_a.erasing == 0),
        ErrorKind::kValue,
        "loader: whole pictures for evaluation have no second view, flip or augmentation");
  check_view(options.view_a, "view a");
  check_view(options.view_b, "view b");
  const Info& info = dataset.info();
  if (info.height > 0) renderer_.warm_up(info.height, info.width);
  image_.reshape(info.height, info.width, info.channels);
  const int64_t side = options.image_size;
  if (options.view_a.changes_bytes() || options.view_b.changes_bytes()) {
    check(info.channels == 1 || info.channels == 3, ErrorKind::kValue,
          "loader: RandAugment and colour jitter are for images of 1 or 3 channels, ", info.kind,
          " has ", info.channels);
    view_.reshape(side, side, info.channels);
    augment_a_.warm_up(side, side, info.channels);
    augment_b_.warm_up(side, side, info.channels);
  }
}

void BatchBuilder::reserve(Batch& batch, int64_t views) const {
  const auto n = static_cast<size_t>(views), size = static_cast<size_t>(views * view_size_);
  const ViewOptions &a = options_.view_a, &b = options_.view_b;
  if (!options_.bytes || (a.crop == Crop::kWhole && !WholeView::gives_bytes(a.resize))) {
    batch.pixels.resize(size);
    return;
  }
  batch.bytes.resize(size);
  batch.mirrored.resize(n);
  if (a.erasing > 0 || (options_.two_view && b.erasing > 0)) batch.erased.resize(n);
  const Normaliser& normaliser = renderer_.normaliser();
  batch.table.assign(normaliser.table(0), normaliser.table(normaliser.channels()));
}

BatchBuilder::Draw BatchBuilder::draw(const ViewOptions& view, const engine::RngKey& key) {
  Draw out{{image_.height, image_.width, 0, 0, false}, engine::RngStream(key), &view, nullptr};
  if (view.crop == Crop::kInception) {
    const InceptionCrop range{view.area_min, view.area_max, view.aspect_min, view.aspect_max};
    out.box = draw_inception_crop(image_.height, image_.width, range, out.rng);
  } else if (view.crop == Crop::kPad) {
    out.box = draw_pad_crop(image_.height, image_.width, view.pad, out.rng);
  }
  if (view.flip) out.box.flip = draw_flip(out.rng);
  if (view.randaugment.active()) {
    out.augmenter = &view == &options_.view_a ? &augment_a_ : &augment_b_;
  }
  return out;
}

void BatchBuilder::put_bytes(Draw& view, Batch& batch, int64_t at) {
  const ViewOptions& options = *view.options;
  uint8_t* out = batch.bytes.data() + at * view_size_;
  if (options.changes_bytes()) {
    const int64_t plane = options_.image_size * options_.image_size;
    split_channels(view_.pixels.data(), plane, image_.channels, out, plane);
  } else {
    renderer_.render_bytes(image_, view.box, out);
  }
  batch.mirrored[at] = view.box.flip && !options.changes_bytes();
  if (batch.erased.empty()) return;
  batch.erased[at] = options.erasing > 0
                         ? draw_erased(options_.image_size, options.erasing, view.rng)
                         : ErasedBox{};
}

void BatchBuilder::put_floats(Draw& view, Batch& batch, int64_t at) {
  const ViewOptions& options = *view.options;
  float* out = batch.pixels.data() + at * view_size_;
  if (options.changes_bytes()) {
    renderer_.normalise(view_, out);
  } else {
    renderer_.render(image_, view.box, out);
  }
  if (options.erasing > 0) {
    erase_randomly(out, image_.channels, options_.image_size, options.erasing, view.rng);
  }
}

Affine BatchBuilder::render(Draw& view, Batch& batch, int64_t at) {
  const ViewOptions& options = *view.options;
  Affine moved;
  if (options.changes_bytes()) {
    renderer_.cut(image_, view.box, view_);
    if (view.augmenter != nullptr) moved = view.augmenter->apply(view_, view.rng);
    if (options.jitter.active()) jitter_colors(view_, options.jitter, view.rng);
  }
  batch.has_bytes() ? put_bytes(view, batch, at) : put_floats(view, batch, at);
  return moved;
}

void BatchBuilder::build_pair(Batch& batch, int64_t source, const engine::RngKey& key) {
  Draw view1 = draw(options_.view_a, key.with(0)), view2 = draw(options_.view_b, key.with(1));
  if (!first_is_view1(view1.box, view2.box)) std::swap(view1, view2);
  const int64_t size = options_.image_size, grid = size / options_.patch;
  const Affine moved1 = render(view1, batch, 2 * source);
  const Affine moved2 = render(view2, batch, 2 * source + 1);
  int32_t* match = batch.match.data() + source * grid * grid;
  if (moved1 == Affine{} && moved2 == Affine{}) {  // exact
    patch_match(view1.box, view2.box, size, options_.patch, match);
  } else {
    patch_match(moved1.after(view_map(view1.box, size)), moved2.after(view_map(view2.box, size)),
                size, options_.patch, match);
  }
}

void BatchBuilder::build(Batch& batch, int64_t first_position, int64_t begin, int64_t end) {
  const engine::RngKey augment(options_.seed, engine::Purpose::kAugment);
  for (int64_t i = begin; i < end; ++i) {
    const engine::RngKey key = augment.with(static_cast<uint64_t>(first_position + i));
    dataset_.read(batch.samples[i], image_);
    const auto label = static_cast<int32_t>(dataset_.label(batch.samples[i]));
    if (options_.two_view) {
      build_pair(batch, i, key);
      batch.labels[2 * i] = batch.labels[2 * i + 1] = label;
    } else {
      if (options_.view_a.crop != Crop::kWhole) {
        Draw view = draw(options_.view_a, key.with(0));
        render(view, batch, i);
      } else if (batch.has_bytes()) {
        whole_.render_bytes(image_, batch.bytes.data() + i * view_size_);
      } else {
        whole_.render(image_, batch.pixels.data() + i * view_size_);
      }
      batch.labels[i] = label;
    }
  }
}

}  // namespace data
