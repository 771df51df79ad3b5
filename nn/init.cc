#include <cmath>

#include "engine/core/backend.h"
#include "nn/module.h"

namespace nn {
namespace {

using engine::check;
using engine::ErrorKind;
using engine::RngKey;

// Standard deviation of a standard normal cut at +-2.
constexpr double kTruncatedStd = 0.87962566103423978;
// Distribution function of the standard normal at -2.
constexpr double kPhiMinus2 = 0.022750131948179207;

double draw(const Init& init, const RngKey& key, uint64_t i) {
  const auto truncated = [&](double stddev) {
    const double p = kPhiMinus2 + (1 - 2 * kPhiMinus2) * key.uniform(i);
    return stddev * engine::normal_from_uniform(p);
  };
  switch (init.kind) {
    case InitKind::kZeros:
      return 0;
    case InitKind::kOnes:
      return 1;
    case InitKind::kConstant:
      return init.value;
    case InitKind::kNormal:
      return init.value * key.normal(i);
    case InitKind::kTruncatedNormal:
      return truncated(init.value);
    case InitKind::kLecunNormal:
      return truncated(std::sqrt(1.0 / static_cast<double>(init.fan_in)) / kTruncatedStd);
    case InitKind::kHeNormal:
      return truncated(std::sqrt(2.0 / static_cast<double>(init.fan_in)) / kTruncatedStd);
    case InitKind::kXavierUniform: {
      const double limit = std::sqrt(6.0 / static_cast<double>(init.fan_in + init.fan_out));
      return limit * (2 * key.uniform(i) - 1);
    }
    case InitKind::kUniform:
      return init.value * (2 * key.uniform(i) - 1);
  }
  engine::fail(ErrorKind::kInternal, "unknown initialiser ", static_cast<int>(init.kind));
}

}  // namespace

Init zeros() { return {}; }
Init ones() { return {.kind = InitKind::kOnes}; }
Init constant(double value) { return {.kind = InitKind::kConstant, .value = value}; }
Init normal(double stddev) { return {.kind = InitKind::kNormal, .value = stddev}; }
Init truncated_normal(double stddev) {
  return {.kind = InitKind::kTruncatedNormal, .value = stddev};
}
Init lecun_normal(int64_t fan_in) { return {.kind = InitKind::kLecunNormal, .fan_in = fan_in}; }
Init he_normal(int64_t fan_in) { return {.kind = InitKind::kHeNormal, .fan_in = fan_in}; }
Init xavier_uniform(int64_t fan_in, int64_t fan_out) {
  return {.kind = InitKind::kXavierUniform, .fan_in = fan_in, .fan_out = fan_out};
}
Init uniform(double limit) { return {.kind = InitKind::kUniform, .value = limit}; }

uint64_t hash_path(std::string_view path) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (const char c : path) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return hash;
}

void initialise(const engine::Tensor& value, const Init& init, uint64_t seed,
                std::string_view path) {
  check(init.copies >= 1 && value.numel() % init.copies == 0, ErrorKind::kShape,
        "initialise: ", init.copies, " copies in ", value.shape());
  const RngKey key = RngKey(seed, engine::Purpose::kInit).with(hash_path(path));
  if (value.device() != engine::Device::kCpu) {
    const engine::Buffer host(value.shape(), value.dtype());
    initialise(host.tensor(), init, seed, path);
    engine::device_copy(value.device(), value.raw(), engine::Device::kCpu, host.tensor().raw(),
                        value.bytes());
    return;
  }
  const int64_t period = value.numel() / init.copies;
  engine::dispatch_cpu(value, [&]<class T>(engine::Cpu) {
    T* out = value.data<T>();
    for (int64_t i = 0; i < value.numel(); ++i) {
      out[i] =
          i < period ? static_cast<T>(draw(init, key, static_cast<uint64_t>(i))) : out[i - period];
    }
  });
}

void Binder::parameter(const std::string& path, Parameter& p, const ParamSpec& spec) {
  if (declaring_) {
    store_.declare(path, spec.shape, spec.kernel, spec.trainable);
    return;
  }
  const engine::ParamStore::Entry& entry = store_.find(path);
  p.value = store_.view(entry, engine::Slab::kValue);
  if (with_grads_ && spec.trainable) p.grad = store_.view(entry, engine::Slab::kGrad);
  initialise(p.value, spec.init, seed_, path);
}

}  // namespace nn
