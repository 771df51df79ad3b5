#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/core/buffer.h"
#include "engine/core/tensor.h"

namespace engine {

// What a ParamStore keeps for every parameter: one flat slab each, in the same order.
enum class Slab : uint8_t { kValue, kGrad, kMoment1, kMoment2, kEma };

// Parameters of a model as flat slabs. Entries are declared first (declare()), then one
// allocate() lays them out, each starting on 64 bytes; padding stays zero. Optimizer,
// norm clipping, checkpoint and all-reduce are loops over one array.
class ParamStore {
 public:
  struct Entry {
    std::string path;
    Shape shape;
    bool decay = true;      // weight decay applies
    bool trainable = true;  // false: a running statistic, kept and saved, never optimised
    int64_t offset = 0;     // in elements
  };

  // Error(kValue) when the path is already there or the store is allocated.
  void declare(const std::string& path, const Shape& shape, bool decay, bool trainable);
  // Lays out the entries and allocates kValue (zeros). f32 or f64.
  void allocate(Dtype dtype, Device device = Device::kCpu);
  // Allocates a further slab (zeros); a second call does nothing.
  void allocate(Slab slab);

  bool has(Slab slab) const { return slabs_[index(slab)].tensor().defined(); }
  // The whole slab, (padded_count()).
  Tensor slab(Slab slab) const;
  // One entry's part of a slab, in its own shape.
  Tensor view(const Entry& entry, Slab slab) const;
  // Error(kValue) if there is none of that path.
  const Entry& find(const std::string& path) const;

  const std::vector<Entry>& entries() const { return entries_; }
  int64_t count() const;                            // parameters, without padding
  int64_t padded_count() const { return padded_; }  // elements of a slab
  Dtype dtype() const { return dtype_; }
  Device device() const { return device_; }
  void zero(Slab slab);

 private:
  static size_t index(Slab slab) { return static_cast<size_t>(slab); }
  std::vector<Entry> entries_;
  std::map<std::string, size_t> by_path_;
  Buffer slabs_[5];
  int64_t padded_ = 0;
  Dtype dtype_ = Dtype::kF32;
  Device device_ = Device::kCpu;
  bool allocated_ = false;
};

}  // namespace engine
