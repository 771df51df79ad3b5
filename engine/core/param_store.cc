#include "engine/core/param_store.h"

namespace engine {

void ParamStore::declare(const std::string& path, const Shape& shape, bool decay, bool trainable) {
  check(!allocated_, ErrorKind::kValue, "parameter ", path, " declared after allocation");
  check(by_path_.emplace(path, entries_.size()).second, ErrorKind::kValue, "parameter ", path,
        " declared twice");
  entries_.push_back({path, shape, decay, trainable, 0});
}

void ParamStore::allocate(Dtype dtype, Device device) {
  check(!allocated_, ErrorKind::kValue, "parameters allocated twice");
  const int64_t align = 64 / size_of(dtype);
  padded_ = 0;
  for (Entry& entry : entries_) {
    entry.offset = padded_;
    padded_ += (entry.shape.numel() + align - 1) / align * align;
  }
  dtype_ = dtype;
  device_ = device;
  allocated_ = true;
  allocate(Slab::kValue);
}

void ParamStore::allocate(Slab slab) {
  check(allocated_, ErrorKind::kValue, "slab asked for before the parameters were laid out");
  if (!has(slab)) slabs_[index(slab)] = Buffer({padded_}, dtype_, device_);
}

Tensor ParamStore::slab(Slab slab) const {
  check(has(slab), ErrorKind::kInternal, "slab ", static_cast<int>(slab), " is not allocated");
  return slabs_[index(slab)].tensor();
}

Tensor ParamStore::view(const Entry& entry, Slab slab) const {
  return this->slab(slab)
      .rows(entry.offset, entry.offset + entry.shape.numel())
      .viewed(entry.shape);
}

const ParamStore::Entry& ParamStore::find(const std::string& path) const {
  const auto it = by_path_.find(path);
  check(it != by_path_.end(), ErrorKind::kValue, "no parameter is called ", path);
  return entries_[it->second];
}

int64_t ParamStore::count() const {
  int64_t sum = 0;
  for (const Entry& entry : entries_) {
    if (entry.trainable) sum += entry.shape.numel();
  }
  return sum;
}

void ParamStore::zero(Slab slab) {
  const Tensor all = this->slab(slab);
  device_zero(all.device(), all.raw(), all.bytes());
}

}  // namespace engine
