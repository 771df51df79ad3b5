#include "tools/commands/synthetic_batch.h"

#include "engine/core/rng.h"

namespace tools {

data::Batch synthetic_batch(const train::Config& config, engine::Device device) {
  data::Batch batch;
  const int64_t s = config.model.image_size,
                patches = (s / config.model.patch) * (s / config.model.patch);
  batch.views = config.train.batch;
  batch.sources = config.train.batch / (config.data.two_view ? 2 : 1);
  const engine::RngKey key(1, engine::Purpose::kTest);
  const auto count = static_cast<size_t>(batch.views * config.model.channels * s * s);
  if (device == engine::Device::kCpu || config.adversarial.kind != "none") {
    for (size_t i = 0; i < count; ++i) {
      batch.pixels.push_back(static_cast<float>(2 * key.uniform(i) - 1));
    }
  } else {
    for (size_t i = 0; i < count; ++i) {
      batch.bytes.push_back(static_cast<uint8_t>(key.below(i, 256)));
    }
    batch.mirrored.assign(static_cast<size_t>(batch.views), 0);
    for (int64_t i = 0; i < 256 * config.model.channels; ++i) {
      batch.table.push_back(static_cast<float>(i % 256) / 127.5f - 1);
    }
  }
  for (int64_t i = 0; i < batch.views; ++i) {
    const uint64_t source = static_cast<uint64_t>(config.data.two_view ? i / 2 : i);
    batch.labels.push_back(static_cast<int32_t>(
        key.with(1).below(source, static_cast<uint64_t>(config.model.classes))));
  }
  for (int64_t i = 0; i < batch.sources * patches; ++i) {
    batch.match.push_back(static_cast<int32_t>(i % patches));
  }
  return batch;
}

}  // namespace tools
