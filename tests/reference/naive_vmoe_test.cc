#include "tests/reference/naive_vmoe.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

#include "tests/reference/naive_layers.h"

using namespace naive;

namespace {

// splitmix64 to uniform in [-1, 1); the value depends only on (seed, i).
double noise(uint64_t seed, uint64_t i) {
  uint64_t z = seed * 0x9e3779b97f4a7c15ull + (i + 1) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return static_cast<double>((z ^ (z >> 31)) >> 11) * (2.0 / 9007199254740992.0) - 1.0;
}

Vec random(uint64_t seed, int64_t n, double scale = 1, double offset = 0) {
  Vec v(n);
  for (int64_t i = 0; i < n; ++i) v[i] = offset + scale * noise(seed, i);
  return v;
}

double worst_difference(const Vec& a, const Vec& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(a[i] - b[i]);
    if (!(d <= worst)) worst = d;  // a NaN stays
  }
  return worst;
}

// Both to `tolerance`, which is half a unit of the last digit that the specification prints.
void check_values(const Vec& got, const Vec& want, double tolerance) {
  CHECK(worst_difference(got, want) <= tolerance);
}

int64_t count_parameters(const Config& config) {
  int64_t total = 0;
  for (const auto& [name, shape] : parameter_shapes(config)) {
    int64_t size = 1;
    for (const int64_t extent : shape) size *= extent;
    total += size;
  }
  return total;
}

// Small enough that every entry of every parameter can be differenced.
Config small() {
  Config c;
  c.channels = 2;
  c.image = 4;
  c.patch = 2;
  c.width = 4;
  c.mlp = 5;
  c.classes = 3;
  c.moe_layers = {1};
  return c;
}

int64_t tokens(const Config& c) {
  const int64_t grid = c.image / c.patch;
  return grid * grid + (c.pool == Pool::kToken ? 1 : 0);
}

Params random_params(const Config& c, uint64_t seed = 3) {
  Params params;
  for (const auto& [name, shape] : parameter_shapes(c)) {
    int64_t size = 1;
    for (const int64_t extent : shape) size *= extent;
    const bool is_scale = name.ends_with(".scale");
    params[name] = random(seed, size, name.ends_with("router.weight") ? 1.0 : 0.6, is_scale);
    seed += 100;
  }
  return params;
}

Inputs random_inputs(const Config& c, int64_t images = 4, uint64_t seed = 50) {
  const int64_t N = images * tokens(c), patches = (c.image / c.patch) * (c.image / c.patch);
  Inputs in;
  in.images = random(seed, images * c.channels * c.image * c.image);
  for (int64_t b = 0; b < images; ++b) in.labels.push_back((b * 2 + 1) % c.classes);
  for (size_t i = 0; i < c.moe_layers.size() && c.noise_std > 0; ++i) {
    in.noise.push_back(random(seed + 10 + i, N * c.experts, 2));
  }
  if (c.prc == PrcForm::kNone) return in;
  for (int64_t i = 0; i < images / 2 * patches; ++i) {
    in.match.push_back(i % 3 == 2 ? -1 : i * 5 % patches);
  }
  return in;
}

struct GradReport {
  double worst = 0;  // over tensors: max |analytic - numeric| / max |numeric|
  std::string name;
};

// Central differences of the total against `grads`, for every entry of every parameter. The choice
// of experts is a step function: it must not move between the two sides.
GradReport compare_gradients(const Config& c, Params params, const Inputs& in,
                             const Params& grads) {
  const double step = 2e-5;
  const Result base = run(c, params, in, false);
  GradReport report;
  bool same_choice = true;
  for (auto& [name, value] : params) {
    Vec numeric(value.size());
    double largest = 0;
    for (size_t i = 0; i < value.size(); ++i) {
      const double saved = value[i];
      value[i] = saved + step;
      const Result plus = run(c, params, in, false);
      value[i] = saved - step;
      const Result minus = run(c, params, in, false);
      value[i] = saved;
      for (size_t l = 0; l < base.layers.size(); ++l) {
        same_choice &= plus.layers[l].expert == base.layers[l].expert;
        same_choice &= minus.layers[l].expert == base.layers[l].expert;
      }
      numeric[i] = (plus.total - minus.total) / (2 * step);
      largest = std::max(largest, std::abs(numeric[i]));
    }
    const double error = worst_difference(grads.at(name), numeric) / largest;
    if (!(error <= report.worst)) report = {error, name};
  }
  REQUIRE(same_choice);
  return report;
}

