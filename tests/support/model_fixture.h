#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "engine/core/param_store.h"
#include "engine/ops/cross_entropy.h"
#include "engine/ops/pointwise.h"
#include "moe/balance_loss.h"
#include "moe/prc_loss.h"
#include "moe/vmoe.h"
#include "tests/reference/naive_vmoe.h"
#include "tests/support/tensors.h"

// Small models with their parameters, random batches for them, one training step with every
// loss, and the way from all of that to tests/reference/naive_vmoe.h.
namespace engine::test {

// The numbers of an f32 or f64 tensor.
inline naive::Vec f64_of(const Tensor& x) {
  if (x.dtype() == Dtype::kF64) return copy_of<double>(x);
  const auto v = copy_of<float>(x);
  return {v.begin(), v.end()};
}
inline naive::Indices indices_of(const Tensor& x) {
  const auto v = copy_of<int32_t>(x);
  return {v.begin(), v.end()};
}
template <class T>
naive::Vec f64_of(const std::vector<T>& v) {
  return {v.begin(), v.end()};
}
// The one number of a loss; makes no heap allocation.
inline double scalar(const Tensor& x) {
  return x.dtype() == Dtype::kF64 ? x.data<const double>()[0] : x.data<const float>()[0];
}

// max |a - b| / max |b|: the error of a tensor. Of a tensor of zeros nothing may differ.
inline double error_of(const naive::Vec& a, const naive::Vec& b) {
  if (a.size() != b.size()) return INFINITY;
  double worst = 0, largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i])) return INFINITY;
    worst = std::max(worst, std::abs(a[i] - b[i]));
    largest = std::max(largest, std::abs(b[i]));
  }
  if (worst == 0) return 0;
  return largest == 0 ? INFINITY : worst / largest;
}
inline double error_of(double a, double b) { return error_of(naive::Vec{a}, naive::Vec{b}); }

// The tensor of `want` that `got` is furthest from.
struct WorstTensor {
  double error = 0;
  std::string path;
  bool ok(double tolerance) const { return error <= tolerance; }
  friend std::ostream& operator<<(std::ostream& os, const WorstTensor& w) {
    return os << w.path << " is off by " << w.error;
  }
};
inline WorstTensor worst_of(const naive::Params& got, const naive::Params& want) {
  if (got.size() != want.size()) return {INFINITY, "the number of tensors"};
  WorstTensor worst;
  for (const auto& [path, v] : want) {
    const double error = got.count(path) == 0 ? INFINITY : error_of(got.at(path), v);
    if (error > worst.error) worst = {error, path};
  }
  return worst;
}

// A model with parameters and gradients, as its initialisers leave it.
template <class Model>
struct Bound {
  template <class Config>
  explicit Bound(const Config& config, Dtype dtype = Dtype::kF64, uint64_t seed = 1)
      : model(config) {
    nn::Binder(store, seed, /*with_grads=*/true).bind(model, dtype);
  }
  Model model;
  ParamStore store;
};

inline naive::Params params_of(const ParamStore& store, Slab slab = Slab::kValue) {
  naive::Params params;
  for (const auto& entry : store.entries()) params[entry.path] = f64_of(store.view(entry, slab));
  return params;
}

inline void set_param(ParamStore& store, const std::string& path, const naive::Vec& v) {
  const Tensor to = store.view(store.find(path), Slab::kValue);
  check(static_cast<int64_t>(v.size()) == to.numel(), ErrorKind::kShape, "set_param: ", path);
  for (size_t i = 0; i < v.size(); ++i) {
    if (to.dtype() == Dtype::kF64) {
      to.data<double>()[i] = v[i];
    } else {
      to.data<float>()[i] = static_cast<float>(v[i]);
    }
  }
}
// Entries that `params` does not name stay as they are.
inline void set_params(ParamStore& store, const naive::Params& params) {
  for (const auto& [path, v] : params) set_param(store, path, v);
}

