#include "nn/layers.h"

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/reference/naive_layers.h"
#include "tests/support/gradcheck.h"
#include "tests/support/model_fixture.h"

using namespace engine::test;
using engine::ErrorKind;
using engine::GeluForm;
using engine::Shape;
using engine::Slab;
using engine::Tensor;

namespace {

// A layer with random parameters in f64, and its forward and backward on (2, 3, width) inputs.
template <class LayerT>
struct Harness {
  using Run = std::function<Tensor(LayerT&, nn::Forward&, const Tensor& x, const Tensor& residual)>;

  Harness(LayerT made, Run body, int64_t in, int64_t out)
      : layer(std::move(made)), run(std::move(body)), x_shape{2, 3, in}, y_shape{2, 3, out} {
    nn::Binder(store, 1, true).bind(layer, engine::Dtype::kF64);
    randomise(store);
    x = values<double>(x_shape.numel(), 21);
    residual = values<double>(y_shape.numel(), 22);
    dy = values<double>(y_shape.numel(), 23);
  }

  naive::Vec value(const std::string& path) {
    return f64_of(store.view(store.find(path), Slab::kValue));
  }
  naive::Vec grad(const std::string& path) {
    return f64_of(store.view(store.find(path), Slab::kGrad));
  }
  // Fills y, dx and dresidual; parameter gradients are added to the store's.
  void step(bool param_grads = true) {
    engine::StepArena arena;
    fill_with_nan(arena, 100'000);
    engine::Tape tape(arena);
    nn::Forward f{.tape = tape, .param_grads = param_grads, .sample_ids = {}};
    dx.assign(x.size(), 0);
    dresidual.assign(residual.size(), 0);
    const Tensor out = run(layer, f, tape.leaf(view(x, x_shape), view(dx, x_shape)),
                           tape.leaf(view(residual, y_shape), view(dresidual, y_shape)));
    y = f64_of(out);
    tape.backward(out, view(dy, y_shape));
  }

  LayerT layer;
  Run run;
  Shape x_shape, y_shape;
  engine::ParamStore store;
  std::vector<double> x, residual, dy, y, dx, dresidual;
};

// Backward of a reference layer, its gradients by name.
struct Reference {
  naive::Params values, grads;
  naive::Param param(const std::string& name, const naive::Vec& v) {
    values[name] = v;
    grads[name].assign(v.size(), 0);
    return {values[name].data(), grads[name].data()};
  }
};

template <class LayerT>
void check_against(Harness<LayerT>& h, const Reference& ref, const naive::Vec& y,
                   const naive::Vec& dx) {
  CHECK(error_of(h.y, y) <= 1e-12);
  CHECK(error_of(h.dx, dx) <= 1e-12);
  const WorstTensor worst = worst_of(params_of(h.store, Slab::kGrad), ref.grads);
  CHECK_MESSAGE(worst.ok(1e-12), worst);
}

naive::Vec plus(naive::Vec a, const naive::Vec& b) {
  naive::add(a, b);
  return a;
}

template <class LayerT>
naive::Linear reference_linear(Harness<LayerT>& h, Reference& ref, const std::string& name,
                               int64_t in, int64_t out) {
  return {ref.param(name + "weight", h.value(name + "weight")),
          ref.param(name + "bias", h.value(name + "bias")), in, out};
}

}  // namespace

TEST_CASE("linear layer: plain, and with a residual") {
  for (const bool with_residual : {false, true}) {
    Harness<nn::Linear> h(
        nn::Linear(5, 7, nn::xavier_uniform(5, 7)),
        [&](nn::Linear& l, nn::Forward& f, const Tensor& x, const Tensor& r) {
          return with_residual ? l.forward_add(f, x, r) : l.forward(f, x);
        },
        5, 7);
    h.step();
    Reference ref;
    naive::Linear linear = reference_linear(h, ref, "", 5, 7);
    const naive::Vec y = linear.forward(h.x);
    check_against(h, ref, with_residual ? plus(y, h.residual) : y, linear.backward(h.dy));
    CHECK(h.dresidual == (with_residual ? h.dy : naive::Vec(h.dy.size(), 0)));
  }
}

TEST_CASE("linear layer: with GELU in both forms") {
  for (const GeluForm form : {GeluForm::kTanh, GeluForm::kErf}) {
    Harness<nn::Linear> h(
        nn::Linear(5, 7, nn::xavier_uniform(5, 7)),
        [&](nn::Linear& l, nn::Forward& f, const Tensor& x, const Tensor&) {
          return l.forward_gelu(f, x, form);
        },
        5, 7);
    h.step();
    const naive::Gelu kind = form == GeluForm::kTanh ? naive::Gelu::kTanh : naive::Gelu::kErf;
    Reference ref;
    naive::Linear linear = reference_linear(h, ref, "", 5, 7);
    naive::Vec y = linear.forward(h.x), dz = h.dy;
    for (size_t i = 0; i < y.size(); ++i) {
      dz[i] *= naive::gelu_grad(kind, y[i]);
      y[i] = naive::gelu(kind, y[i]);
    }
    check_against(h, ref, y, linear.backward(dz));
  }
}

TEST_CASE("layer norm layer: values and gradients") {
  Harness<nn::LayerNorm> h(
      nn::LayerNorm(6),
      [](nn::LayerNorm& l, nn::Forward& f, const Tensor& x, const Tensor&) {
        return l.forward(f, x);
      },
      6, 6);
  h.step();
  Reference ref;
  naive::LayerNorm norm{ref.param("scale", h.value("scale")), ref.param("bias", h.value("bias")),
                        6};
  const naive::Vec y = norm.forward(h.x);
  check_against(h, ref, y, norm.backward(h.dy));
}

TEST_CASE("mlp layer: values and gradients") {
  for (const GeluForm form : {GeluForm::kTanh, GeluForm::kErf}) {
    Harness<nn::Mlp> h(
        nn::Mlp(6, 10, form),
        [](nn::Mlp& l, nn::Forward& f, const Tensor& x, const Tensor& r) {
          return l.forward(f, x, r);
        },
        6, 6);
    h.step();
    Reference ref;
    naive::Mlp mlp{reference_linear(h, ref, "up.", 6, 10), reference_linear(h, ref, "down.", 10, 6),
                   form == GeluForm::kTanh ? naive::Gelu::kTanh : naive::Gelu::kErf};
    const naive::Vec y = plus(mlp.forward(h.x), h.residual);
    check_against(h, ref, y, mlp.backward(h.dy));
    CHECK(h.dresidual == h.dy);
  }
}

TEST_CASE("attention layer: values and gradients") {
  for (const int64_t heads : {1, 2, 3}) {
    Harness<nn::SelfAttention> h(
        nn::SelfAttention(6, heads),
        [](nn::SelfAttention& l, nn::Forward& f, const Tensor& x, const Tensor& r) {
          return l.forward(f, x, r);
        },
        6, 6);
    h.step();
    Reference ref;
    naive::Attention attention{reference_linear(h, ref, "qkv.", 6, 18),
                               reference_linear(h, ref, "out.", 6, 6), 3, heads};
    const naive::Vec y = plus(attention.forward(h.x), h.residual);
    check_against(h, ref, y, attention.backward(h.dy));
    CHECK(h.dresidual == h.dy);
  }
}

TEST_CASE("layers: gradient of an input by differences") {
  nn::Mlp mlp(4, 6, GeluForm::kTanh);
  nn::SelfAttention attention(4, 2);
  nn::LayerNorm norm(4);
  engine::ParamStore stores[3];
  nn::Binder(stores[0], 1, true).bind(mlp, engine::Dtype::kF64);
  nn::Binder(stores[1], 1, true).bind(attention, engine::Dtype::kF64);
  nn::Binder(stores[2], 1, true).bind(norm, engine::Dtype::kF64);
  for (auto& store : stores) randomise(store);
  const auto block = [&](std::span<const Tensor> x) {
    nn::Forward f{.tape = *x[0].tape(), .sample_ids = {}};
    const Tensor y = attention.forward(f, norm.forward(f, x[0]), x[0]);
    return mlp.forward(f, norm.forward(f, y), y);  // the norm's parameters twice
  };
  const auto report = gradcheck(block, {Shape{2, 3, 4}});
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("layers: parameter gradients add up, or are left alone") {
  Harness<nn::Mlp> h(
      nn::Mlp(6, 10, GeluForm::kTanh),
      [](nn::Mlp& l, nn::Forward& f, const Tensor& x, const Tensor& r) {
        return l.forward(f, x, r);
      },
      6, 6);
  h.step();
  const naive::Params once = params_of(h.store, Slab::kGrad);
  const auto dx = h.dx;
  h.step();
  for (const auto& [name, twice] : params_of(h.store, Slab::kGrad)) {
    naive::Vec want = once.at(name);
    for (double& g : want) g *= 2;
    CHECK(error_of(twice, want) <= 1e-14);
  }
  h.store.zero(Slab::kGrad);
  h.step(/*param_grads=*/false);
  CHECK(same_bytes(h.dx, dx));
  for (const auto& [name, none] : params_of(h.store, Slab::kGrad)) {
    CHECK(none == naive::Vec(none.size(), 0));
  }
}

TEST_CASE("layers: names, shapes and which of them are kernels") {
  nn::SelfAttention attention(6, 2);
  nn::Mlp mlp(6, 10, GeluForm::kTanh);
  nn::LayerNorm norm(6);
  const auto listing = [](auto& layer) {
    const Declared declared(layer);
    std::string all;
    for (const auto& e : declared.store.entries()) {
      all += e.path + to_string(e.shape) + (e.decay ? " kernel; " : "; ");
    }
    return all;
  };
  CHECK(listing(attention) ==
        "qkv.weight(6,18) kernel; qkv.bias(18); out.weight(6,6) kernel; out.bias(6); ");
  CHECK(listing(mlp) ==
        "up.weight(6,10) kernel; up.bias(10); down.weight(10,6) kernel; down.bias(6); ");
  CHECK(listing(norm) == "scale(6); bias(6); ");
}

TEST_CASE("layers: how their parameters start") {
  nn::SelfAttention attention(64, 2);
  nn::Mlp mlp(64, 256, GeluForm::kTanh);
  nn::LayerNorm norm(4);
  engine::ParamStore stores[3];
  nn::Binder(stores[0], 1, true).bind(attention, engine::Dtype::kF64);
  nn::Binder(stores[1], 1, true).bind(mlp, engine::Dtype::kF64);
  nn::Binder(stores[2], 1, true).bind(norm, engine::Dtype::kF64);
  const auto largest = [&](int store, const char* path) {
    const naive::Params params = params_of(stores[store]);
    double most = 0;
    for (const double v : params.at(path)) most = std::max(most, std::abs(v));
    return most;
  };
  // The fans of q, k and v are those of one projection each, not of the three together.
  const double square = std::sqrt(6.0 / 128), wide = std::sqrt(6.0 / 320);
  for (const auto& [store, path, limit] : {std::tuple{0, "qkv.weight", square},
                                           {0, "out.weight", square},
                                           {1, "up.weight", wide},
                                           {1, "down.weight", wide}}) {
    CHECK(largest(store, path) <= limit);
    CHECK(largest(store, path) > 0.99 * limit);
  }
  CHECK(largest(0, "qkv.bias") == 0);
  CHECK(largest(0, "out.bias") == 0);
  for (const char* bias : {"up.bias", "down.bias"}) {  // N(0, 1e-12)
    CHECK(largest(1, bias) < 5e-6);
    CHECK(largest(1, bias) > 1e-6);
  }
  CHECK(params_of(stores[2]).at("scale") == naive::Vec(4, 1));
  CHECK(params_of(stores[2]).at("bias") == naive::Vec(4, 0));
}

TEST_CASE("layers: reject inputs of another width") {
  Harness<nn::Linear> h(
      nn::Linear(5, 7, nn::xavier_uniform(5, 7)),
      [](nn::Linear& l, nn::Forward& f, const Tensor& x, const Tensor&) { return l.forward(f, x); },
      5, 7);
  h.x_shape = {2, 5, 3};
  CHECK(caught([&] { h.step(); }).is(ErrorKind::kShape));
}