void check_gradients(const Config& c, const Inputs& in) {
  const Params params = random_params(c);
  const Result result = run(c, params, in);
  const GradReport report = compare_gradients(c, params, in, result.grads);
  CAPTURE(report.name);
  CHECK(report.worst <= 1e-6);
}

int64_t dropped(const Result& result) {
  int64_t count = 0;
  for (const LayerTrace& t : result.layers)
    count += std::count(t.expert.begin(), t.expert.end(), -1);
  return count;
}

const Vec kLogits = {1, .5, 0, .2, .1, .9, 0, 1.5, .3, .7, .6, .5};
const Vec kScaledNoise = {.1, -.2, .3, 0, .2, -.1, -.3, .1, .2, .05, -.05, .15};

Vec noisy_logits() {
  Vec l = kLogits;
  add(l, kScaledNoise);
  return l;
}

}  // namespace

TEST_CASE("naive: parameter counts") {
  Config c;
  c.image = 224;
  c.patch = 32;
  c.width = 512;
  c.mlp = 2048;
  c.heads = 8;
  c.layers = 8;
  c.classes = 1000;
  c.experts = 8;
  c.moe_layers = {5, 7};
  c.pre_logits = true;
  CHECK(count_parameters(c) == 56'999'400);
  Config dense = c;
  dense.moe_layers = {};
  CHECK(count_parameters(dense) == 27'595'240);
  c.image = 384;
  c.pre_logits = false;
  CHECK(count_parameters(c) == 56'785'384);
  c.image = 128;
  c.classes = 100;
  CHECK(count_parameters(c) == 56'258'148);
}

TEST_CASE("naive: top_k gives ties to the lower index") {
  const Vec row = {.2, .5, .5, .1, .5};
  Indices index(4);
  top_k(row.data(), 5, 4, index.data());
  CHECK(index == Indices{1, 2, 4, 0});
}

TEST_CASE("naive: capacity of the published configurations") {
  CHECK(capacity(400, 8, 2, 1.05, 1) == 105);
  CHECK(capacity(400, 8, 2, 1.05, 4) == 108);
  CHECK(capacity(400, 8, 2, 4.0, 4) == 400);
  CHECK(capacity(1160, 8, 2, 1.5, 1) == 435);
  CHECK(capacity(1160, 8, 2, 1.5, 4) == 436);
  CHECK(capacity(1160, 8, 1, 1.5, 1) == 218);
  CHECK(capacity(1160, 8, 1, 1.5, 4) == 220);
  CHECK(capacity(136, 8, 2, 1.5, 1) == 51);
  CHECK(capacity(136, 8, 2, 1.5, 4) == 52);
  CHECK(capacity(136, 8, 1, 1.5, 1) == 26);
  CHECK(capacity(136, 8, 1, 1.5, 4) == 28);
}

TEST_CASE("naive: who is dropped, four tokens, three experts with one place") {
  const Vec gates = {.5, .3, .2, .6, .1, .3, .45, .15, .4, .2, .7, .1};
  const auto combine = [&](Priority priority) {
    Indices expert(8);
    Vec weight(8), matrix(12, 0);
    route(gates.data(), 4, 3, 2, 1, priority, expert.data(), weight.data());
    for (int64_t c = 0; c < 8; ++c) {
      CHECK((expert[c] < 0) == (weight[c] == 0));
      if (expert[c] >= 0) matrix[c / 2 * 3 + expert[c]] = weight[c];
    }
    return matrix;
  };
  CHECK(combine(Priority::kVanilla) == Vec{.5, 0, 0, 0, 0, .3, 0, 0, 0, 0, .7, 0});
  CHECK(combine(Priority::kBatch) == Vec{0, 0, 0, .6, 0, .3, 0, 0, 0, 0, .7, 0});
}