// Gives every parameter random numbers, so that no bias and no output layer is zero.
inline void randomise(ParamStore& store, uint64_t seed = 3) {
  for (const auto& entry : store.entries()) {
    naive::Vec v = values<double>(entry.shape.numel(), seed++, 0.5);
    for (double& x : v) x += entry.path.ends_with(".scale") ? 1 : 0;
    if (entry.path.ends_with("router.weight")) {
      for (double& x : v) x *= 2;
    }
    set_param(store, entry.path, v);
  }
}

// Collects what a model declares, without memory for it.
class Declared final : public nn::ParamVisitor {
 public:
  template <class Model>
  explicit Declared(Model& model) {
    model.visit(*this);
  }
  void parameter(const std::string& path, nn::Parameter&, const nn::ParamSpec& spec) override {
    store.declare(path, spec.shape, spec.kernel, spec.trainable);
  }
  ParamStore store;
};

// Three blocks of width 12, four patches and a class token; MoE layers in blocks 0 and 2.
inline moe::VmoeConfig small_vmoe(int64_t experts = 4, int64_t top_k = 2) {
  moe::VmoeConfig c;
  c.vit = {.image_size = 8,
           .channels = 2,
           .patch = 4,
           .classes = 5,
           .width = 12,
           .mlp = 20,
           .heads = 3,
           .layers = 3};
  c.moe.experts = experts;
  c.moe.top_k = top_k;
  c.moe_layers = {0, 2};
  return c;
}

// A batch, and the random numbers that a caller may bring. Images are those of pairs of views.
template <class T>
struct Batch {
  int64_t count = 0;
  std::vector<T> images;
  std::vector<int32_t> labels, match;  // (B), (B/2, patches)
  std::vector<int64_t> ids;
  std::vector<std::vector<T>> noise, hidden_dropout, output_dropout;  // one a layer, or none
};

template <class T>
Batch<T> random_batch(const moe::VmoeConfig& c, int64_t count, uint64_t seed = 50) {
  Batch<T> batch;
  batch.count = count;
  const int64_t pixels = c.vit.channels * c.vit.image_size * c.vit.image_size;
  batch.images = values<T>(count * pixels, seed);
  for (int64_t b = 0; b < count; ++b) {
    batch.labels.push_back(static_cast<int32_t>((b * 2 + 1) % c.vit.classes));
    batch.ids.push_back(b);
  }
  for (int64_t i = 0; i < count / 2 * c.vit.patches(); ++i) {
    batch.match.push_back(i % 3 == 2 ? -1 : static_cast<int32_t>(i * 5 % c.vit.patches()));
  }
  return batch;
}

template <class T>
void add_noise(Batch<T>& batch, const moe::VmoeConfig& c, uint64_t seed = 60) {
  for (size_t i = 0; i < c.moe_layers.size(); ++i) {
    batch.noise.push_back(values<T>(batch.count * c.vit.tokens() * c.moe.experts, seed + i, 2));
  }
}

// Masks of 0 and 1.25.
template <class T>
void add_dropout(Batch<T>& batch, const moe::VmoeConfig& c, uint64_t seed = 70) {
  const auto mask = [&](int64_t width) {
    auto v = values<T>(batch.count * c.vit.tokens() * c.moe.top_k * width, ++seed);
    for (T& x : v) x = x < T(-0.6) ? T(0) : T(1.25);
    return v;
  };
  for (size_t i = 0; i < c.moe_layers.size(); ++i) {
    batch.hidden_dropout.push_back(mask(c.vit.mlp));
    batch.output_dropout.push_back(mask(c.vit.width));
  }
}

// How the total of a training step is composed; a weight of 0 leaves a term out.
struct Losses {
  CrossEntropy cross_entropy = CrossEntropy::kSoftmax;
  double importance = 0, load = 0;
  moe::PrcForm prc = moe::PrcForm::kNone;
  double lambda_diag = 0.8, lambda_off = 2.5;
  bool pair_class_tokens = true;
};

// Importance and load are sums over layers without their weights, prc with its lambdas.
struct Terms {
  Tensor total;
  double cross_entropy = 0, importance = 0, load = 0, prc = 0;
};

