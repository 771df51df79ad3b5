#pragma once

#include <span>
#include <string>
#include <string_view>

#include "engine/core/param_store.h"
#include "engine/core/precision.h"
#include "engine/core/rng.h"
#include "engine/core/tape.h"

// Layers as plain structs of parameters with a forward() and one visit(): the only list of
// what a layer owns. Nothing here holds train/eval state, so nothing can be left in the
// wrong mode.
namespace nn {

enum class Mode : uint8_t { kTrain, kEval };

// What the layers of a model report beside their output, and what a caller orders them to do beside
// their input, where there are such layers: types of their own (moe/routing.h).
struct Reports {
  Reports() = default;
  Reports(const Reports&) = delete;
  Reports& operator=(const Reports&) = delete;
  virtual ~Reports() = default;
};
struct Orders {
  Orders() = default;
  Orders(const Orders&) = delete;
  Orders& operator=(const Orders&) = delete;
  virtual ~Orders() = default;
};

// Everything a forward pass needs besides its input, passed down explicitly.
struct Forward {
  engine::Tape& tape;
  Mode mode = Mode::kEval;
  bool param_grads = true;  // false inside an attack: only d(loss)/d(input) is wanted
  bool replay = false;      // a recomputed segment: leaves statistics and Routing alone
  // Of the operands of every product but the routers' and the losses'.
  engine::Precision precision = engine::Precision::kF32;
  // Randomness (router noise, dropout) is a pure function of (seed, step, layer, sample,
  // element). sample_ids: the position of each image of this batch in the whole step, so that
  // micro-batches and processes draw what one big batch would.
  uint64_t seed = 0;
  int64_t step = 0;
  std::span<const int64_t> sample_ids = {};
  // On a GPU both once more in its memory, where a step that is replayed
  // (engine/core/step_replay.h) finds those of the day; null: whoever needs them brings them there.
  const int64_t *step_there = nullptr, *sample_ids_there = nullptr;
  Reports* reports = nullptr;
  const Orders* orders = nullptr;
};

// One tensor a layer owns; views into the model's ParamStore.
struct Parameter {
  engine::Tensor value;
  engine::Tensor grad;
  engine::Tensor on(Forward& f) const {
    if (!value.defined()) return {};
    return f.param_grads && grad.defined() ? f.tape.leaf(value, grad) : f.tape.input(value);
  }
};

// How a parameter starts. Fans are those of one matrix; a leading expert axis does not count.
enum class InitKind : uint8_t {
  kZeros,
  kOnes,
  kConstant,         // value
  kNormal,           // N(0, value^2)
  kTruncatedNormal,  // N(0, value^2) cut at two standard deviations
  kLecunNormal,      // truncated normal of variance 1/fan_in (after truncation)
  kHeNormal,         // truncated normal of variance 2/fan_in
  kXavierUniform,    // U(-a, a), a = sqrt(6 / (fan_in + fan_out))
  kUniform,          // U(-value, value)
};
struct Init {
  InitKind kind = InitKind::kZeros;
  double value = 0;
  int64_t fan_in = 0, fan_out = 0;
  // > 1: the leading axis holds this many copies (experts) of the same random numbers.
  int64_t copies = 1;
};
Init zeros();
Init ones();
Init constant(double value);
Init normal(double stddev);
Init truncated_normal(double stddev);
Init lecun_normal(int64_t fan_in);
Init he_normal(int64_t fan_in);
Init xavier_uniform(int64_t fan_in, int64_t fan_out);
Init uniform(double limit);

struct ParamSpec {
  engine::Shape shape;
  Init init;
  bool kernel = false;    // a matrix: weight decay of group "kernels" applies
  bool trainable = true;  // false: a running statistic
};

// Walks a model. Allocation, initialisation, checkpoints, optimizer groups and counting are
// all visitors, so none of them can forget a field.
class ParamVisitor {
 public:
  virtual ~ParamVisitor() = default;
  virtual void parameter(const std::string& path, Parameter& p, const ParamSpec& spec) = 0;

  void parameter_named(std::string_view name, Parameter& p, const ParamSpec& spec) {
    parameter(path_ + std::string(name), p, spec);
  }
  template <class LayerT>
  void child(std::string_view name, LayerT& layer) {
    const size_t length = path_.size();
    path_ += std::string(name) + ".";
    layer.visit(*this);
    path_.resize(length);
  }

 private:
  std::string path_;
};

// Lays a model's parameters out in `store` (kValue; also kGrad when `with_grads`), fills them
// from (seed, path) alone and points the model's Parameters there. `Model` has visit().
class Binder final : public ParamVisitor {
 public:
  Binder(engine::ParamStore& store, uint64_t seed, bool with_grads)
      : store_(store), seed_(seed), with_grads_(with_grads) {}
  template <class Model>
  void bind(Model& model, engine::Dtype dtype, engine::Device device = engine::Device::kCpu) {
    declaring_ = true;
    model.visit(*this);
    store_.allocate(dtype, device);
    if (with_grads_) store_.allocate(engine::Slab::kGrad);
    declaring_ = false;
    model.visit(*this);
  }
  void parameter(const std::string& path, Parameter& p, const ParamSpec& spec) override;

 private:
  engine::ParamStore& store_;
  uint64_t seed_;
  bool with_grads_;
  bool declaring_ = true;
};

// Fills a tensor (f32 or f64) by its initialiser, computed on the CPU; element i is a pure function
// of (seed, path, i).
void initialise(const engine::Tensor& value, const Init& init, uint64_t seed,
                std::string_view path);

// 64-bit hash of a path (FNV-1a): gives each layer its own random streams.
uint64_t hash_path(std::string_view path);

}  // namespace nn
