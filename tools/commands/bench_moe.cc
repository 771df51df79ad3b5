#include "tools/commands/bench_moe.h"

#include <numeric>
#include <vector>

#include "engine/core/buffer.h"
#include "engine/core/op_times.h"
#include "engine/core/rng.h"
#include "moe/moe_layer.h"
#include "nn/layers.h"
#include "tools/commands/bench_config.h"
#include "train/model.h"

namespace tools {
namespace {

using engine::Buffer;
using engine::Tensor;

// Tokens and what comes back for them.
struct Tokens {
  explicit Tokens(const engine::Shape& shape)
      : x(shape, engine::Dtype::kF32), dx(shape, engine::Dtype::kF32) {
    const engine::RngKey key(4, engine::Purpose::kTest);
    for (int64_t i = 0; i < shape.numel(); ++i) {
      x.data<float>()[i] = static_cast<float>(key.normal(static_cast<uint64_t>(i)));
    }
  }
  Buffer x, dx;
};

// A layer with its parameters and a step's memory of its own.
class Timed {
 public:
  template <class Layer>
  explicit Timed(Layer& layer) : tape_(arena_) {
    nn::Binder(store_, 0, true).bind(layer, engine::Dtype::kF32);
  }
  // run(f, x): the layer's output.
  template <class Run>
  void once(engine::Precision precision, std::span<const int64_t> ids, const Tokens& tokens,
            Run&& run) {
    tape_.clear();
    arena_.reset();
    nn::Forward f{
        .tape = tape_, .mode = nn::Mode::kTrain, .precision = precision, .sample_ids = ids};
    const double begin = engine::OpTimes::now_s();
    const Tensor y = run(f, tape_.leaf(tokens.x.tensor(), tokens.dx.tensor()));
    const double middle = engine::OpTimes::now_s();
    tape_.backward(y, tokens.x.tensor());
    forward_.push_back(1e3 * (middle - begin));
    backward_.push_back(1e3 * (engine::OpTimes::now_s() - middle));
  }
  void forget() {
    forward_.clear();
    backward_.clear();
  }
  LayerTimes times() const { return {median(forward_), median(backward_)}; }
  size_t count() const { return forward_.size(); }

 private:
  engine::ParamStore store_;
  engine::StepArena arena_;
  engine::Tape tape_;
  std::vector<double> forward_, backward_;
};

}  // namespace

MoeBesideDense measure_moe_beside_dense(const train::Config& config, double seconds) {
  const moe::VmoeConfig c = train::vmoe_config(config);
  const nn::VitConfig& vit = c.vit;
  MoeBesideDense out;
  out.dense_hidden = vit.mlp * c.moe.top_k;
  moe::MoeLayer layer(0, vit.width, vit.mlp, c.moe, vit.gelu);
  nn::Mlp mlp(vit.width, out.dense_hidden, vit.gelu);
  Timed sparse(layer), dense(mlp);
  const int64_t views = views_at_a_time(config);
  const Tokens tokens({views, vit.tokens(), vit.width});
  std::vector<int64_t> ids(static_cast<size_t>(views));
  std::iota(ids.begin(), ids.end(), 0);
  const double start = engine::OpTimes::now_s();
  for (int64_t i = 0; sparse.count() < 5 || engine::OpTimes::now_s() - start < seconds; ++i) {
    sparse.once(c.precision, ids, tokens, [&](nn::Forward& f, const Tensor& x) {
      moe::Routing routing;
      return layer.forward(f, x, x, {}, routing);
    });
    dense.once(c.precision, ids, tokens,
               [&](nn::Forward& f, const Tensor& x) { return mlp.forward(f, x, x); });
    if (i > 0) continue;
    sparse.forget();  // they take their memory
    dense.forget();
  }
  out.moe = sparse.times();
  out.dense = dense.times();
  return out;
}

}  // namespace tools