inline Terms total_loss(Tape& tape, const moe::VmoeConfig& c, const moe::ModelOutput& out,
                        const Losses& losses, const Tensor& labels, const Tensor& match) {
  const auto images = static_cast<double>(labels.numel());
  Terms terms;
  terms.total = cross_entropy(out.logits, labels, losses.cross_entropy, images);
  terms.cross_entropy = scalar(terms.total);
  for (const moe::Routing& r : out.routings) {
    const int64_t group = moe::group_tokens(c.moe, r.images, r.tokens);
    const Tensor importance = moe::importance_loss(r.clean, group);
    terms.importance += scalar(importance);
    if (losses.importance > 0) {
      terms.total = add(terms.total, scale(importance, losses.importance));
    }
    if (r.sigma > 0) {
      const Tensor load = moe::load_loss(r.logits, r.noisy_logits, r.top_k, r.sigma, group);
      terms.load += scalar(load);
      if (losses.load > 0) terms.total = add(terms.total, scale(load, losses.load));
    }
    if (losses.prc == moe::PrcForm::kNone) continue;
    const moe::TokenPairs pairs = moe::make_pairs(tape.arena(), match, r.tokens, r.class_token,
                                                  losses.pair_class_tokens, nullptr);
    const Tensor prc =
        moe::prc_loss(r.clean, pairs, losses.prc, losses.lambda_diag, losses.lambda_off);
    terms.prc += scalar(prc);
    terms.total = add(terms.total, prc);
  }
  return terms;
}

// What one step gave, copied out of its arena.
struct Step {
  double total = 0, cross_entropy = 0, importance = 0, load = 0, prc = 0;
  naive::Vec logits = {};
  naive::Params grads = {};
  std::vector<naive::LayerTrace> layers = {};  // logits, clean, noisy, weight and expert
  int64_t dropped = 0;
};

// A training step of f32 or f64 on a fresh tape; gradients start from zero.
template <class T>
Step run_step(Bound<moe::Vmoe>& bound, const Batch<T>& batch, const Losses& losses,
              nn::Mode mode = nn::Mode::kTrain) {
  const moe::VmoeConfig& c = bound.model.config();
  StepArena arena;
  fill_with_nan(arena, 4'000'000);
  Tape tape(arena);
  nn::Forward f{.tape = tape,
                .mode = mode,
                .precision = c.precision,
                .seed = 11,
                .step = 5,
                .sample_ids = batch.ids};
  const int64_t n = batch.count * c.vit.tokens(), choices = n * c.moe.top_k;
  std::vector<moe::RoutingRandom> random(
      batch.noise.empty() && batch.hidden_dropout.empty() ? 0 : c.moe_layers.size());
  for (size_t i = 0; i < random.size(); ++i) {
    if (!batch.noise.empty()) random[i].noise = view(batch.noise[i], {n, c.moe.experts});
    if (batch.hidden_dropout.empty()) continue;
    random[i].hidden_dropout = view(batch.hidden_dropout[i], {choices, c.vit.mlp});
    random[i].output_dropout = view(batch.output_dropout[i], {choices, c.vit.width});
  }
  const Tensor images = tape.input(
      view(batch.images, {batch.count, c.vit.channels, c.vit.image_size, c.vit.image_size}));
  moe::ModelOutput out;
  bound.model.forward(f, images, out, random);
  const Terms terms = total_loss(tape, c, out, losses, view(batch.labels, {batch.count}),
                                 view(batch.match, {batch.count / 2, c.vit.patches()}));
  bound.store.zero(Slab::kGrad);
  const std::vector<T> one = {1};
  tape.backward(terms.total, view(one, {1}));

  Step step{scalar(terms.total), terms.cross_entropy, terms.importance, terms.load, terms.prc};
  step.logits = f64_of(out.logits);
  step.grads = params_of(bound.store, Slab::kGrad);
  for (const moe::Routing& r : out.routings) {
    naive::LayerTrace& trace = step.layers.emplace_back();
    trace.logits = f64_of(r.logits);
    trace.clean = f64_of(r.clean);
    trace.noisy = f64_of(r.gates);
    trace.weight = f64_of(r.weight);
    trace.expert = indices_of(r.expert);
    step.dropped += r.dropped;
  }
  return step;
}