TEST_CASE("naive: balance losses of four tokens and three experts") {
  const Vec clean = softmax(kLogits, 3);
  Vec importance(3, 0);
  for (int64_t i = 0; i < 12; ++i) importance[i % 3] += clean[i];
  check_values(importance, {1.275219, 1.526358, 1.198423}, 5e-7);
  CHECK(std::abs(importance_loss(clean, 4, 3) - 0.01103189) <= 5e-9);

  const ExpectedLoad load = expected_load(kLogits, noisy_logits(), 4, 3, 2, 1.0 / 3);
  Vec tau;
  for (const int64_t i : load.threshold) tau.push_back(noisy_logits()[i]);
  check_values(tau, {.3, .3, .5, .65}, 1e-12);
  check_values(load.P, {.497662, .609758, .437185}, 5e-7);
  CHECK(std::abs(load_loss(kLogits, noisy_logits(), 4, 3, 2, 1.0 / 3) - 0.01928267) <= 5e-9);

  CHECK(std::abs(gshard_loss(softmax(noisy_logits(), 3), 4, 3) - 0.98425787) <= 5e-9);
}

TEST_CASE("naive: gradient of CV^2") {
  check_values(cv_squared_grad({1.275219, 1.526358, 1.198423}), {-0.027309, 0.066868, -0.056107},
               5e-7);
  CHECK(cv_squared({2, 2, 2}) == 0);
  CHECK(cv_squared_grad({2, 2, 2}) == Vec{0, 0, 0});
}

TEST_CASE("naive: gradient of the load loss goes through the threshold too") {
  // In the worked example two noisy logits of token 0 tie for the second place: a kink.
  const Vec& logits = kLogits;
  Vec shift = kScaledNoise;
  shift[2] += 0.05;
  for (const int64_t k : {1, 2}) {
    Vec noisy_base = logits;
    add(noisy_base, shift);
    const Vec grad = load_loss_grad(logits, noisy_base, 4, 3, k, 1.0 / 3);
    Vec numeric;
    for (size_t i = 0; i < logits.size(); ++i) {
      const auto at = [&](double step) {
        Vec clean = logits, noisy = noisy_base;
        clean[i] += step;
        noisy[i] += step;
        return load_loss(clean, noisy, 4, 3, k, 1.0 / 3);
      };
      numeric.push_back((at(1e-5) - at(-1e-5)) / 2e-5);
    }
    CHECK(worst_difference(grad, numeric) <= 1e-9);
    // Both paths together: the same shift of all logits of a token changes nothing.
    for (int64_t t = 0; t < 4; ++t) {
      CHECK(std::abs(grad[t * 3] + grad[t * 3 + 1] + grad[t * 3 + 2]) <= 1e-15);
    }
  }
}

TEST_CASE("naive: PRC reference values for eight experts") {
  // One pair of views, eight tokens that correspond one to one, both views with the same rows.
  const auto value = [](auto entry) {
    Vec probs;
    for (int64_t i = 0; i < 2 * 64; ++i) probs.push_back(entry(i / 8 % 8, i % 8));
    return prc(PrcForm::kPaper, probs, 2, 8, 8, {0, 1, 2, 3, 4, 5, 6, 7}, 5e-3, 5e-2);
  };
  const Prc ideal = value([](int64_t t, int64_t e) { return t == e ? 1.0 : 0.0; });
  CHECK(ideal.loss == 0);
  CHECK(ideal.n == 8);

  const Prc uniform = value([](int64_t, int64_t) { return 0.125; });
  CHECK(uniform.diag == doctest::Approx(.765625).epsilon(1e-12));
  CHECK(uniform.off == doctest::Approx(.015625).epsilon(1e-12));
  CHECK(uniform.loss == doctest::Approx(.004609375).epsilon(1e-12));
  for (const double s : uniform.S) CHECK(s == doctest::Approx(.125).epsilon(1e-12));

  const Prc collapsed = value([](int64_t, int64_t e) { return e == 3 ? 1.0 : 0.0; });
  CHECK(collapsed.diag == doctest::Approx(7).epsilon(1e-12));
  CHECK(collapsed.off == 0);
  CHECK(collapsed.loss == doctest::Approx(.035).epsilon(1e-12));

  const Prc twins = value([](int64_t t, int64_t e) { return t / 2 == e / 2 ? 0.5 : 0.0; });
  CHECK(twins.S[0] == doctest::Approx(.5).epsilon(1e-12));
  CHECK(twins.S[1] == doctest::Approx(.5).epsilon(1e-12));
  CHECK(std::abs(twins.loss - .00303571) <= 5e-9);
}

