#include "moe/prc_loss.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "engine/ops/softmax.h"
#include "tests/reference/naive_layers.h"
#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"
#include "tests/support/model_fixture.h"

using namespace engine::test;
using engine::ErrorKind;
using engine::Shape;
using engine::Tensor;
using moe::PrcForm;

namespace {

using Ints = std::vector<int32_t>;

// What make_pairs() gives for images of `tokens`; without a class token all are patches.
struct Pairs {
  Ints left, right, slot;
  int64_t count, slots;
};

struct PairOptions {
  bool class_token = true, pair_class_tokens = true;
  const engine::RngKey* shuffle = nullptr;
};

Pairs pairs_of(const Ints& match, int64_t tokens, const PairOptions& options = {}) {
  engine::StepArena arena;
  engine::Tape tape(arena);
  const int64_t patches = tokens - (options.class_token ? 1 : 0);
  const auto count = static_cast<int64_t>(match.size()) / patches;
  const moe::TokenPairs p =
      moe::make_pairs(tape.arena(), view(match, {count, patches}), tokens, options.class_token,
                      options.pair_class_tokens, options.shuffle);
  const auto first = [&p](const Tensor& t) {
    const auto all = copy_of<int32_t>(t);
    return Ints(all.begin(), all.begin() + p.count);
  };
  return {first(p.left), first(p.right), first(p.slot), p.count, p.slots};
}

// The loss of probabilities (images * tokens, E) whose patches are all there is, its stats and
// its gradient.
struct Outcome {
  double loss, diag, off;
  naive::Vec s, grad;
};

Outcome prc_of(const naive::Vec& probs, int64_t tokens, int64_t experts, const Ints& match,
               PrcForm form, double lambda_diag = 5e-3, double lambda_off = 5e-2) {
  moe::PrcStats stats;
  Outcome out{};
  const auto run = run_op<double>(
      [&](std::span<const Tensor> x) {
        engine::Tape& tape = *x[0].tape();
        const auto pairs = static_cast<int64_t>(match.size()) / tokens;
        const moe::TokenPairs p =
            moe::make_pairs(tape.arena(), view(match, {pairs, tokens}), tokens,
                            /*class_token=*/false, false, nullptr);
        const Tensor loss = moe::prc_loss(x[0], p, form, lambda_diag, lambda_off, &stats);
        out.s = f64_of(stats.s);
        out.diag = f64_of(stats.terms)[0];
        out.off = f64_of(stats.terms)[1];
        return loss;
      },
      {Shape{static_cast<int64_t>(probs.size()) / experts, experts}}, {probs}, {1});
  out.loss = run.y[0];
  out.grad = run.grads[0];
  return out;
}

const naive::Vec kProbs = {.9, .1, .2, .8, .6, .4, .8, .2, .3, .7, .55, .45,
                           .7, .3, .1, .9, .5, .5, .6, .4, .2, .8, .4,  .6};
const Ints kMatch = {0, 1, -1, 0, 2, 2};

// Random softmax rows of `pairs` pairs of views, and which of their tokens correspond.
struct Views {
  naive::Vec probs;
  Ints match;
};
Views random_views(int64_t pairs, int64_t tokens, int64_t experts, uint64_t seed) {
  Views v{naive::softmax(values<double>(2 * pairs * tokens * experts, seed, 2), experts), {}};
  for (int64_t i = 0; i < pairs * tokens; ++i) {
    v.match.push_back(noise(seed + 1, i) < -0.4
                          ? -1
                          : static_cast<int32_t>(7 * i * i + i) % static_cast<int32_t>(tokens));
  }
  return v;
}

}  // namespace

TEST_CASE("prc: reference values of eight experts") {
  // One pair of views, eight tokens that correspond one to one, both views with the same rows.
  const auto value = [](double (*entry)(int64_t t, int64_t e)) {
    naive::Vec probs;
    for (int64_t i = 0; i < 2 * 64; ++i) probs.push_back(entry(i / 8 % 8, i % 8));
    return prc_of(probs, 8, 8, {0, 1, 2, 3, 4, 5, 6, 7}, PrcForm::kPaper);
  };
  const Outcome ideal = value([](int64_t t, int64_t e) { return t == e ? 1.0 : 0.0; });
  CHECK(ideal.loss == 0);
  CHECK(ideal.grad == naive::Vec(128, 0));
  const Outcome uniform = value([](int64_t, int64_t) { return 0.125; });
  CHECK(uniform.diag == doctest::Approx(.765625).epsilon(1e-12));
  CHECK(uniform.off == doctest::Approx(.015625).epsilon(1e-12));
  CHECK(uniform.loss == doctest::Approx(.004609375).epsilon(1e-12));
  const Outcome collapsed = value([](int64_t, int64_t e) { return e == 3 ? 1.0 : 0.0; });
  CHECK(collapsed.diag == doctest::Approx(7).epsilon(1e-12));
  CHECK(collapsed.loss == doctest::Approx(.035).epsilon(1e-12));
  const Outcome twins = value([](int64_t t, int64_t e) { return t / 2 == e / 2 ? 0.5 : 0.0; });
  CHECK(std::abs(twins.loss - .00303571) <= 5e-9);
}

