#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "data/transform/resize.h"
#include "data/transform/resize_area.h"
#include "data/transform/resize_pil.h"
#include "data/transform/whole_view.h"
#include "tests/support/tensors.h"
#include "tests/train/golden_file.h"
#include "train/safetensors.h"

// Resizing, bit by bit, as TensorFlow and Pillow do it (tests/reference/golden_resize.py).
using data::ImageF32;
using data::ImageU8;
using train::SafetensorsFile;

namespace {

const SafetensorsFile& file() {
  static const SafetensorsFile golden(ROBUSTMOE_SOURCE_DIR "/tests/golden/resize.safetensors");
  return golden;
}

ImageU8 bytes_of(const std::string& name) { return train::test::picture(file(), name); }

std::vector<float> floats_of(const SafetensorsFile::Entry& entry) {
  std::vector<float> values(static_cast<size_t>(entry.shape.numel()));
  file().read(entry.name, engine::test::view(values, entry.shape));
  return values;
}

// The part of a name between its i-th dot and the next.
std::string part(const std::string& name, int i) {
  size_t begin = 0;
  for (; i > 0; --i) begin = name.find('.', begin) + 1;
  return name.substr(begin, name.find('.', begin) - begin);
}

}  // namespace

TEST_CASE("golden: resize has the bits of TensorFlow and Pillow") {
  std::map<std::string, int> right, wrong;
  ImageU8 bytes, scratch;
  ImageF32 floats;
  for (const auto& entry : file().entries()) {
    const std::string dialect = part(entry.name, 1);
    if (!entry.name.starts_with("out.") || dialect == "pil13_bilinear") continue;
    const ImageU8 in = bytes_of("input." + part(entry.name, 2));
    const int64_t height = entry.shape[0], width = entry.shape[1];
    bool same = false;
    if (dialect == "tf_area") {
      data::resize_area(in, height, width, floats);
      same = engine::test::same_bytes(floats.pixels, floats_of(entry));
    } else {
      if (dialect == "tf_bilinear") data::resize(in, height, width, bytes);
      if (dialect == "pil_bilinear") data::resize_pil_bilinear(in, height, width, scratch, bytes);
      same = bytes.pixels == bytes_of(entry.name).pixels;
    }
    ++(same ? right : wrong)[dialect];
  }
  CHECK(wrong.empty());
  CHECK(right["tf_bilinear"] > 150);
  CHECK(right["tf_area"] > 150);
  CHECK(right["pil_bilinear"] > 150);
}

TEST_CASE("golden: sizes with a given shorter side, and their areas") {
  const auto* sizes = file().find("small_size");
  REQUIRE(sizes != nullptr);
  std::vector<int32_t> rows(static_cast<size_t>(sizes->shape.numel()));
  file().read("small_size", engine::test::view(rows, sizes->shape));
  for (size_t i = 0; i < rows.size(); i += 5) {
    CHECK(data::small_size(rows[i], rows[i + 1], rows[i + 2]) ==
          data::Size{rows[i + 3], rows[i + 4]});
  }
  int small = 0;
  ImageF32 out;
  for (const auto& entry : file().entries()) {
    if (!entry.name.starts_with("small.")) continue;
    const ImageU8 in = bytes_of("input." + part(entry.name, 1));
    const data::Size size = data::small_size(in.height, in.width, std::stoll(part(entry.name, 2)));
    data::resize_area(in, size.height, size.width, out);
    CHECK(engine::test::same_bytes(out.pixels, floats_of(entry)));
    ++small;
  }
  CHECK(small > 20);

  int central = 0;
  for (const auto& entry : file().entries()) {
    if (!entry.name.starts_with("central.")) continue;
    const ImageU8 in = bytes_of("input." + part(entry.name, 1));
    const int64_t shorter = std::stoll(part(entry.name, 2)), size = entry.shape[0];
    data::WholeView view(data::Normaliser(in.channels, 0, 255), size, data::Resize::kTfArea,
                         shorter);
    std::vector<float> planes(static_cast<size_t>(entry.shape.numel()));
    view.render(in, planes.data());
    const std::vector<float> want = floats_of(entry);
    double worst = 0;
    for (int64_t i = 0; i < size * size * in.channels; ++i) {
      const int64_t plane = i % in.channels * size * size + i / in.channels;
      worst = std::max(worst, std::abs(double{want[i]} - double{planes[plane]}));
    }
    CHECK(worst < 1e-4);  // of 255: x / 255 * 255 is rounded
    ++central;
  }
  CHECK(central > 30);
}
