#include "tools/commands/bench_ops.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/core/buffer.h"
#include "engine/core/machine_rates.h"
#include "engine/core/op_times.h"
#include "engine/core/parallel.h"
#include "engine/core/rng.h"
#include "engine/gemm/gemm.h"
#include "engine/ops/attention.h"
#include "engine/ops/layer_norm.h"
#include "tools/commands/bench_config.h"
#include "tools/commands/bench_moe.h"
#include "tools/commands/checkpoint_input.h"
#include "tools/commands/session.h"
#include "train/model.h"

namespace tools {
namespace {

using engine::Cpu;
using engine::GradWrite;
using engine::kernels::Trans;

// y (m,n) = x (m,k) w (k,n): a linear layer, or `groups` experts that share the m rows evenly.
struct Product {
  std::string name;
  int64_t m, n, k, groups = 0;  // 0: not grouped
  int64_t in_step = 1;          // layers of this shape
  bool input_gradient = true;   // whether a step computes dx
  engine::Precision precision = engine::Precision::kF32;
};

std::vector<Product> products_of(const train::Config& config) {
  const moe::VmoeConfig c = train::vmoe_config(config);
  const nn::VitConfig& vit = c.vit;
  const int64_t views = views_at_a_time(config), tokens = views * vit.tokens(), w = vit.width;
  const auto with_experts = static_cast<int64_t>(c.moe_layers.size());
  std::vector<Product> all = {{"patch embedding", views * vit.patches(), w,
                               vit.patch * vit.patch * vit.channels, 0, 1, false},
                              {"attention qkv", tokens, 3 * w, w, 0, vit.layers},
                              {"attention out", tokens, w, w, 0, vit.layers}};
  if (with_experts < vit.layers) {
    all.push_back({"mlp up", tokens, vit.mlp, w, 0, vit.layers - with_experts});
    all.push_back({"mlp down", tokens, w, vit.mlp, 0, vit.layers - with_experts});
  }
  if (with_experts > 0) {
    const int64_t rows = tokens * moe::slots_per_token(c.moe), e = c.moe.experts;
    all.push_back({"router", tokens, e, w, 0, with_experts});
    all.push_back({"experts up", rows, vit.mlp, w, e, with_experts});
    all.push_back({"experts down", rows, w, vit.mlp, e, with_experts});
  }
  all.push_back({"head", views, vit.classes, w});
  for (Product& p : all) {
    if (p.name != "router") p.precision = c.precision;
  }
  return all;
}

// The matrices that tokens or an expert's share of them are multiplied with, on `rows` rows.
std::vector<Product> products_of_rows(const train::Config& config, int64_t rows) {
  const moe::VmoeConfig c = train::vmoe_config(config);
  const int64_t w = c.vit.width, mlp = c.vit.mlp;
  std::vector<Product> all = {{"attention qkv", rows, 3 * w, w},
                              {"attention out", rows, w, w},
                              {"mlp or expert up", rows, mlp, w},
                              {"mlp or expert down", rows, w, mlp}};
  for (Product& p : all) p.precision = c.precision;
  return all;
}

using engine::Buffer;
using engine::Dtype;

// Memory as the program has it: on lines of the cache, in large pages.
Buffer zeros(const engine::Shape& shape) { return {shape, Dtype::kF32}; }
Buffer numbers(const engine::Shape& shape, uint64_t seed) {
  Buffer out = zeros(shape);
  const engine::RngKey key(seed, engine::Purpose::kTest);
  for (int64_t i = 0; i < shape.numel(); ++i) {
    out.data<float>()[i] = static_cast<float>(2 * key.uniform(static_cast<uint64_t>(i)) - 1);
  }
  return out;
}

// Median seconds of a call, over `seconds` and at least five calls after one that does not count.
double median_time(double seconds, const std::function<void()>& call) {
  call();
  std::vector<double> times;
  const double start = engine::OpTimes::now_s();
  while (times.size() < 5 || engine::OpTimes::now_s() - start < seconds) {
    const double begin = engine::OpTimes::now_s();
    call();
    times.push_back(engine::OpTimes::now_s() - begin);
  }
  return median(times);
}

struct Rates {
  double forward, input, weight;  // GFLOP/s of y, of dx and of dw