TEST_CASE("prc: the worked example in both forms") {
  const Outcome paper = prc_of(kProbs, 3, 2, kMatch, PrcForm::kPaper);
  CHECK(error_of(paper.s, {.576, .384, .424, .616}) <= 1e-12);
  CHECK(paper.diag == doctest::Approx(.163616).epsilon(1e-12));
  CHECK(paper.off == doctest::Approx(.163616).epsilon(1e-12));
  CHECK(std::abs(paper.loss - .00899888) <= 5e-9);
  const Outcome fork = prc_of(kProbs, 3, 2, kMatch, PrcForm::kFork);
  CHECK(error_of(fork.s, {.576, .384, .424, .616}) <= 1e-12);
  CHECK(std::abs(fork.diag - .67384533) <= 5e-9);
  CHECK(fork.off == doctest::Approx(.163616).epsilon(1e-12));
  CHECK(std::abs(fork.loss - .01155003) <= 5e-9);
}

TEST_CASE("prc: the fork's diagonal term at ideal routing is (1 - 1/X)^2") {
  for (const auto& [slots, want] : {std::pair{16, .8789}, {50, .9604}, {145, .9863}}) {
    naive::Vec probs;
    for (int64_t i = 0; i < 4 * slots; ++i) {
      const int64_t e = (i / slots / 2 + i % slots) % 2;  // (pair + slot) mod 2
      probs.push_back(e == 0 ? 1 : 0);
      probs.push_back(e == 1 ? 1 : 0);
    }
    Ints match;
    for (int32_t i = 0; i < 2 * slots; ++i) match.push_back(i % slots);
    const Outcome o = prc_of(probs, slots, 2, match, PrcForm::kFork);
    CHECK(o.off == 0);
    CHECK(std::abs(o.diag - want) <= 5e-5);
  }
}

TEST_CASE("prc: value and gradient equal the naive ones") {
  for (const auto& [pairs, tokens, experts] :
       {std::tuple{2, 3, 2}, {1, 1, 3}, {5, 9, 4}, {20, 16, 8}}) {
    const Views v = random_views(pairs, tokens, experts, 7);
    for (const PrcForm form : {PrcForm::kPaper, PrcForm::kFork}) {
      const Outcome got = prc_of(v.probs, tokens, experts, v.match, form, 0.8, 2.5);
      const naive::Prc want = naive::prc(
          form == PrcForm::kPaper ? naive::PrcForm::kPaper : naive::PrcForm::kFork, v.probs,
          2 * pairs, tokens, experts, {v.match.begin(), v.match.end()}, 0.8, 2.5);
      REQUIRE(want.n > 0);
      CHECK(error_of(got.loss, want.loss) <= 1e-12);
      CHECK(error_of(got.diag, want.diag) <= 1e-12);
      CHECK(error_of(got.off, want.off) <= 1e-12);
      CHECK(error_of(got.s, want.S) <= 1e-12);
      CHECK(error_of(got.grad, want.dprobs) <= 1e-12);
      // The entries of S add up to E.
      double sum = 0;
      for (const double s : got.s) sum += s;
      CHECK(sum == doctest::Approx(experts).epsilon(1e-12));
    }
  }
}

TEST_CASE("prc: gradient by differences, class tokens included") {
  for (const PrcForm form : {PrcForm::kPaper, PrcForm::kFork}) {
    for (const bool with_class : {false, true}) {
      const Ints match = {2, -1, 0, 1, 1, 1};  // two pairs of views, three patches
      const auto f = [&](std::span<const Tensor> x) {
        const moe::TokenPairs p = moe::make_pairs(x[0].tape()->arena(), view(match, {2, 3}), 4,
                                                  true, with_class, nullptr);
        return moe::prc_loss(engine::softmax(x[0]), p, form, 0.8, 2.5);
      };
      const auto report = gradcheck(f, {Shape{16, 3}});
      CHECK_MESSAGE(report.ok(), report);
    }
  }
}

