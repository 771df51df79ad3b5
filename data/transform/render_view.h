#pragma once

#include <cstdint>

#include "data/crop_box.h"
#include "data/dataset.h"
#include "data/transform/normalise.h"
#include "data/transform/resize.h"

namespace data {

// From a picture and a box to what the model sees: crop, resize to S x S, truncate to bytes,
// mirror, normalise, in one pass. The bits are those of crop(), resize(), flip() and
// Normaliser::apply() one after another. A box of S x S is copied without a resize; outside
// the picture it is black.
//
// Holds scratch: one for each thread. Warm calls do not allocate.
class ViewRenderer {
 public:
  ViewRenderer(Normaliser normaliser, int64_t image_size);

  // Takes the memory for pictures up to height x width now.
  void warm_up(int64_t height, int64_t width);

  // out (C, S, S) f32. Throws Error(kShape) for an empty box or another number of channels.
  void render(const ImageU8& image, const CropBox& box, float* out);

  // The same without the last two: out (C, S, S) bytes, whose mirror image (where box.flip says
  // so), looked up in normaliser().table(), is what the model sees.
  void render_bytes(const ImageU8& image, const CropBox& box, uint8_t* out);

  // The first in two halves, for what changes bytes in between: cut() gives the mirrored view of
  // (S, S, C) bytes, normalise() what the model sees of it.
  void cut(const ImageU8& image, const CropBox& box, ImageU8& out);
  void normalise(const ImageU8& view, float* out) const { normaliser_.apply(view, out); }
  const Normaliser& normaliser() const { return normaliser_; }

 private:
  void copy(const ImageU8& image, const CropBox& box, float* out) const;
  void check_input(const ImageU8& image, const CropBox& box) const;

  Normaliser normaliser_;
  int64_t size_;
  BilinearRows rows_;
  ImageU8 padded_;
  std::vector<uint8_t> bytes_;  // (C, S) a row of the view
};

}  // namespace data