  // What the product takes of a step.
  double step_ms(const Product& p) const {
    const double work =
        2e-6 * static_cast<double>(p.m * p.n * p.in_step) * static_cast<double>(p.k);
    return work * (1 / forward + (p.input_gradient ? 1 / input : 0) + 1 / weight);
  }
};

Rates measure(const Product& p, double seconds) {
  const int64_t matrices = std::max<int64_t>(1, p.groups);
  const Buffer x_buffer = numbers({p.m, p.k}, 1), w_buffer = numbers({matrices, p.k, p.n}, 2),
               dy_buffer = numbers({p.m, p.n}, 3), y_buffer = zeros({p.m, p.n}),
               dx_buffer = zeros({p.m, p.k}), dw_buffer = zeros({matrices, p.k, p.n});
  const float *const x = x_buffer.data<float>(), *const w = w_buffer.data<float>(),
                     *const dy = dy_buffer.data<float>();
  float *const y = y_buffer.data<float>(), *const dx = dx_buffer.data<float>(),
               *const dw = dw_buffer.data<float>();
  std::vector<int32_t> offset;
  for (int64_t g = 0; g <= p.groups; ++g) {
    offset.push_back(static_cast<int32_t>(p.m * g / std::max<int64_t>(1, p.groups)));
  }
  const double work = 2e-9 * static_cast<double>(p.m * p.n) * static_cast<double>(p.k);
  const auto rate = [&](const std::function<void()>& call) {
    return work / median_time(seconds, call);
  };
  constexpr GradWrite kWrite = GradWrite::kOverwrite;
  using engine::kernels::gemm;
  if (p.groups == 0) {
    return {rate([&] {
              gemm<float>(Cpu{}, Trans::kNo, Trans::kNo, {p.m, p.n, p.k}, x, p.k, w, p.n, y, p.n,
                          kWrite, {}, p.precision);
            }),
            rate([&] {
              gemm<float>(Cpu{}, Trans::kNo, Trans::kYes, {p.m, p.k, p.n}, dy, p.n, w, p.n, dx, p.k,
                          kWrite, {}, p.precision);
            }),
            rate([&] {
              gemm<float>(Cpu{}, Trans::kYes, Trans::kNo, {p.k, p.n, p.m}, x, p.k, dy, p.n, dw, p.n,
                          kWrite, {}, p.precision);
            })};
  }
  using engine::kernels::grouped_gemm;
  const int32_t* rows = offset.data();
  return {rate([&] {
            grouped_gemm<float>(Cpu{}, Trans::kNo, rows, p.groups, {p.m, p.n, p.k}, x, w, y, kWrite,
                                {}, p.precision);
          }),
          rate([&] {
            grouped_gemm<float>(Cpu{}, Trans::kYes, rows, p.groups, {p.m, p.k, p.n}, dy, w, dx,
                                kWrite, {}, p.precision);
          }),
          rate([&] {
            engine::kernels::grouped_gemm_transposed<float>(Cpu{}, rows, p.groups, {p.k, p.n, p.m},
                                                            x, dy, dw, kWrite, p.precision);
          })};
}

// Seconds of an op and of its gradient, through a tape as a training step runs it.
struct OpSeconds {
  double forward, backward;
};
using Build = std::function<engine::Tensor(engine::Tape&, const engine::Tensor&)>;

OpSeconds measure_op(const engine::Shape& in, double seconds, const Build& build) {
  const Buffer x = numbers(in, 4), dx = zeros(in);
  engine::StepArena arena;
  engine::Tape tape(arena);
  Buffer dy;
  std::vector<double> forward, backward;
  const double start = engine::OpTimes::now_s();
  for (int i = 0; i < 6 || engine::OpTimes::now_s() - start < seconds; ++i) {
    tape.clear();
    arena.reset();
    const double begin = engine::OpTimes::now_s();
    const engine::Tensor y = build(tape, tape.leaf(x.tensor(), dx.tensor()));
    const double middle = engine::OpTimes::now_s();
    if (i == 0) dy = numbers(y.shape(), 5);
    const double again = engine::OpTimes::now_s();
    tape.backward(y, dy.tensor());
    if (i == 0) continue;  // takes its memory
    forward.push_back(middle - begin);
    backward.push_back(engine::OpTimes::now_s() - again);
  }
  return {median(forward), median(backward)};
}

std::string line(const char* format, auto... values) {
  char text[160];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

// Returns what all of them take of a step, in milliseconds.
double describe_products(const std::vector<Product>& products, double seconds, double peak,
                         std::string& text, nlohmann::json& all) {
  text +=
      "  product                  m     n     k   e   forward     dx     dw  GFLOP/s   of f32 "
      "peak\n";
  double step_ms = 0;
  for (const Product& p : products) {
    const Rates r = measure(p, seconds);
    text +=
        line("  %-18s %7ld %5ld %5ld %3ld  %8.0f %6.0f %6.0f  %3.0f %3.0f %3.0f %%\n",
             p.name.c_str(), long{p.m}, long{p.n}, long{p.k}, long{p.groups}, r.forward, r.input,
             r.weight, 100 * r.forward / peak, 100 * r.input / peak, 100 * r.weight / peak);
    all["products"].push_back(
        {{"name", p.name},
         {"m", p.m},
         {"n", p.n},
         {"k", p.k},
         {"groups", p.groups},
         {"in_step", p.in_step},
         {"input_gradients_in_step", p.input_gradient ? p.in_step : 0},
         {"precision", p.precision == engine::Precision::kBf16 ? "bf16" : "f32"},
         {"forward_gflops", r.forward},
         {"input_gradient_gflops", r.input},
         {"weight_gradient_gflops", r.weight}});
    step_ms += r.step_ms(p);
  }
  return step_ms;
}

void describe_ops(const train::Config& config, double seconds, double memory, std::string& text,
                  nlohmann::json& all) {
  const nn::VitConfig vit = train::vmoe_config(config).vit;
  const engine::Precision precision = train::vmoe_config(config).precision;
  const int64_t views = views_at_a_time(config), t = vit.tokens(), w = vit.width;
  const Buffer scale = numbers({w}, 6), bias = numbers({w}, 7);
  const OpSeconds norm = measure_op({views * t, w}, seconds, [&](auto& tape, const auto& x) {
    return engine::layer_norm(x, tape.input(scale.tensor()), tape.input(bias.tensor()));
  });
  // Forward reads x and writes y; backward reads x and dy and writes dx.
  const double elements = 4e-9 * static_cast<double>(views * t * w);
  const double forward = 2 * elements / norm.forward, backward = 3 * elements / norm.backward;
  text +=
      line("  layer norm         forward %6.1f GB/s (%3.0f %%)   backward %6.1f GB/s (%3.0f %%)\n",
           forward, 100 * forward / memory, backward, 100 * backward / memory);
  const OpSeconds attend = measure_op({views, t, 3 * w}, seconds, [&](auto&, const auto& x) {
    return engine::attention(x, vit.heads, precision);
  });
  // Two products of t x t x w an image forward, four backward.
  const double work = 4e-9 * static_cast<double>(views * t * t) * static_cast<double>(w);
  text += line("  attention          forward %6.1f GFLOP/s        backward %6.1f GFLOP/s\n",
               work / attend.forward, 2 * work / attend.backward);
  if (const moe::VmoeConfig c = train::vmoe_config(config);
      !c.moe_layers.empty() && c.moe.chooser == moe::Chooser::kTokens) {
    const MoeBesideDense m = measure_moe_beside_dense(config, 4 * seconds);
    text += line("  moe layer          forward %6.1f ms             backward %6.1f ms\n",
                 m.moe.forward_ms, m.moe.backward_ms);
    text += line(
        "  dense, hidden %-5ldforward %6.1f ms             backward %6.1f ms     moe %.2f of it\n",
        long{m.dense_hidden}, m.dense.forward_ms, m.dense.backward_ms,
        m.moe.total() / m.dense.total());
    all["moe_beside_dense"] = {
        {"moe_forward_ms", m.moe.forward_ms},       {"moe_backward_ms", m.moe.backward_ms},
        {"dense_hidden", m.dense_hidden},           {"dense_forward_ms", m.dense.forward_ms},
        {"dense_backward_ms", m.dense.backward_ms}, {"ratio", m.moe.total() / m.dense.total()}};
  }
  all["layer_norm"] = {{"forward_gb_s", forward}, {"backward_gb_s", backward}};
  all["attention"] = {{"forward_gflops", work / attend.forward},
                      {"backward_gflops", 2 * work / attend.backward}};
}

}  // namespace

int bench_ops(const Options& options) {
  if (!options.get("json").empty() && options.get("json") != "-") {
    check_writable(options.get("json"));
  }
  train::Config config = bench_config(options);
  set_train_value(config, options, "threads");
  use_threads(config.train.threads);
  // A share for each of about thirty measurements.
  const double seconds = static_cast<double>(options.integer("seconds", 1, 3600)) / 30;
  const double peak = engine::measure_fma_gflops(seconds),
               memory = engine::measure_memory_gbs(seconds);
  std::string text =
      line("%s, %d threads: at most %.0f GFLOP/s of f32 in registers, %.1f GB/s of memory\n",
           config.train.precision.c_str(), engine::num_threads(), peak, memory);
  nlohmann::json all = {{"recipe", config.recipe},
                        {"threads", engine::num_threads()},
                        {"precision", config.train.precision},
                        {"views", views_at_a_time(config)},
                        {"bf16", engine::kernels::bf16_method()},
                        {"peak_gflops", peak},
                        {"memory_gb_s", memory},
                        {"products", nlohmann::json::array()}};
  if (options.has("rows")) {
    const int64_t rows = options.integer("rows", 1, int64_t{1} << 24);
    describe_products(products_of_rows(config, rows), seconds, peak, text, all);
  } else {
    const double step_ms = describe_products(products_of(config), seconds, peak, text, all);
    all["products_of_step_ms"] = step_ms;
    text += line("  products of a step's layers: %.1f ms\n", step_ms);
    describe_ops(config, seconds, memory, text, all);
  }
  write_result(options, config.recipe + ": " + text, all.dump());
  return 0;
}

}  // namespace tools