namespace {
// Images interleaved: pair 0 view 1, pair 0 view 2, pair 1 view 1, pair 1 view 2.
const Vec kPairProbs = {.9, .1, .2, .8, .6, .4, .8, .2, .3, .7, .55, .45,
                        .7, .3, .1, .9, .5, .5, .6, .4, .2, .8, .4,  .6};
const Indices kPairMatch = {0, 1, -1, 0, 2, 2};
}  // namespace

TEST_CASE("naive: PRC of two pairs, in both forms") {
  const Prc paper = prc(PrcForm::kPaper, kPairProbs, 4, 3, 2, kPairMatch, 5e-3, 5e-2);
  CHECK(paper.n == 5);
  check_values(paper.S, {.576, .384, .424, .616}, 1e-12);
  check_values(paper.D, {.456, .056, .04, .44, .08, .12}, 1e-12);
  CHECK(paper.diag == doctest::Approx(.163616).epsilon(1e-12));
  CHECK(paper.off == doctest::Approx(.163616).epsilon(1e-12));
  CHECK(std::abs(paper.loss - .00899888) <= 5e-9);

  const Prc fork = prc(PrcForm::kFork, kPairProbs, 4, 3, 2, kPairMatch, 5e-3, 5e-2);
  CHECK(std::abs(fork.diag - .67384533) <= 5e-9);
  CHECK(fork.off == doctest::Approx(.163616).epsilon(1e-12));
  CHECK(std::abs(fork.loss - .01155003) <= 5e-9);
  // fork_diag = 1 - 2 trace(S) / (X E) + sum D^2 / (X E)
  double squares = 0;
  for (const double d : fork.D) squares += d * d;
  CHECK(fork.diag == doctest::Approx(1 - 2 * (.576 + .616) / 6 + squares / 6).epsilon(1e-12));
}

TEST_CASE("naive: the fork's diagonal term at ideal routing is (1 - 1/X)^2") {
  // X pairs of views and X slots, routed so that in every slot each expert gets its share.
  for (const auto& [X, want] : {std::pair<int64_t, double>{16, .8789}, {50, .9604}, {145, .9863}}) {
    Vec probs;
    for (int64_t i = 0; i < 4 * X; ++i) {
      const int64_t e = (i / X / 2 + i % X) % 2;  // (pair + slot) mod 2
      probs.push_back(e == 0 ? 1 : 0);
      probs.push_back(e == 1 ? 1 : 0);
    }
    Indices match;
    for (int64_t i = 0; i < 2 * X; ++i) match.push_back(i % X);
    const Prc p = prc(PrcForm::kFork, probs, 4, X, 2, match, 5e-3, 5e-2);
    CHECK(p.off == 0);
    CHECK(std::abs(p.diag - want) <= 5e-5);
  }
}

TEST_CASE("naive: PRC gradient, and no valid pair") {
  for (const PrcForm form : {PrcForm::kPaper, PrcForm::kFork}) {
    const Vec grad = prc(form, kPairProbs, 4, 3, 2, kPairMatch, 5e-3, 5e-2).dprobs;
    Vec numeric;
    for (size_t i = 0; i < kPairProbs.size(); ++i) {
      const auto at = [&](double step) {
        Vec probs = kPairProbs;
        probs[i] += step;
        return prc(form, probs, 4, 3, 2, kPairMatch, 5e-3, 5e-2).loss;
      };
      numeric.push_back((at(1e-4) - at(-1e-4)) / 2e-4);
    }
    CHECK(worst_difference(grad, numeric) <= 1e-10);
    const Prc none = prc(form, kPairProbs, 4, 3, 2, Indices(6, -1), 5e-3, 5e-2);
    CHECK(none.loss == 0);
    CHECK(none.diag == 0);
    CHECK(none.dprobs == Vec(24, 0));
  }
}

