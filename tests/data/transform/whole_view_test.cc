#include "data/transform/whole_view.h"

#include <doctest/doctest.h>

#include <vector>

#include "data/loader.h"
#include "data/memory_dataset.h"
#include "data/transform/render_view.h"
#include "engine/core/rng.h"
#include "tests/data/temp_folder.h"

using data::ImageU8;
using data::Normaliser;
using data::Resize;
using data::WholeView;
using data::test::error_of;
using engine::ErrorKind;

namespace {

ImageU8 noise_image(int64_t height, int64_t width) {
  ImageU8 image;
  image.reshape(height, width, 3);
  engine::RngStream rng(engine::RngKey(5, engine::Purpose::kTest));
  for (uint8_t& v : image.pixels) v = static_cast<uint8_t>(rng.integer(0, 256));
  return image;
}

std::vector<float> rendered(const ImageU8& image, int64_t size, Resize resize, int64_t shorter) {
  WholeView view(Normaliser(3, -1, 1), size, resize, shorter);
  std::vector<float> out(static_cast<size_t>(3 * size * size));
  view.render(image, out.data());
  return out;
}

}  // namespace

TEST_CASE("whole_view: without a crop it is what training sees of a whole picture") {
  const Normaliser normaliser(3, -1, 1);
  for (const auto& [height, width] :
       std::vector<std::pair<int64_t, int64_t>>{{40, 30}, {16, 16}, {7, 90}}) {
    const ImageU8 image = noise_image(height, width);
    data::ViewRenderer renderer(normaliser, 16);
    std::vector<float> want(3 * 16 * 16);
    renderer.render(image, {height, width, 0, 0, false}, want.data());
    CHECK(rendered(image, 16, Resize::kTfBilinear, 0) == want);
    // The others are other resizes, the same where there is nothing to resize.
    const bool same = height == 16 && width == 16;
    CHECK((rendered(image, 16, Resize::kTfArea, 0) == want) == same);
    CHECK((rendered(image, 16, Resize::kPilBilinear, 0) == want) == same);
  }
}

TEST_CASE("whole_view: the centre, where the shorter side is already right") {
  const ImageU8 image = noise_image(20, 29);
  const auto bytes_at = [&](int64_t y, int64_t x, int64_t c) {
    return -1 + 2 * static_cast<float>(image.at(y, x)[c]) / 255.0f;
  };
  for (const Resize resize : {Resize::kTfBilinear, Resize::kTfArea, Resize::kPilBilinear}) {
    const std::vector<float> out = rendered(image, 12, resize, 20);
    for (const int64_t y : {0, 5, 11}) {
      for (const int64_t x : {0, 7, 11}) {
        for (const int64_t c : {0, 1, 2}) {
          CHECK(out[(c * 12 + y) * 12 + x] ==
                doctest::Approx(bytes_at(4 + y, 8 + x, c)).epsilon(1e-6));
        }
      }
    }
  }
  CHECK(error_of([&] { rendered(image, 12, Resize::kTfArea, 11); }).kind == ErrorKind::kValue);
  CHECK(error_of([&] {
          rendered(ImageU8{0, 4, 3, {}}, 12, Resize::kTfArea, 0);
        }).kind == ErrorKind::kShape);
}

TEST_CASE("whole_view: a loader gives it, but not for training") {
  data::Info info{"noise", 3, 20, 29, 2, {}};
  std::vector<uint8_t> pixels;
  for (int i = 0; i < 3; ++i) {
    const ImageU8 image = noise_image(20, 29);
    pixels.insert(pixels.end(), image.pixels.begin(), image.pixels.end());
  }
  const data::MemoryDataset set(info, pixels, {0, 1, 1});
  data::LoaderOptions options;
  options.image_size = 8;
  options.batch = 2;
  options.view_a.crop = data::Crop::kWhole;
  options.view_a.resize = Resize::kTfArea;
  options.view_a.shorter = 10;
  data::Loader loader = data::Loader::evaluation(set, options);
  const data::Batch* batch = loader.next();
  const std::vector<float> want = rendered(noise_image(20, 29), 8, Resize::kTfArea, 10);
  CHECK(std::vector<float>(batch->pixels.begin(), batch->pixels.begin() + 192) == want);
  const auto refused = [&](auto change) {
    data::LoaderOptions other = options;
    change(other);
    return error_of([&] { data::Loader training(set, other); }).kind == ErrorKind::kValue;
  };
  CHECK(refused([](auto& o) { o.two_view = true; }));
  CHECK(refused([](auto& o) { o.view_a.flip = true; }));
  CHECK(refused([](auto& o) { o.view_a.randaugment.dialect = data::RandAugmentDialect::kVmoe; }));
  CHECK(refused([](auto& o) { o.view_a.shorter = 7; }));
}
