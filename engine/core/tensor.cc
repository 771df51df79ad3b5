#include "engine/core/tensor.h"

#include <ostream>

#include "engine/core/arena.h"

namespace engine {

int64_t size_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF32:
      return 4;
    case Dtype::kF64:
      return 8;
    case Dtype::kBF16:
      return 2;
    case Dtype::kI32:
      return 4;
    case Dtype::kU8:
      return 1;
  }
  fail(ErrorKind::kInternal, "unknown dtype ", static_cast<int>(dtype));
}

const char* name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF32:
      return "f32";
    case Dtype::kF64:
      return "f64";
    case Dtype::kBF16:
      return "bf16";
    case Dtype::kI32:
      return "i32";
    case Dtype::kU8:
      return "u8";
  }
  return "?";
}

const char* name_of(Device device) { return device == Device::kCpu ? "cpu" : "cuda"; }

Shape::Shape(std::initializer_list<int64_t> sizes) {
  check(sizes.size() <= kMaxRank, ErrorKind::kShape, "a shape has at most ", kMaxRank,
        " axes, got ", sizes.size());
  for (const int64_t size : sizes) {
    check(size >= 0, ErrorKind::kShape, "a size must not be negative, got ", size);
    sizes_[rank_++] = size;
  }
}

Shape Shape::with_last(int64_t size) const {
  check(rank_ > 0, ErrorKind::kShape, "a rank-0 shape has no last axis");
  Shape out = *this;
  out.sizes_[rank_ - 1] = size;
  return out;
}

Shape Shape::with_prepended(int64_t size) const {
  check(rank_ < kMaxRank, ErrorKind::kShape, "a shape has at most ", kMaxRank, " axes");
  Shape out;
  out.rank_ = rank_ + 1;
  out.sizes_[0] = size;
  for (int i = 0; i < rank_; ++i) out.sizes_[i + 1] = sizes_[i];
  return out;
}

bool Shape::operator==(const Shape& other) const {
  if (rank_ != other.rank_) return false;
  for (int i = 0; i < rank_; ++i) {
    if (sizes_[i] != other.sizes_[i]) return false;
  }
  return true;
}

std::ostream& operator<<(std::ostream& os, const Shape& shape) {
  os << '(';
  for (int i = 0; i < shape.rank(); ++i) os << (i > 0 ? "," : "") << shape[i];
  return os << ')';
}

std::ostream& operator<<(std::ostream& os, Dtype dtype) { return os << name_of(dtype); }

std::string to_string(const Shape& shape) {
  std::ostringstream text;
  text << shape;
  return text.str();
}

RowsCols fold_rows(const Shape& shape) {
  check(shape.rank() >= 1, ErrorKind::kShape, "a rank-0 shape has no rows");
  const int64_t cols = shape[-1];
  int64_t rows = 1;
  for (int i = 0; i + 1 < shape.rank(); ++i) rows *= shape[i];
  return {rows, cols};
}

Tensor Tensor::viewed(const Shape& shape) const {
  check(shape.numel() == numel(), ErrorKind::kShape, "cannot view ", shape_, " as ", shape);
  Tensor out = *this;
  out.shape_ = shape;
  out.tape_ = nullptr;
  out.slot_ = -1;
  return out;
}

Tensor Tensor::rows(int64_t begin, int64_t end) const {
  check(shape_.rank() >= 1 && begin >= 0 && begin <= end && end <= shape_[0], ErrorKind::kShape,
        "rows ", begin, " to ", end, " of ", shape_);
  const int64_t stride = shape_[0] > 0 ? numel() / shape_[0] * size_of(dtype_) : 0;
  Tensor out = *this;
  out.data_ = static_cast<char*>(data_) + begin * stride;
  Shape cut;
  switch (shape_.rank()) {
    case 1:
      cut = {end - begin};
      break;
    case 2:
      cut = {end - begin, shape_[1]};
      break;
    case 3:
      cut = {end - begin, shape_[1], shape_[2]};
      break;
    case 4:
      cut = {end - begin, shape_[1], shape_[2], shape_[3]};
      break;
    case 5:
      cut = {end - begin, shape_[1], shape_[2], shape_[3], shape_[4]};
      break;
    default:
      cut = {end - begin, shape_[1], shape_[2], shape_[3], shape_[4], shape_[5]};
  }
  out.shape_ = cut;
  out.tape_ = nullptr;
  out.slot_ = -1;
  return out;
}

void Tensor::check_alive() const {
#ifdef ROBUSTMOE_CHECKS
  if (tag_.arena != nullptr) {
    check(tag_.arena->alive(tag_), ErrorKind::kInternal, "tensor ", shape_,
          " outlived the arena mark it was allocated under");
  }
#endif
}

}  // namespace engine
