#pragma once

#include "data/dataset.h"
#include "data/transform/normalise.h"
#include "data/transform/resize_area.h"

namespace data {

// How pictures are brought to another size. kTfBilinear: TensorFlow's, without antialiasing,
// truncated to bytes (resize.h). kTfArea: TensorFlow's averages, not truncated (resize_area.h).
// kPilBilinear: Pillow's, antialiased, rounded to bytes (resize_pil.h).
enum class Resize : uint8_t { kTfBilinear, kTfArea, kPilBilinear };

// Whole pictures as evaluation sees them: resized to S x S whatever their shape, or with their
// shorter side to `shorter` and then their central S x S pixels, from row (H - S) / 2 and column
// (W - S) / 2 on. (vmoe: data/pp_ops.py; resize_small there is kTfArea)
//
// Holds scratch: one for each thread. Bilinear resizes allocate in every call.
class WholeView {
 public:
  // shorter: 0, or at least image_size. Error(kValue).
  WholeView(const Normaliser& normaliser, int64_t image_size, Resize resize, int64_t shorter);

  // out (C, S, S) f32, normalised. Error(kShape) for another number of channels or an empty
  // picture.
  void render(const ImageU8& image, float* out);

  // Is what is normalised bytes? kTfArea averages without truncating.
  static bool gives_bytes(Resize resize) { return resize != Resize::kTfArea; }
  // Those bytes, out (C, S, S). Errors as render(); Error(kInternal) where there are none.
  void render_bytes(const ImageU8& image, uint8_t* out);

 private:
  Size target(const ImageU8& image) const;
  const ImageU8& bytes_of(const ImageU8& image);

  Normaliser normaliser_;
  int64_t size_, shorter_;
  Resize resize_;
  ImageU8 bytes_, scratch_, cropped_;
  ImageF32 floats_, cropped_floats_;
};

}  // namespace data
