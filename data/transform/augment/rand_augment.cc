#include "data/transform/augment/rand_augment.h"

#include <algorithm>
#include <utility>

#include "data/transform/augment/pixel_ops.h"
#include "data/transform/augment/warp.h"
#include "engine/core/error.h"

namespace data {
namespace {

using engine::check;
using engine::ErrorKind;

constexpr const char* kNames[] = {
    "autocontrast", "equalize",    "invert",     "rotate",       "posterize", "solarize",
    "color",        "contrast",    "brightness", "sharpness",    "shear_x",   "shear_y",
    "translate_x",  "translate_y", "cutout",     "solarize_add", "identity"};

// Whether the sign of an operation's argument is drawn.
bool has_sign(AugmentOp op) {
  return op == AugmentOp::kRotate || op == AugmentOp::kShearX || op == AugmentOp::kShearY ||
         op == AugmentOp::kTranslateX || op == AugmentOp::kTranslateY;
}

double whole(double x) { return static_cast<double>(static_cast<int64_t>(x)); }

}  // namespace

const char* augment_op_name(AugmentOp op) { return kNames[static_cast<size_t>(op)]; }

double augment_argument(AugmentOp op, double magnitude, RandAugmentDialect dialect) {
  const double share = magnitude / 10;
  const bool literal = dialect == RandAugmentDialect::kLiteral;
  switch (op) {
    case AugmentOp::kRotate:
      return share * 30;
    case AugmentOp::kPosterize: {
      const double bits = std::min(8.0, whole(share * 4));
      return literal ? 8 - bits : bits;
    }
    case AugmentOp::kSolarize: {
      const double threshold = whole(share * 256);
      return literal ? 256 - std::min(256.0, threshold)
                     : static_cast<double>(static_cast<int64_t>(threshold) % 256);
    }
    case AugmentOp::kSolarizeAdd:
      return whole(share * 110);
    case AugmentOp::kColor:
    case AugmentOp::kContrast:
    case AugmentOp::kBrightness:
    case AugmentOp::kSharpness:
      return share * 1.8 + 0.1;
    case AugmentOp::kShearX:
    case AugmentOp::kShearY:
      return share * 0.3;
    case AugmentOp::kTranslateX:
    case AugmentOp::kTranslateY:
      return share * 100;
    case AugmentOp::kCutout:
      return whole(share * 40);
    case AugmentOp::kAutoContrast:
    case AugmentOp::kEqualize:
    case AugmentOp::kInvert:
    case AugmentOp::kIdentity:
      break;
  }
  return 0;
}

Affine RandAugmenter::transform(ImageU8& view, const Geometry& geometry) {
  warp(view, geometry,
       settings_.dialect == RandAugmentDialect::kPrc ? Border::kReflect : Border::kGrey, scratch_);
  std::swap(view, scratch_);
  return geometry.forward;
}

Affine RandAugmenter::apply_one(ImageU8& view, AugmentOp op, double argument, int64_t row,
                                int64_t column) {
  const auto number = static_cast<int>(argument);
  const auto factor = static_cast<float>(argument);
  switch (op) {
    case AugmentOp::kAutoContrast:
      autocontrast(view);
      break;
    case AugmentOp::kEqualize:
      equalize(view);
      break;
    case AugmentOp::kInvert:
      invert(view);
      break;
    case AugmentOp::kPosterize:
      posterize(view, number);
      break;
    case AugmentOp::kSolarize:
      solarize(view, number);
      break;
    case AugmentOp::kSolarizeAdd:
      solarize_add(view, number);
      break;
    case AugmentOp::kColor:
      color(view, factor);
      break;
    case AugmentOp::kContrast:
      contrast(view, factor,
               settings_.dialect == RandAugmentDialect::kLiteral ? ContrastCentre::kMean
                                                                 : ContrastCentre::kHistogram);
      break;
    case AugmentOp::kBrightness:
      brightness(view, factor);
      break;
    case AugmentOp::kSharpness:
      sharpness(view, factor, scratch_);
      break;
    case AugmentOp::kCutout:
      cutout(view, row, column, number, 128);
      break;
    case AugmentOp::kRotate:
      return transform(view, rotation(view.height, view.width, argument));
    case AugmentOp::kShearX:
      return transform(view, shear_x(argument));
    case AugmentOp::kShearY:
      return transform(view, shear_y(argument));
    case AugmentOp::kTranslateX:
      return transform(view, translation_x(argument));
    case AugmentOp::kTranslateY:
      return transform(view, translation_y(argument));
    case AugmentOp::kIdentity:
      break;
  }
  return {};
}

Affine RandAugmenter::apply(ImageU8& view, engine::RngStream& rng) {
  check(view.channels == 1 || view.channels == 3, ErrorKind::kShape, "RandAugment: a picture of ",
        view.channels, " channels, expected 1 or 3");
  const int64_t operations = settings_.dialect == RandAugmentDialect::kPrc ? 17 : 16;
  Affine moved;
  for (int64_t layer = 0; layer < settings_.layers; ++layer) {
    const auto op = static_cast<AugmentOp>(rng.integer(0, operations));
    double argument = augment_argument(op, settings_.magnitude, settings_.dialect);
    if (has_sign(op) && rng.uniform() < 0.5) argument = -argument;
    int64_t row = 0, column = 0;
    if (op == AugmentOp::kCutout) {
      row = rng.integer(0, view.height);
      column = rng.integer(0, view.width);
    }
    moved = apply_one(view, op, argument, row, column).after(moved);
  }
  return moved;
}

}  // namespace data
