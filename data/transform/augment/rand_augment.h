#pragma once

#include <cstdint>

#include "data/dataset.h"
#include "data/transform/augment/affine.h"
#include "engine/core/rng.h"

namespace data {

// RandAugment as V-MoE and PRC use it (spec randaugment 1, 2, 4): `layers` times an operation drawn
// uniformly, at one magnitude M for all. On a view of bytes, after crop, resize and flip.
//
//   kVmoe     16 operations, grey beyond the borders (upstream V-MoE)
//   kPrc      a 17th that does nothing, pictures reflected at the borders (the PRC fork)
//   kLiteral  as kVmoe, without the published code's accidents: contrast is about the mean grey,
//             and solarize and posterize grow stronger with M: bits = 8 - 4 M/10 and threshold =
//             256 - 256 M/10 instead of 4 M/10 and 256 M/10 modulo 256
enum class RandAugmentDialect : uint8_t { kNone, kVmoe, kPrc, kLiteral };

// In the order in which the published code numbers them.
enum class AugmentOp : uint8_t {
  kAutoContrast,
  kEqualize,
  kInvert,
  kRotate,
  kPosterize,
  kSolarize,
  kColor,
  kContrast,
  kBrightness,
  kSharpness,
  kShearX,
  kShearY,
  kTranslateX,
  kTranslateY,
  kCutout,
  kSolarizeAdd,
  kIdentity
};
const char* augment_op_name(AugmentOp op);

struct RandAugment {
  RandAugmentDialect dialect = RandAugmentDialect::kNone;
  int64_t layers = 2;
  double magnitude = 10;
  bool active() const { return dialect != RandAugmentDialect::kNone && layers > 0; }
};

// What magnitude M means to an operation: degrees, bits, threshold, what is added, factor, level,
// pixels or half a side; positive, 0 for operations without an argument. Posterize keeps at most 8
// bits and at least 0.
double augment_argument(AugmentOp op, double magnitude, RandAugmentDialect dialect);

// Applies operations to views. Holds scratch: one for each thread; warm calls do not allocate.
class RandAugmenter {
 public:
  explicit RandAugmenter(const RandAugment& settings) : settings_(settings) {}

  // Takes the memory for views of this size now.
  void warm_up(int64_t height, int64_t width, int64_t channels) {
    scratch_.reshape(height, width, channels);
  }

  // Draws and applies the operations. Returns where a place of `view` has gone: the product of the
  // geometric operations' forward maps; what lies beyond the borders is not looked at.
  // Error(kShape) for other numbers of channels than 1 and 3.
  Affine apply(ImageU8& view, engine::RngStream& rng);

  // One operation; `argument` with its sign. Cutout's centre is (row, column).
  Affine apply_one(ImageU8& view, AugmentOp op, double argument, int64_t row, int64_t column);

 private:
  Affine transform(ImageU8& view, const Geometry& geometry);

  RandAugment settings_;
  ImageU8 scratch_;
};

}  // namespace data
