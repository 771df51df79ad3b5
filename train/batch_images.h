#pragma once

#include <cstdint>
#include <memory>

#include "data/loader.h"
#include "engine/core/buffer.h"
#include "engine/core/upload_slots.h"
#include "train/config.h"

namespace train {

// The images of batches as a model sees them, on their way from a loader to the model's device. Of
// batches of bytes a GPU gets the bytes, a quarter of the pixels, by a stream of its own: those of
// the next batch may travel while this one is worked on. There they become f32 images
// (engine::normalise_bytes), the bits of the loader's pixels.
class BatchImages {
 public:
  explicit BatchImages(engine::Device device) : device_(device) {}

  // All images of the batch, (views, C, S, S) f32. Of bytes: on the device, in memory that is the
  // same at every call with no more views than before, valid until the next call. Of pixels: the
  // batch's own memory. Waits for nothing that is being computed. Error(kShape) for a batch of
  // another size of image than the config's.
  engine::Tensor show(const data::Batch& batch, const Config& config);

  // To be called when a step's work has been given to the device: what the loader shows next, if
  // that is bytes, begins its way to a GPU, for the show() that follows.
  void start_next(data::Loader& loader);
  void start_next(const data::Batch& next);
  // What was started and not shown is for nobody. To be called between loaders.
  void drop_next();

 private:
  // Where parts of a batch are in an upload, in bytes.
  struct Parts {
    explicit Parts(const data::Batch& batch);
    int64_t mirrored, erased, table, end;  // the views' bytes come first
  };
  void start(const data::Batch& batch);
  engine::Tensor room_for(const engine::Shape& shape);

  engine::Device device_;
  std::unique_ptr<engine::UploadSlots> slots_;  // made for the first batch of bytes, on a GPU
  const data::Batch* next_ = nullptr;           // what was started and not shown
  int64_t next_step_ = 0;
  engine::Buffer images_;
};

}  // namespace train
