#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "data/transform/augment/pixel_ops.h"
#include "data/transform/augment/rand_augment.h"
#include "data/transform/augment/warp.h"
#include "tests/support/tensors.h"
#include "tests/train/golden_file.h"
#include "train/safetensors.h"

// RandAugment's operations, byte by byte, against another implementation and TensorFlow's own
// operators (tests/reference/golden_randaugment.py).
using data::AugmentOp;
using data::ImageU8;
using data::RandAugmentDialect;
using train::SafetensorsFile;

namespace {

const SafetensorsFile& file() {
  static const SafetensorsFile golden(ROBUSTMOE_SOURCE_DIR "/tests/golden/randaugment.safetensors");
  return golden;
}

ImageU8 image_of(const std::string& name) { return train::test::picture(file(), name); }

// "out.rotate_grey.3.-30.0": operation, border, image and argument.
struct Case {
  std::string op, image, argument;
};
Case parsed(const std::string& name) {
  const size_t first = name.find('.') + 1, second = name.find('.', first),
               third = std::min(name.size(), name.find('.', second + 1));
  return {name.substr(first, second - first), name.substr(second + 1, third - second - 1),
          third < name.size() ? name.substr(third + 1) : ""};
}

bool drop_suffix(std::string& text, const std::string& suffix) {
  if (!text.ends_with(suffix)) return false;
  text.resize(text.size() - suffix.size());
  return true;
}

AugmentOp op_of(const std::string& name) {
  for (int i = 0; i < 17; ++i) {
    if (name == data::augment_op_name(static_cast<AugmentOp>(i))) return static_cast<AugmentOp>(i);
  }
  FAIL("unknown operation ", name);
  return AugmentOp::kIdentity;
}

// Applies it to the view; returns where places have gone.
data::Affine apply(const Case& c, ImageU8& view) {
  std::string name = c.op;
  RandAugmentDialect dialect = RandAugmentDialect::kVmoe;
  if (drop_suffix(name, "_reflect")) dialect = RandAugmentDialect::kPrc;
  if (drop_suffix(name, "_literal")) dialect = RandAugmentDialect::kLiteral;
  drop_suffix(name, "_grey");
  double argument = 0;
  int64_t row = 0, column = 0;
  if (name == "cutout") {
    const size_t comma = c.argument.find(','), last = c.argument.rfind(',');
    row = std::stoll(c.argument);
    column = std::stoll(c.argument.substr(comma + 1));
    argument = std::stod(c.argument.substr(last + 1));
  } else if (!c.argument.empty()) {
    argument = std::stod(c.argument);
  }
  data::RandAugmenter augmenter({dialect, 1, 10});
  return augmenter.apply_one(view, op_of(name), argument, row, column);
}

}  // namespace

TEST_CASE("golden: every RandAugment operation gives the reference's bytes") {
  std::map<std::string, int> cases, wrong;
  for (const auto& entry : file().entries()) {
    if (!entry.name.starts_with("out.")) continue;
    const Case c = parsed(entry.name);
    ImageU8 view = image_of("input." + c.image);
    apply(c, view);
    ++cases[c.op];
    if (view.pixels != image_of(entry.name).pixels) {
      ++wrong[c.op];
      MESSAGE(entry.name);
    }
  }
  CHECK(wrong.empty());
  CHECK(cases.size() == 22);  // 16 operations, five of them with two borders, contrast twice
  for (const auto& of_op : cases) CHECK_MESSAGE(of_op.second >= 5, of_op.first);
}

TEST_CASE("golden: matrices and arguments of RandAugment") {
  int matrices = 0;
  for (const auto& entry : file().entries()) {
    if (!entry.name.starts_with("matrix.")) continue;
    const Case c = parsed(entry.name);
    ImageU8 view = image_of("input." + c.image);
    const data::Affine map = apply(c, view);
    std::vector<double> want(9);
    file().read(entry.name, engine::test::view(want, entry.shape));
    for (size_t i = 0; i < 6; ++i) CHECK(std::abs(map.m[i] - want[i]) < 1e-9);
    ++matrices;
  }
  CHECK(matrices > 50);

  std::vector<double> args(4 * 8);
  file().read("args", engine::test::view(args, engine::Shape{4, 8}));
  const AugmentOp columns[] = {AugmentOp::kRotate,      AugmentOp::kPosterize, AugmentOp::kSolarize,
                               AugmentOp::kSolarizeAdd, AugmentOp::kColor,     AugmentOp::kShearX,
                               AugmentOp::kTranslateX,  AugmentOp::kCutout};
  for (size_t row = 0; row < 4; ++row) {
    for (size_t column = 0; column < 8; ++column) {
      CHECK(std::abs(data::augment_argument(columns[column], 5.0 * static_cast<double>(row + 1),
                                            RandAugmentDialect::kPrc) -
                     args[row * 8 + column]) < 1e-12);
    }
  }
}