TEST_CASE("naive: GELU") {
  CHECK(gelu(Gelu::kErf, 1) == doctest::Approx(0.8413447460685429).epsilon(1e-12));
  CHECK(gelu(Gelu::kTanh, 1) == doctest::Approx(0.8411919906082768).epsilon(1e-12));
  for (const Gelu kind : {Gelu::kErf, Gelu::kTanh}) {
    for (const double x : {-3.0, -0.7, 0.0, 0.4, 2.5}) {
      const double numeric = (gelu(kind, x + 1e-5) - gelu(kind, x - 1e-5)) / 2e-5;
      CHECK(std::abs(gelu_grad(kind, x) - numeric) <= 1e-9);
    }
  }
}

TEST_CASE("naive: layer norm has the population variance and eps 1e-6 inside the root") {
  const Vec scale = {1, 1, 2, 1}, bias = {0, 0, 0, 0.5};
  LayerNorm norm{{scale.data()}, {bias.data()}, 4};
  const Vec y = norm.forward({0.001, 0.002, 0.003, 0.004});
  const double s = std::sqrt(1.25e-6 + 1e-6);
  check_values(y, {-0.0015 / s, -0.0005 / s, 0.001 / s, 0.5 + 0.0015 / s}, 1e-12);
}

TEST_CASE("naive: attention from its definition, two heads of two features") {
  const int64_t T = 3, W = 4;
  const Vec w = random(1, W * 3 * W), b = random(2, 3 * W), wo = random(3, W * W),
            bo = random(4, W);
  const Vec x = random(5, 2 * T * W);  // two images
  Attention attention{{{w.data()}, {b.data()}, W, 3 * W}, {{wo.data()}, {bo.data()}, W, W}, T, 2};
  const Vec got = attention.forward(x);

  // Column of (3, H, D): which * 4 + h * 2 + d.
  const auto project = [&](int64_t row, int64_t which, int64_t h, int64_t d) {
    const int64_t column = which * 4 + h * 2 + d;
    double sum = b[column];
    for (int64_t i = 0; i < W; ++i) sum += x[row * W + i] * w[i * 12 + column];
    return sum;
  };
  for (int64_t n = 0; n < 2 * T; ++n) {
    const int64_t first = n / T * T;  // of the same image
    Vec y = bo;
    for (int64_t h = 0; h < 2; ++h) {
      double total = 0, mixed[2] = {0, 0};
      for (int64_t s = first; s < first + T; ++s) {
        const double dot =
            project(n, 0, h, 0) * project(s, 1, h, 0) + project(n, 0, h, 1) * project(s, 1, h, 1);
        const double e = std::exp(dot / std::sqrt(2.0));
        total += e;
        for (int64_t d = 0; d < 2; ++d) mixed[d] += e * project(s, 2, h, d);
      }
      for (int64_t i = 0; i < 2 * W; ++i) {
        y[i % W] += mixed[i / W] / total * wo[(h * 2 + i / W) * W + i % W];
      }
    }
    CHECK(worst_difference(Vec(got.begin() + n * W, got.begin() + (n + 1) * W), y) <= 1e-13);
  }
}

TEST_CASE("naive: patches go row by row, their pixels by row, column, channel") {
  const Config c = small();
  Vec image;
  for (int64_t i = 0; i < 32; ++i) {
    const int64_t channel = i / 16, row = i / 4 % 4, column = i % 4;
    image.push_back(static_cast<double>(100 * channel + 10 * row + column));
  }
  const Vec rows = patchify(c, image);
  const Vec second(rows.begin() + 8, rows.begin() + 16);
  CHECK(second == Vec{2, 102, 3, 103, 12, 112, 13, 113});
  const Vec third(rows.begin() + 16, rows.begin() + 24);
  CHECK(third == Vec{20, 120, 21, 121, 30, 130, 31, 131});
}