// The reference's view of the same configuration. In evaluation there is no noise, and the
// capacity is that of evaluation.
inline naive::Config naive_config(const moe::VmoeConfig& c, const Losses& losses = {},
                                  nn::Mode mode = nn::Mode::kTrain) {
  const bool train = mode == nn::Mode::kTrain;
  naive::Config n;
  n.channels = c.vit.channels;
  n.image = c.vit.image_size;
  n.patch = c.vit.patch;
  n.width = c.vit.width;
  n.mlp = c.vit.mlp;
  n.heads = c.vit.heads;
  n.layers = c.vit.layers;
  n.classes = c.vit.classes;
  n.moe_layers = c.moe_layers;
  n.experts = c.moe.experts;
  n.top_k = !train && c.moe.eval_top_k > 0 ? c.moe.eval_top_k : c.moe.top_k;
  n.priority = c.moe.batch_priority ? naive::Priority::kBatch : naive::Priority::kVanilla;
  n.pre_logits = c.vit.pre_logits;
  n.gelu = c.vit.gelu == GeluForm::kErf ? naive::Gelu::kErf : naive::Gelu::kTanh;
  n.pool = c.vit.pool == nn::Pool::kToken ? naive::Pool::kToken : naive::Pool::kMean;
  n.noise_std = train ? c.moe.noise_std : 0;
  n.capacity_factor = train ? c.moe.capacity_factor : c.moe.eval_capacity_factor;
  n.dropless = c.moe.dispatch == moe::Dispatch::kDropless || n.capacity_factor == 0;
  n.capacity_multiple_of = c.moe.capacity_multiple_of;
  n.group_images = c.moe.group_images;
  n.importance_weight = losses.importance;
  n.load_weight = losses.load;
  n.prc = losses.prc == moe::PrcForm::kPaper  ? naive::PrcForm::kPaper
          : losses.prc == moe::PrcForm::kFork ? naive::PrcForm::kFork
                                              : naive::PrcForm::kNone;
  n.lambda_diag = losses.lambda_diag;
  n.lambda_off = losses.lambda_off;
  n.prc_class_token = losses.pair_class_tokens;
  n.xent = losses.cross_entropy == CrossEntropy::kSoftmax ? naive::XentKind::kSoftmax
                                                          : naive::XentKind::kSigmoid;
  return n;
}

template <class T>
naive::Inputs naive_inputs(const Batch<T>& batch, nn::Mode mode = nn::Mode::kTrain) {
  naive::Inputs in;
  in.images = f64_of(batch.images);
  in.labels.assign(batch.labels.begin(), batch.labels.end());
  in.match.assign(batch.match.begin(), batch.match.end());
  if (mode == nn::Mode::kEval) return in;
  for (const auto& v : batch.noise) in.noise.push_back(f64_of(v));
  for (const auto& v : batch.hidden_dropout) in.dropout.push_back(f64_of(v));
  for (const auto& v : batch.output_dropout) in.output_dropout.push_back(f64_of(v));
  return in;
}

// Adam without weight decay: enough to see a model learn.
struct PlainAdam {
  double rate = 3e-3;
  std::vector<double> m = {}, v = {};
  int64_t t = 0;

  template <class T>
  void step(ParamStore& store) {
    T *w = store.slab(Slab::kValue).data<T>(), *g = store.slab(Slab::kGrad).data<T>();
    const auto n = static_cast<size_t>(store.padded_count());
    m.resize(n);
    v.resize(n);
    ++t;
    const double c1 = 1 - std::pow(0.9, t), c2 = 1 - std::pow(0.999, t);
    for (size_t i = 0; i < n; ++i) {
      m[i] = 0.9 * m[i] + 0.1 * g[i];
      v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
      w[i] -= static_cast<T>(rate * (m[i] / c1) / (std::sqrt(v[i] / c2) + 1e-8));
    }
  }
};

}  // namespace engine::test
