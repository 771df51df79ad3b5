#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <string>
#include <type_traits>

#include "engine/config.h"
#include "engine/core/error.h"
#include "engine/core/precision.h"

namespace engine {

class Tape;
class StepArena;

enum class Dtype : uint8_t { kF32, kF64, kBF16, kI32, kU8 };
enum class Device : uint8_t { kCpu, kCuda };

int64_t size_of(Dtype dtype);        // bytes of one element
const char* name_of(Dtype dtype);    // "f32", "f64", "bf16", "i32", "u8"
const char* name_of(Device device);  // "cpu", "cuda"

template <class T>
constexpr Dtype dtype_of() {
  using U = std::remove_const_t<T>;
  if constexpr (std::is_same_v<U, float>) return Dtype::kF32;
  if constexpr (std::is_same_v<U, double>) return Dtype::kF64;
  if constexpr (std::is_same_v<U, bf16>) return Dtype::kBF16;
  if constexpr (std::is_same_v<U, int32_t>) return Dtype::kI32;
  if constexpr (std::is_same_v<U, uint8_t>) return Dtype::kU8;
}

// Sizes of a dense row-major array; at most 6 axes, stored inline.
class Shape {
 public:
  static constexpr int kMaxRank = 6;
  constexpr Shape() = default;
  Shape(std::initializer_list<int64_t> sizes);

  constexpr int rank() const { return rank_; }
  // Size of an axis; negative axes count from the end.
  int64_t operator[](int axis) const {
    const int i = axis < 0 ? axis + rank_ : axis;
    check(i >= 0 && i < rank_, ErrorKind::kShape, "axis ", axis, " of a shape of rank ", rank_);
    return sizes_[i];
  }
  constexpr int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= sizes_[i];
    return n;
  }
  Shape with_last(int64_t size) const;  // last axis replaced
  Shape with_prepended(int64_t size) const;
  bool operator==(const Shape& other) const;

 private:
  int64_t sizes_[kMaxRank] = {};
  int rank_ = 0;
};
std::ostream& operator<<(std::ostream& os, const Shape& shape);
std::ostream& operator<<(std::ostream& os, Dtype dtype);
std::string to_string(const Shape& shape);  // "(2,3)"

// A shape seen as a matrix: all leading axes folded into rows.
struct RowsCols {
  int64_t rows = 0, cols = 0;
  constexpr int64_t numel() const { return rows * cols; }
};
RowsCols fold_rows(const Shape& shape);

// Whether a backward kernel overwrites its target or adds to it.
enum class GradWrite : uint8_t { kOverwrite, kAccumulate };

// Where in an arena a tensor was allocated, so that checked builds notice a view that
// outlived its mark. Empty in release builds.
struct ArenaTag {
  const StepArena* arena = nullptr;
  uint64_t epoch = 0;
  int32_t depth = 0;
};

// A view of a dense row-major array. Trivially copyable; never allocates or frees.
// What it points to belongs to a StepArena, a ParamStore, a Buffer or the caller.
class Tensor {
 public:
  Tensor() = default;
  Tensor(void* data, const Shape& shape, Dtype dtype, Device device)
      : data_(data), shape_(shape), dtype_(dtype), device_(device) {}

  bool defined() const { return data_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int64_t numel() const { return shape_.numel(); }
  int64_t bytes() const { return numel() * size_of(dtype_); }
  Dtype dtype() const { return dtype_; }
  Device device() const { return device_; }

  // The elements as T (Error(kDtype) if the tensor holds another type).
  template <class T>
  T* data() const {
    check(dtype_ == dtype_of<T>(), ErrorKind::kDtype, "tensor of ", dtype_, " read as ",
          dtype_of<T>());
    return static_cast<T*>(raw());
  }
  void* raw() const {
    if constexpr (kArenaChecks) check_alive();
    return data_;
  }

  // The same elements under another shape of equal count (no tape: see reshape()).
  Tensor viewed(const Shape& shape) const;
  // Rows [begin, end) of the leading axis (no tape: see slice()).
  Tensor rows(int64_t begin, int64_t end) const;

  // Set by Tape; -1: no gradient is wanted.
  Tape* tape() const { return tape_; }
  int slot() const { return slot_; }

 private:
  friend class Tape;
  friend class StepArena;
  void check_alive() const;

  void* data_ = nullptr;
  Shape shape_;
  Dtype dtype_ = Dtype::kF32;
  Device device_ = Device::kCpu;
  int slot_ = -1;
  Tape* tape_ = nullptr;
#ifdef ROBUSTMOE_CHECKS
  ArenaTag tag_;
#endif
};
static_assert(std::is_trivially_copyable_v<Tensor> && std::is_trivially_destructible_v<Tensor>);

}  // namespace engine
