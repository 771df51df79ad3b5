#include "train/audit/dump.h"

#include <limits>

#include "engine/core/error.h"
#include "train/safetensors.h"

namespace train {

using engine::Shape;
using engine::Tensor;

namespace {

template <class T>
void append(std::vector<T>& to, const T* from, int64_t count) {
  to.insert(to.end(), from, from + count);
}

// A vector's elements as a tensor, for writing only.
template <class T>
NamedTensor named(const char* name, const std::vector<T>& v, const Shape& shape) {
  return {name, Tensor(const_cast<T*>(v.data()), shape,  // NOLINT: a view for reading
                       engine::dtype_of<T>(), engine::Device::kCpu)};
}

// Level after level, layer after layer, as one array.
std::vector<int32_t> joined(const std::vector<std::vector<int32_t>>& parts) {
  std::vector<int32_t> all;
  for (const std::vector<int32_t>& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

void append_each(std::vector<std::vector<int32_t>>& to,
                 const std::vector<std::vector<int32_t>>& from) {
  to.resize(from.size());
  for (size_t i = 0; i < from.size(); ++i) {
    append(to[i], from[i].data(), static_cast<int64_t>(from[i].size()));
  }
}

}  // namespace

void AuditDump::add_views(const data::Batch& batch, const moe::Routing& routing,
                          std::span<const AuditPair> pairs, const std::vector<uint8_t>& flat) {
  const int64_t tokens = routing.tokens, rows = batch.views * tokens;
  const int64_t before = routing.class_token ? 1 : 0, patches = tokens - before;
  const auto base = static_cast<int64_t>(columns_.image.size());
  engine::check(base + rows <= std::numeric_limits<int32_t>::max(), engine::ErrorKind::kValue,
                "dump: more than 2^31 rows; lower --limit");
  experts_ = routing.experts;
  top_k_ = routing.top_k;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t view = r / tokens, token = r % tokens;
    columns_.image.push_back(static_cast<int32_t>(batch.samples[view / 2]));
    columns_.layer.push_back(static_cast<int32_t>(routing.layer));
    columns_.token.push_back(static_cast<int32_t>(token));
    columns_.view.push_back(static_cast<int32_t>(1 + view % 2));
    columns_.flat.push_back(token < before ? 0 : flat[view * patches + token - before]);
    columns_.partner.push_back(-1);
  }
  for (const AuditPair& pair : pairs) {
    columns_.partner[base + pair.left] = static_cast<int32_t>(base + pair.right);
  }
  append(columns_.experts, routing.chosen.data<const int32_t>(), rows * top_k_);
  append(columns_.routed, routing.expert.data<const int32_t>(), rows * top_k_);
  append(columns_.probabilities, routing.clean.data<const float>(), rows * experts_);
}

void AuditDump::add_sweep(const data::Batch& batch, const NoiseSweep& sweep) {
  const NoiseSweep::Rows& rows = sweep.last_rows();
  for (int64_t b = 0; b < batch.views; ++b) {
    sweep_.image.push_back(static_cast<int32_t>(batch.samples[b]));
    sweep_.label.push_back(batch.labels[b]);
  }
  for (const uint8_t flat : rows.flat) sweep_.flat.push_back(flat);
  append_each(sweep_.predictions, rows.predictions);
  append_each(sweep_.top1, rows.top1);
}

void AuditDump::write(const std::string& path, const NoiseSweep& sweep) const {
  const auto rows = static_cast<int64_t>(columns_.image.size());
  const auto images = static_cast<int64_t>(sweep_.image.size());
  const auto levels = static_cast<int64_t>(sweep.sigmas().size());
  const int64_t patches = images > 0 ? static_cast<int64_t>(sweep_.flat.size()) / images : 0;
  const std::vector<int32_t> predictions = joined(sweep_.predictions), top1 = joined(sweep_.top1);
  const NamedTensor tensors[] = {
      named("image", columns_.image, {rows}),
      named("layer", columns_.layer, {rows}),
      named("token", columns_.token, {rows}),
      named("view", columns_.view, {rows}),
      named("flat", columns_.flat, {rows}),
      named("partner", columns_.partner, {rows}),
      named("experts", columns_.experts, {rows, top_k_}),
      named("routed", columns_.routed, {rows, top_k_}),
      named("probabilities", columns_.probabilities, {rows, experts_}),
      named("sweep.sigma", sweep.sigmas(), {levels}),
      named("sweep.image", sweep_.image, {images}),
      named("sweep.label", sweep_.label, {images}),
      named("sweep.flat", sweep_.flat, {images, patches}),
      named("sweep.prediction", predictions, {levels, images}),
      named("sweep.top1", top1, {levels, sweep.layers(), images, patches}),
  };
  write_safetensors(path, tensors);
}

}  // namespace train