TEST_CASE("naive: classification loss of the untrained head") {
  Config c = small();
  c.classes = 1000;
  Params params = random_params(c);
  params["head.output.weight"].assign(4 * 1000, 0);
  params["head.output.bias"].assign(1000, -std::log(1000.0));
  c.xent = XentKind::kSigmoid;
  CHECK(std::abs(run(c, params, random_inputs(c), false).cross_entropy - 7.907256) <= 5e-7);
  c.xent = XentKind::kSoftmax;
  CHECK(std::abs(run(c, params, random_inputs(c), false).cross_entropy - 6.907755) <= 5e-7);
}

TEST_CASE("naive: gradients, dropless") {
  for (const int64_t k : {1, 2}) {
    Config c = small();
    c.top_k = k;
    c.moe_layers = {0, 1};
    check_gradients(c, random_inputs(c));
    c.pre_logits = true;
    c.gelu = Gelu::kErf;
    c.xent = XentKind::kSigmoid;
    check_gradients(c, random_inputs(c));
  }
}

TEST_CASE("naive: gradients with importance and load under noise") {
  for (const int64_t k : {1, 2}) {
    Config c = small();
    c.top_k = k;
    c.moe_layers = {0, 1};
    c.noise_std = 2;
    c.group_images = 2;
    c.importance_weight = 0.7;
    c.load_weight = 0.9;
    const Inputs in = random_inputs(c);
    const Result r = run(c, random_params(c), in, false);
    CHECK(r.importance > 1e-3);
    CHECK(r.load > 1e-3);
    CHECK(r.total == doctest::Approx(r.cross_entropy + 0.7 * r.importance + 0.9 * r.load));
    check_gradients(c, in);
  }
}

TEST_CASE("naive: gradients with drops and expert dropout") {
  for (const Priority priority : {Priority::kVanilla, Priority::kBatch}) {
    for (const int64_t k : {1, 2}) {
      Config c = small();
      c.top_k = k;
      c.dropless = false;
      c.capacity_factor = 0.9;
      c.capacity_multiple_of = 1;
      c.group_images = 2;
      c.noise_std = 1;
      c.priority = priority;
      Inputs in = random_inputs(c);
      in.dropout.push_back(random(9, 4 * tokens(c) * k * c.mlp));
      for (double& m : in.dropout[0]) m = m < -0.6 ? 0 : 1.25;
      in.output_dropout.push_back(random(19, 4 * tokens(c) * k * c.width));
      for (double& m : in.output_dropout[0]) m = m < -0.6 ? 0 : 1.25;
      CHECK(dropped(run(c, random_params(c), in, false)) > 0);
      check_gradients(c, in);
    }
  }
}

TEST_CASE("naive: gradients with PRC") {
  for (const PrcForm form : {PrcForm::kPaper, PrcForm::kFork}) {
    for (const bool class_token : {true, false}) {
      Config c = small();
      c.noise_std = 1;  // PRC reads the clean softmax, the choice the noisy one
      c.prc = form;
      c.lambda_diag = 0.8;
      c.lambda_off = 2.5;
      c.prc_class_token = class_token;
      const Inputs in = random_inputs(c);
      CHECK(run(c, random_params(c), in, false).prc > 1e-2);
      check_gradients(c, in);
    }
  }
}

TEST_CASE("naive: gradients with the mean of all tokens as the feature") {
  Config c = small();
  c.pool = Pool::kMean;
  c.prc = PrcForm::kPaper;
  c.lambda_diag = 0.8;
  c.lambda_off = 2.5;
  CHECK(parameter_shapes(c)[2].first == "stem.position");
  CHECK(parameter_shapes(c)[2].second == Indices{4, 4});
  check_gradients(c, random_inputs(c));
}

TEST_CASE("naive: the gradient check fails on a gradient that is slightly wrong") {
  Config c = small();
  const Params params = random_params(c);
  const Inputs in = random_inputs(c);
  Params grads = run(c, params, in).grads;
  for (double& g : grads["blocks.1.moe.router.weight"]) g *= 1.00001;
  const GradReport report = compare_gradients(c, params, in, grads);
  CHECK(report.worst > 5e-6);
  CHECK(report.name == "blocks.1.moe.router.weight");
}

