#pragma once

#include <cstdint>

#include "data/crop_box.h"
#include "data/dataset.h"
#include "data/loader.h"
#include "data/transform/render_view.h"
#include "engine/core/rng.h"

namespace data {

// Fills batches, or parts of them: one builder for each worker, since it holds scratch.
class BatchBuilder {
 public:
  // Takes all memory it will need. Throws Error(kValue) for options that make no sense.
  BatchBuilder(const Dataset& dataset, const LoaderOptions& options);

  // Gives the arrays of views the memory that `views` views need.
  void reserve(Batch& batch, int64_t views) const;

  // Fills the views, labels and matches of source images [begin, end) of `batch`, whose
  // `samples` are set and whose arrays have their sizes. Source image i has position
  // first_position + i in the stream, which is the key of its random numbers.
  void build(Batch& batch, int64_t first_position, int64_t begin, int64_t end);

 private:
  // A view's box, and the random numbers that what follows goes on with.
  struct Draw {
    CropBox box;
    engine::RngStream rng;
    const ViewOptions* options;
    RandAugmenter* augmenter;  // null where there is none
  };
  Draw draw(const ViewOptions& view, const engine::RngKey& key);
  // Makes view `at` of the batch; returns how RandAugment moved what is in it.
  Affine render(Draw& view, Batch& batch, int64_t at);
  // The same of the view's pixels, once view_ holds them if anything changes bytes.
  void put_bytes(Draw& view, Batch& batch, int64_t at);
  void put_floats(Draw& view, Batch& batch, int64_t at);
  void build_pair(Batch& batch, int64_t source, const engine::RngKey& key);

  const Dataset& dataset_;
  LoaderOptions options_;
  int64_t view_size_;  // elements
  ViewRenderer renderer_;
  WholeView whole_;
  RandAugmenter augment_a_, augment_b_;
  ImageU8 image_, view_;
};

}  // namespace data
