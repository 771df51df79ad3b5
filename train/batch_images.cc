#include "train/batch_images.h"

#include <cstring>

#include "engine/ops/normalise_bytes.h"
#include "train/model.h"

namespace train {

using engine::check;
using engine::Device;
using engine::Dtype;
using engine::ErrorKind;
using engine::Shape;
using engine::Tensor;

namespace {

template <class T>
int64_t bytes_of(const std::vector<T>& values) {
  return static_cast<int64_t>(values.size() * sizeof(T));
}

// A vector as a tensor.
template <class T>
Tensor view(const std::vector<T>& values, const Shape& shape, Dtype dtype) {
  return Tensor(const_cast<T*>(values.data()), shape, dtype,  // NOLINT: a view for reading
                Device::kCpu);
}

engine::ByteImages host_images(const data::Batch& batch, const Shape& shape) {
  engine::ByteImages in{view(batch.bytes, shape, Dtype::kU8),
                        view(batch.mirrored, {shape[0]}, Dtype::kU8),
                        view(batch.table, {shape[1], 256}, Dtype::kF32),
                        {}};
  static_assert(sizeof(data::ErasedBox) == 4 * sizeof(int32_t));
  if (!batch.erased.empty()) in.erased = view(batch.erased, {shape[0], 4}, Dtype::kI32);
  return in;
}

}  // namespace

BatchImages::Parts::Parts(const data::Batch& batch) {
  constexpr int64_t kUnit = 256;
  const auto after = [](int64_t begin, int64_t bytes) {
    return (begin + bytes + kUnit - 1) / kUnit * kUnit;
  };
  mirrored = after(0, bytes_of(batch.bytes));
  erased = after(mirrored, bytes_of(batch.mirrored));
  table = after(erased, bytes_of(batch.erased));
  end = after(table, bytes_of(batch.table));
}

void BatchImages::start(const data::Batch& batch) {
  if (next_ == &batch && next_step_ == batch.step) return;
  drop_next();
  if (slots_ == nullptr) slots_ = std::make_unique<engine::UploadSlots>();
  const Parts parts(batch);
  char* staged = slots_->stage(parts.end);
  const auto put = [staged](int64_t at, const auto& values) {
    if (!values.empty()) {
      std::memcpy(staged + at, values.data(), static_cast<size_t>(bytes_of(values)));
    }
  };
  put(0, batch.bytes);
  put(parts.mirrored, batch.mirrored);
  put(parts.erased, batch.erased);
  put(parts.table, batch.table);
  slots_->start();
  next_ = &batch;
  next_step_ = batch.step;
}

void BatchImages::start_next(data::Loader& loader) {
  if (device_ == Device::kCpu) return;
  const data::Batch* const next = loader.peek();
  if (next != nullptr) start_next(*next);
}

void BatchImages::start_next(const data::Batch& next) {
  if (device_ != Device::kCpu && next.has_bytes()) start(next);
}

void BatchImages::drop_next() {
  if (next_ == nullptr) return;
  slots_->take();
  slots_->release();
  next_ = nullptr;
}

Tensor BatchImages::room_for(const Shape& shape) {
  const Tensor& room = images_.tensor();
  if (!room.defined() || room.numel() < shape.numel()) {
    images_ = engine::Buffer({shape.numel()}, Dtype::kF32, device_);
  }
  return Tensor(images_.tensor().raw(), shape, Dtype::kF32, device_);
}

Tensor BatchImages::show(const data::Batch& batch, const Config& config) {
  if (!batch.has_bytes()) return pixels_of(batch, config);
  const int64_t side = config.model.image_size;
  const Shape shape{batch.views, config.model.channels, side, side};
  check(shape.numel() == bytes_of(batch.bytes) &&
            batch.views == static_cast<int64_t>(batch.mirrored.size()) &&
            shape[1] * 256 == static_cast<int64_t>(batch.table.size()),
        ErrorKind::kShape, "a batch of ", batch.bytes.size(), " bytes and ", batch.mirrored.size(),
        " views, expected ", shape);
  engine::ByteImages in = host_images(batch, shape);
  const Tensor out = room_for(shape);
  if (device_ == Device::kCpu) {
    engine::normalise_bytes(in, out);
    return out;
  }
  start(batch);
  const Parts parts(batch);
  char* const there = static_cast<char*>(const_cast<void*>(slots_->take()));  // NOLINT: to read
  const auto moved = [&](Tensor& x, int64_t at) {
    if (x.defined()) x = Tensor(there + at, x.shape(), x.dtype(), device_);
  };
  moved(in.bytes, 0);
  moved(in.mirrored, parts.mirrored);
  moved(in.erased, parts.erased);
  moved(in.table, parts.table);
  engine::normalise_bytes(in, out);
  slots_->release();
  next_ = nullptr;
  return out;
}

}  // namespace train