TEST_CASE("naive: a key bias has no gradient") {
  Config c = small();
  const Vec g = run(c, random_params(c), random_inputs(c)).grads.at("blocks.0.attention.qkv.bias");
  for (int64_t i = 0; i < 4; ++i) {
    CHECK(std::abs(g[i]) > 1e-8);
    CHECK(std::abs(g[4 + i]) <= 1e-15);
    CHECK(std::abs(g[8 + i]) > 1e-8);
  }
}

TEST_CASE("naive: one expert, or all of several equal ones, is the dense model") {
  Config dense = small();
  dense.moe_layers = {};
  const Params params = random_params(dense);
  const Result want = run(dense, params, random_inputs(dense));
  for (const int64_t experts : {1, 3}) {
    Config c = small();
    c.experts = c.top_k = experts;
    Params copies = random_params(c);
    for (const auto& [name, value] : params) {
      std::string to = name;
      const bool is_mlp = name.starts_with("blocks.1.mlp.");
      if (is_mlp) to.replace(0, 13, "blocks.1.moe.experts.");
      copies[to].clear();
      for (int64_t e = 0; e < (is_mlp ? experts : 1); ++e) {
        copies[to].insert(copies[to].end(), value.begin(), value.end());
      }
    }
    const Result got = run(c, copies, random_inputs(c));
    CHECK(worst_difference(got.logits, want.logits) <= 1e-13);
    CHECK(worst_difference(got.grads.at("stem.position"), want.grads.at("stem.position")) <= 1e-13);
  }
}

TEST_CASE("naive: routing groups are separate, and enough capacity is dropless") {
  Config c = small();
  c.dropless = false;
  c.capacity_factor = 0.9;
  c.capacity_multiple_of = 1;
  c.group_images = 1;
  const Params params = random_params(c);
  const Inputs in = random_inputs(c);
  const Result all = run(c, params, in, false);
  CHECK(dropped(all) > 0);
  double importance = 0;
  for (int64_t b = 0; b < 4; ++b) {
    Inputs one;
    one.images.assign(in.images.begin() + b * 32, in.images.begin() + (b + 1) * 32);
    one.labels = {in.labels[b]};
    const Result r = run(c, params, one, false);
    const Vec logits(all.logits.begin() + b * 3, all.logits.begin() + (b + 1) * 3);
    CHECK(r.logits == logits);
    importance += r.importance / 4;
  }
  CHECK(all.importance == doctest::Approx(importance).epsilon(1e-12));
  CHECK(all.total == all.cross_entropy);  // the weight of importance is 0
  CHECK(all.load == 0);                   // not defined without noise

  c.capacity_factor = 4;
  const Result enough = run(c, params, in, false);
  CHECK(dropped(enough) == 0);
  c.dropless = true;
  CHECK(run(c, params, in, false).logits == enough.logits);
  c.group_images = 0;
  CHECK(run(c, params, in, false).logits == enough.logits);
}

TEST_CASE("naive: noise moves the choice, the weights are the noisy softmax as it is") {
  Config c = small();
  c.noise_std = 2;
  const Inputs in = random_inputs(c);
  const LayerTrace t = run(c, random_params(c), in, false).layers[0];
  Vec noisy = t.logits;
  for (size_t i = 0; i < noisy.size(); ++i) noisy[i] += 2.0 / 4 * in.noise[0][i];  // std / experts
  CHECK(worst_difference(t.noisy, softmax(noisy, 4)) <= 1e-15);
  CHECK(worst_difference(t.clean, softmax(t.logits, 4)) <= 1e-15);
  int64_t moved = 0;
  for (int64_t n = 0; n < 20; ++n) {
    Indices clean(2);
    top_k(&t.clean[n * 4], 4, 2, clean.data());
    moved += clean[0] != t.expert[n * 2] ? 1 : 0;
    for (int64_t j = 0; j < 2; ++j) {
      CHECK(t.weight[n * 2 + j] == t.noisy[n * 4 + t.expert[n * 2 + j]]);
    }
  }
  CHECK(moved > 0);
}