TEST_CASE("prc: no pair gives 0 and no gradient") {
  for (const PrcForm form : {PrcForm::kPaper, PrcForm::kFork}) {
    engine::StepArena arena;
    fill_with_nan(arena, 100'000);
    engine::Tape tape(arena);
    std::vector<double> grad(24, 0);
    const Ints none(6, -1);
    moe::PrcStats stats;
    const Tensor clean = tape.leaf(view(kProbs, {12, 2}), view(grad, {12, 2}));
    const moe::TokenPairs p =
        moe::make_pairs(tape.arena(), view(none, {2, 3}), 3, false, false, nullptr);
    CHECK(p.count == 0);
    const Tensor loss = moe::prc_loss(clean, p, form, 5e-3, 5e-2, &stats);
    CHECK(scalar(loss) == 0);
    CHECK_FALSE(tape.wants_grad(loss));
    CHECK(f64_of(stats.terms) == naive::Vec(2, 0));
    CHECK(f64_of(stats.s) == naive::Vec(4, 0));
    // As a part of a total it leaves the rest alone.
    const std::vector<double> one = {1};
    const Ints labels(12, 1);
    const Tensor rest =
        engine::cross_entropy(clean, view(labels, {12}), engine::CrossEntropy::kSigmoid, 12);
    tape.backward(engine::add(rest, loss), view(one, {1}));
    const std::vector<double> together = grad;
    std::fill(grad.begin(), grad.end(), 0.0);
    tape.clear();
    const Tensor again = tape.leaf(view(kProbs, {12, 2}), view(grad, {12, 2}));
    tape.backward(
        engine::cross_entropy(again, view(labels, {12}), engine::CrossEntropy::kSigmoid, 12),
        view(one, {1}));
    CHECK(together == grad);
  }
}

TEST_CASE("prc: f32 rows, an upstream gradient, and no gradient that nobody wants") {
  const Views v = random_views(5, 9, 4, 3);
  const std::vector<float> probs(v.probs.begin(), v.probs.end());
  for (const PrcForm form : {PrcForm::kPaper, PrcForm::kFork}) {
    const auto f = [&](std::span<const Tensor> x) {
      const moe::TokenPairs p =
          moe::make_pairs(x[0].tape()->arena(), view(v.match, {5, 9}), 9, false, false, nullptr);
      return moe::prc_loss(x[0], p, form, 0.8, 2.5);
    };
    const OpRun<float> single = run_op<float>(f, {Shape{90, 4}}, {probs}, {3});
    const Outcome twice = prc_of({probs.begin(), probs.end()}, 9, 4, v.match, form, 0.8, 2.5);
    CHECK(error_of(single.y[0], twice.loss) <= 1e-6);
    naive::Vec want = twice.grad;
    for (double& g : want) g *= 3;
    CHECK(error_of(f64_of(single.grads[0]), want) <= 1e-5);

    engine::StepArena arena;
    engine::Tape tape(arena);
    const Tensor input = tape.input(view(probs, {90, 4}));
    CHECK_FALSE(tape.wants_grad(f({&input, 1})));
  }
}

TEST_CASE("prc: same bits for any number of threads") {
  const int64_t pairs = 40, tokens = 37, experts = 8;
  const Views v = random_views(pairs, tokens, experts, 11);
  const std::vector<float> probs(v.probs.begin(), v.probs.end());
  for (const PrcForm form : {PrcForm::kPaper, PrcForm::kFork}) {
    CHECK(same_bits_for_threads([&] {
      const OpRun<float> r = run_op<float>(
          [&](std::span<const Tensor> x) {
            const moe::TokenPairs p =
                moe::make_pairs(x[0].tape()->arena(), view(v.match, {pairs, tokens}), tokens, false,
                                false, nullptr);
            return moe::prc_loss(x[0], p, form, 0.8, 2.5);
          },
          {Shape{2 * pairs * tokens, experts}}, {probs});
      std::vector<float> all = r.grads[0];
      all.push_back(r.y[0]);
      return all;
    }));
  }
}

TEST_CASE("prc: pairs of tokens, with and without class tokens") {
  const Ints match = {1, -1, 0, 2, 2, -1};  // two pairs of views, three patches, four tokens
  const Pairs all = pairs_of(match, 4);
  CHECK(all.count == 6);
  CHECK(all.slots == 4);
  CHECK(all.left == Ints{1, 3, 9, 10, 0, 8});
  CHECK(all.right == Ints{6, 5, 15, 15, 4, 12});
  CHECK(all.slot == Ints{0, 2, 0, 1, 3, 3});

  const Pairs patches = pairs_of(match, 4, {.pair_class_tokens = false});
  CHECK(patches.count == 4);
  CHECK(patches.slots == 3);
  CHECK(patches.left == Ints{1, 3, 9, 10});
  CHECK(patches.right == Ints{6, 5, 15, 15});
  CHECK(patches.slot == Ints{0, 2, 0, 1});

  // A model without class tokens has none to pair.
  const Pairs mean = pairs_of(match, 3, {.class_token = false, .pair_class_tokens = true});
  CHECK(mean.slots == 3);
  CHECK(mean.left == Ints{0, 2, 6, 7});
  CHECK(mean.right == Ints{4, 3, 11, 11});

  const Pairs only_class = pairs_of(Ints(6, -1), 4);
  CHECK(only_class.count == 2);
  CHECK(only_class.left == Ints{0, 8});
  CHECK(only_class.right == Ints{4, 12});
}

TEST_CASE("prc: shuffled pairs keep the margins and lose the correspondence") {
  const int64_t pairs = 30, patches = 16;
  Ints match;
  for (int32_t i = 0; i < pairs * patches; ++i) match.push_back(i % 5 == 4 ? -1 : i * 7 % 16);
  const Pairs plain = pairs_of(match, patches + 1);
  const engine::RngKey key(1, engine::Purpose::kPairShuffle);
  const Pairs mixed = pairs_of(match, patches + 1, {.shuffle = &key});
  CHECK(mixed.count == plain.count);
  CHECK(mixed.slots == plain.slots);
  CHECK(mixed.left == plain.left);
  CHECK(mixed.slot == plain.slot);
  const auto sorted = [](Ints v, int64_t begin, int64_t end) {
    std::sort(v.begin() + begin, v.begin() + end);
    return Ints(v.begin() + begin, v.begin() + end);
  };
  const int64_t n = plain.count - pairs;  // patches come first, then the class tokens
  CHECK(sorted(mixed.right, 0, n) == sorted(plain.right, 0, n));
  CHECK(sorted(mixed.right, n, n + pairs) == sorted(plain.right, n, n + pairs));
  // A random permutation leaves about one of n where it was, and about n / pairs in its image.
  int64_t same = 0, same_image = 0;
  for (int64_t i = 0; i < n; ++i) {
    same += mixed.right[i] == plain.right[i] ? 1 : 0;
    same_image += mixed.right[i] / (patches + 1) == plain.right[i] / (patches + 1) ? 1 : 0;
  }
  CHECK(same <= 20);  // several left patches may share a right one
  CHECK(same_image <= 3 * n / pairs);
  CHECK(pairs_of(match, patches + 1, {.shuffle = &key}).right == mixed.right);
  const engine::RngKey other = key.with(1);
  CHECK(pairs_of(match, patches + 1, {.shuffle = &other}).right != mixed.right);
}

TEST_CASE("prc: every permutation of three pairs is as likely") {
  std::map<Ints, int64_t> seen;
  const engine::RngKey key(5, engine::Purpose::kTest);
  const int64_t draws = 6000;
  for (int64_t i = 0; i < draws; ++i) {
    const engine::RngKey own = key.with(static_cast<uint64_t>(i));
    ++seen[pairs_of({0, 1, 2}, 3, {.class_token = false, .shuffle = &own}).right];
  }
  CHECK(seen.size() == 6);
  for (const auto& [order, count] : seen) {
    CHECK(std::abs(static_cast<double>(count) - 1000) <= 5 * std::sqrt(1000 * 5 / 6.0));
  }
}

TEST_CASE("prc: refuses what it cannot do") {
  CHECK(caught([] { pairs_of({0, 3, 0}, 4); }).is(ErrorKind::kValue, {"3"}));
  CHECK(caught([] { pairs_of({0, -2, 0}, 4); }).is(ErrorKind::kValue));
  engine::StepArena arena;
  engine::Tape tape(arena);
  const Ints match = {0, 1, 2};
  const auto pairs = [&](const Shape& shape, int64_t tokens) {
    return moe::make_pairs(tape.arena(), view(match, shape), tokens, true, true, nullptr);
  };
  CHECK(caught([&] { pairs({1, 3}, 3); }).is(ErrorKind::kShape));
  CHECK(caught([&] { pairs({3}, 4); }).is(ErrorKind::kShape));
  const moe::TokenPairs p = pairs({1, 3}, 4);
  const std::vector<double> probs(16, 0.5);
  const Tensor clean = tape.input(view(probs, {8, 2}));
  const auto loss = [&](const Tensor& x, PrcForm form) {
    return caught([&] { moe::prc_loss(x, p, form, 1, 1); });
  };
  CHECK_FALSE(loss(clean, PrcForm::kPaper).kind);
  CHECK(loss(clean, PrcForm::kNone).is(ErrorKind::kValue));
  CHECK(loss(view(probs, {8, 2}), PrcForm::kPaper).is(ErrorKind::kValue, {"tape"}));
  CHECK(loss(tape.input(view(probs, {16})), PrcForm::kPaper).is(ErrorKind::kShape));
  CHECK(loss(tape.input(view(probs, {16, 1})), PrcForm::kPaper).is(ErrorKind::kShape));
}
