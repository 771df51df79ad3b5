#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/dataset.h"
#include "data/transform/augment/color_jitter.h"
#include "data/transform/augment/rand_augment.h"
#include "data/transform/random_erasing.h"
#include "data/transform/whole_view.h"

namespace data {

// How a view is cut from its picture.
//   kNone       the whole picture, resized to image_size where it has another size
//   kWhole      the same by `resize`, or its centre (transform/whole_view.h); for evaluation: it
//               has no flip, no RandAugment and no second view
//   kInception  a random part, resized (transform/inception_crop.h)
//   kPad        the picture shifted by up to `pad` pixels, black beyond its edge
//               (transform/pad_crop.h), resized where it has another size than image_size
enum class Crop { kNone, kWhole, kInception, kPad };

struct ViewOptions {
  Crop crop = Crop::kNone;
  double area_min = 0.05, area_max = 1.0;       // kInception: share of the picture
  double aspect_min = 0.75, aspect_max = 1.33;  // kInception: width / height
  int64_t pad = 4;                              // kPad: pixels of the picture
  bool flip = false;                            // mirror half of the views
  RandAugment randaugment;                      // after crop, resize and flip
  ColorJitter jitter;                           // after that
  double erasing = 0;                           // share of views erased in part, last of all
  Resize resize = Resize::kTfBilinear;          // kWhole
  int64_t shorter = 0;                          // kWhole: the shorter side before a central crop

  // Is something done to a view's bytes before they are normalised?
  bool changes_bytes() const { return randaugment.active() || jitter.active(); }
};

struct LoaderOptions {
  int64_t image_size = 32, patch = 4;  // pixels; `patch` is for correspondences only
  int64_t batch = 128;                 // source images a step; each gives two views if two_view
  bool two_view = false;
  ViewOptions view_a, view_b;       // a single view uses view_a
  double low = -1, high = 1;        // value range, used where `mean` is empty
  std::vector<float> mean, stddev;  // (channels), on pixels scaled to [0, 1]
  bool bytes = false;  // batches of bytes (Batch::bytes), wherever what is normalised is bytes
  bool shuffle = true;
  uint64_t seed = 0;
  int64_t workers = 1;   // threads; 0: the work is done inside next()
  int64_t prefetch = 3;  // batches ready or in work besides the one handed out
  int64_t limit = 0;     // use only the first `limit` images; 0: all
  // So many neighbouring positions of a training stream show the same image, each in a crop of its
  // own (repeated augmentation, Hoffer et al. 2020); an image thus comes as often in as many steps.
  int64_t repeats = 1;
};

// One step's input. Views of a pair are neighbours: views 2i and 2i+1 are view 1 and view 2 of
// source image i (two_view.h says which is which); labels are repeated.
//
// Views are either `pixels` as the model sees them, or, where LoaderOptions::bytes is on, what
// makes them the same bits wherever that is done: `bytes`, read from right to left where `mirrored`
// says so, looked up in `table`, and then the box of `erased` set to 0. RandAugment and jitter see
// mirrored views, so theirs are not mirrored again. Views of averaged areas (Resize::kTfArea) are
// no bytes and stay `pixels`.
struct Batch {
  int64_t step = 0;
  int64_t sources = 0;            // source images
  int64_t views = 0;              // images: sources, or 2 * sources
  std::vector<float> pixels;      // (views, C, S, S), or empty
  std::vector<int32_t> labels;    // (views)
  std::vector<int32_t> match;     // (sources, patches): partner in view 2 or -1; two_view only
  std::vector<int64_t> samples;   // (sources) index in the data set
  std::vector<uint8_t> bytes;     // (views, C, S, S), or empty as are all below
  std::vector<uint8_t> mirrored;  // (views) 0 or 1
  std::vector<ErasedBox> erased;  // (views); empty without random erasing
  std::vector<float> table;       // (C, 256)

  bool has_bytes() const { return !bytes.empty(); }
};

enum class Stream {
  kTraining,   // endless: step s holds positions [s*batch, (s+1)*batch) of epoch after epoch
  kEvaluation  // in order, each image once, the last batch may be smaller
};

// Makes batches on worker threads ahead of the training loop.
//
// Deterministic: every random number is a function of the seed and the position in the
// stream, so a batch depends on (data set, options, step) and not on workers, prefetch or
// first_step. Memory is taken in the constructor: neither next() nor a worker allocates, but
// for kWhole.
//
// The constructor throws Error(kValue) for options that make no sense. next() throws what a
// worker threw, at the step it happened in, and throws it again when called again.
class Loader {
 public:
  // `dataset` must outlive the loader. An evaluation stream ignores `shuffle`.
  Loader(const Dataset& dataset, const LoaderOptions& options, int64_t first_step = 0,
         Stream stream = Stream::kTraining);
  static Loader evaluation(const Dataset& dataset, const LoaderOptions& options);
  ~Loader();  // joins the workers; at any moment
  Loader(Loader&&) noexcept;
  Loader& operator=(Loader&&) = delete;

  // The next batch, valid until the following call; nullptr after an evaluation stream's last.
  const Batch* next();

  // What the next call of next() will return, now; the batch at hand stays valid. It waits as
  // next() does. Null where next() would return null or throw, and where there is room for one
  // batch only (workers = 0 without bytes).
  const Batch* peek();

  // Time next() and peek() have spent waiting for a batch (workers = 0: making it), summed.
  double wait_seconds() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace data