TEST_CASE("naive: row n K + j of the dropout mask belongs to choice j of token n") {
  Config c = small();
  c.pool = Pool::kMean;
  c.dropless = false;
  c.capacity_factor = 0.7;
  c.capacity_multiple_of = 1;
  const Params params = random_params(c);
  Inputs in = random_inputs(c);
  in.dropout.push_back(Vec(4 * 4 * 2 * c.mlp, 1));
  const Result base = run(c, params, in, false);
  CHECK(dropped(base) > 0);
  for (int64_t choice = 0; choice < 4 * 4 * 2; ++choice) {
    Inputs changed = in;
    for (int64_t m = 0; m < c.mlp; ++m) changed.dropout[0][choice * c.mlp + m] = 0;
    const Result r = run(c, params, changed, false);
    for (int64_t b = 0; b < 4; ++b) {
      const bool same = r.logits[b * 3] == base.logits[b * 3];
      CHECK(same == (b != choice / 2 / 4 || base.layers[0].expert[choice] < 0));
    }
  }
}

TEST_CASE("naive: output dropout multiplies what an expert returns") {
  const Config c = small();
  const Params params = random_params(c);
  const Inputs plain = random_inputs(c);
  Inputs in = plain;
  in.output_dropout.push_back(random(19, 4 * tokens(c) * 2 * c.width));
  check_gradients(c, in);
  const Vec some = run(c, params, in, false).logits;
  // Without any expert's output, the bias included, nothing of theirs has a gradient.
  in.output_dropout[0].assign(in.output_dropout[0].size(), 0);
  const Result none = run(c, params, in);
  CHECK(none.logits != some);
  for (const char* name : {"up.weight", "up.bias", "down.weight", "down.bias"}) {
    const Vec& g = none.grads.at(std::string("blocks.1.moe.experts.") + name);
    CHECK(g == Vec(g.size(), 0));
  }
  in.output_dropout[0].assign(in.output_dropout[0].size(), 1);
  CHECK(run(c, params, in).grads == run(c, params, plain).grads);
}

TEST_CASE("naive: PRC pairs tokens of the clean softmax, with or without the class token") {
  for (const bool class_token : {true, false}) {
    Config c = small();
    c.noise_std = 2;
    c.prc = PrcForm::kPaper;
    c.prc_class_token = class_token;
    const Inputs in = random_inputs(c);
    const LayerTrace t = run(c, random_params(c), in, false).layers[0];
    Vec S(16, 0);
    double n = 0;
    const auto pair = [&](int64_t row1, int64_t row2) {
      n += 1;
      for (int64_t i = 0; i < 16; ++i)
        S[i] += t.clean[row1 * 4 + i / 4] * t.clean[row2 * 4 + i % 4];
    };
    for (int64_t b = 0; b < 2; ++b) {  // image 2b is view 1; of its five tokens the first is class
      if (class_token) pair(2 * b * 5, (2 * b + 1) * 5);
      for (int64_t p = 0; p < 4; ++p) {
        const int64_t m = in.match[b * 4 + p];
        if (m >= 0) pair(2 * b * 5 + 1 + p, (2 * b + 1) * 5 + 1 + m);
      }
    }
    for (double& s : S) s *= 4 / n;
    CHECK(worst_difference(t.S, S) <= 1e-14);
    CHECK(t.prc == doctest::Approx(5e-3 * t.prc_diag + 5e-2 * t.prc_off).epsilon(1e-12));
  }
}

TEST_CASE("naive: rejects inputs of the wrong shape") {
  const Config c = small();
  const Params params = random_params(c);
  Inputs in = random_inputs(c);
  in.images.pop_back();
  CHECK_THROWS_AS(run(c, params, in), std::invalid_argument);
  in = random_inputs(c);
  in.labels[0] = 3;
  CHECK_THROWS_AS(run(c, params, in), std::invalid_argument);
  in = random_inputs(c);
  in.noise = {Vec(3, 0)};
  CHECK_THROWS_AS(run(c, params, in), std::invalid_argument);
  Params missing = params;
  missing.erase("stem.class_token");
  CHECK_THROWS_AS(run(c, missing, random_inputs(c)), std::invalid_argument);
}
