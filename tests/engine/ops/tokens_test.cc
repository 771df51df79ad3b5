#include "engine/ops/tokens.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "engine/ops/pointwise.h"
#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"

using namespace engine;
using engine::test::caught;
using engine::test::distance;
using engine::test::gradcheck;
using engine::test::run_op;
using engine::test::values;
using engine::test::view;

namespace {

const Tensor kNone;

test::Function patchify_of(int64_t patch) {
  return [patch](std::span<const Tensor> x) { return patchify(x[0], patch); };
}
Tensor embed_of(std::span<const Tensor> x) { return embed_tokens(x[0], x[1], x[2]); }
Tensor embed_plain_of(std::span<const Tensor> x) { return embed_tokens(x[0], kNone, x[1]); }
test::Function select_of(int64_t token) {
  return [token](std::span<const Tensor> x) { return select_token(x[0], token); };
}
Tensor mean_of(std::span<const Tensor> x) { return mean_tokens(x[0]); }

}  // namespace

TEST_CASE("patchify: pixels of a patch stand together in row and column and channel order") {
  for (const Shape& s :
       {Shape{1, 1, 1, 1}, Shape{2, 3, 4, 6}, Shape{3, 1, 6, 2}, Shape{2, 2, 9, 3}}) {
    for (const int64_t p : {1, 2, 3}) {
      if (s[2] % p != 0 || s[3] % p != 0) continue;
      CAPTURE(s);
      CAPTURE(p);
      const auto x = values<float>(s.numel(), 1);
      const auto y = run_op<float>(patchify_of(p), {s}, {x}).y;
      size_t at = 0, wrong = 0;
      for (int64_t b = 0; b < s[0]; ++b) {
        for (int64_t gy = 0; gy < s[2] / p; ++gy) {
          for (int64_t gx = 0; gx < s[3] / p; ++gx) {
            for (int64_t row = 0; row < p; ++row) {
              for (int64_t col = 0; col < p; ++col) {
                for (int64_t c = 0; c < s[1]; ++c, ++at) {
                  const int64_t from = ((b * s[1] + c) * s[2] + gy * p + row) * s[3] + gx * p + col;
                  wrong += y[at] == x[from] ? 0 : 1;
                }
              }
            }
          }
        }
      }
      CHECK(at == y.size());
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("patchify: shape and gradient") {
  StepArena arena;
  Tape tape(arena);
  const std::vector<float> v(2 * 3 * 4 * 6);
  CHECK(patchify(tape.input(view(v, {2, 3, 4, 6})), 2).shape() == Shape{2, 6, 12});
  CHECK(gradcheck(patchify_of(2), {Shape{2, 3, 4, 2}}).ok());
  const auto twice = [](std::span<const Tensor> x) {
    const Tensor y = scale(x[0], 2);  // overwritten by one, added to by the other
    return multiply(patchify(y, 2), patchify(y, 2));
  };
  CHECK(gradcheck(twice, {Shape{1, 2, 4, 4}}).ok());
}

TEST_CASE("embed_tokens: puts the class token in front and adds positions") {
  for (const int64_t width : {1, 7, 16, 19}) {
    const int64_t batch = 3, patches = 5;
    const auto x = values<float>(batch * patches * width, 1), cls = values<float>(width, 2),
               pos = values<float>((patches + 1) * width, 3);
    const auto y = run_op<float>(embed_of, {{batch, patches, width}, {width}, {patches + 1, width}},
                                 {x, cls, pos})
                       .y;
    const auto plain = run_op<float>(embed_plain_of, {{batch, patches, width}, {patches, width}},
                                     {x, {pos.begin(), pos.end() - width}})
                           .y;
    bool right = true;
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t t = 0; t <= patches; ++t) {
        for (int64_t d = 0; d < width; ++d) {
          const float from = t == 0 ? cls[d] : x[(b * patches + t - 1) * width + d];
          right &= y[(b * (patches + 1) + t) * width + d] == from + pos[t * width + d];
          if (t == patches) continue;
          const int64_t at = (b * patches + t) * width + d;
          right &= plain[at] == x[at] + pos[t * width + d];
        }
      }
    }
    CHECK(right);
  }
}

TEST_CASE("embed_tokens: gradient") {
  auto report = gradcheck(embed_of, {Shape{3, 2, 5}, Shape{5}, Shape{3, 5}});
  CHECK_MESSAGE(report.ok(), report);
  report = gradcheck(embed_plain_of, {Shape{3, 2, 5}, Shape{2, 5}});
  CHECK_MESSAGE(report.ok(), report);
  report = test::gradcheck_along(embed_of, {Shape{9, 16, 33}, Shape{33}, Shape{17, 33}});
  CHECK_MESSAGE(report.ok(), report);
  const auto chain = [](std::span<const Tensor> x) {
    const Tensor p = scale(x[0], 2), c = scale(x[1], 3), e = scale(x[2], 4);
    return multiply(embed_tokens(p, c, e), embed_tokens(p, c, e));
  };
  report = gradcheck(chain, {Shape{2, 2, 3}, Shape{3}, Shape{3, 3}});
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("embed_tokens: gradient when only some inputs want one") {
  const auto x = values<double>(12, 1), c = values<double>(3, 2), e = values<double>(9, 3);
  const Shape shapes[3] = {{2, 2, 3}, {3}, {3, 3}};
  for (int which = 0; which < 3; ++which) {
    const auto f = [&](std::span<const Tensor> in) {
      const Tensor fixed[3] = {in[0].tape()->input(view(x, shapes[0])), view(c, shapes[1]),
                               view(e, shapes[2])};
      const auto at = [&](int i) { return i == which ? in[0] : fixed[i]; };
      return embed_tokens(at(0), at(1), at(2));
    };
    CHECK(gradcheck(f, {shapes[which]}).ok());
  }
}

TEST_CASE("select_token: takes one token of every image") {
  const auto x = values<float>(3 * 4 * 5, 1);
  for (int64_t t = 0; t < 4; ++t) {
    const auto run = run_op<float>(select_of(t), {Shape{3, 4, 5}}, {x});
    const auto cotangent = values<float>(15, 1000);
    bool right = run.y.size() == 15;
    for (int64_t i = 0; i < 60; ++i) {
      const int64_t b = i / 20, token = i / 5 % 4, d = i % 5;
      if (token == t) right &= run.y[b * 5 + d] == x[i];
      right &= run.grads[0][i] == (token == t ? cotangent[b * 5 + d] : 0.0f);
    }
    CHECK(right);
  }
  const auto chain = [](std::span<const Tensor> in) {
    const Tensor y = scale(in[0], 2);
    return multiply(select_token(y, 0), multiply(select_token(y, 2), select_token(y, 0)));
  };
  CHECK(gradcheck(chain, {Shape{2, 3, 4}}).ok());
}

TEST_CASE("mean_tokens: mean and gradient") {
  for (const Shape& s : {Shape{1, 1, 1}, Shape{3, 7, 5}, Shape{2, 64, 17}, Shape{0, 2, 3}}) {
    const auto x = values<float>(s.numel(), 1);
    std::vector<double> want(static_cast<size_t>(s[0] * s[2]), 0);
    for (int64_t i = 0; i < s.numel(); ++i) {
      want[i / (s[1] * s[2]) * s[2] + i % s[2]] += double(x[i]) / double(s[1]);
    }
    CHECK(distance(run_op<float>(mean_of, {s}, {x}).y, want) < 1e-6);
  }
  CHECK(gradcheck(mean_of, {Shape{2, 3, 9}}).ok());
  const auto chain = [](std::span<const Tensor> x) {
    const Tensor y = scale(x[0], 2);
    return multiply(mean_tokens(y), mean_tokens(multiply(y, y)));
  };
  CHECK(gradcheck(chain, {Shape{2, 3, 4}}).ok());
}

TEST_CASE("tokens: same bits for any number of threads") {
  CHECK(test::op_same_bits_for_threads<float>(patchify_of(4), {Shape{9, 3, 32, 32}}));
  CHECK(test::op_same_bits_for_threads<float>(embed_of,
                                              {Shape{33, 16, 50}, Shape{50}, Shape{17, 50}}));
  CHECK(test::op_same_bits_for_threads<float>(mean_of, {Shape{33, 17, 50}}));
  CHECK(test::op_same_bits_for_threads<float>(select_of(2), {Shape{33, 17, 50}}));
}

TEST_CASE("tokens: same bits in batches of 1 and 7 and 256") {
  CHECK(test::batch_shows_nowhere<float>(patchify_of(2), {3, 4, 6}, {}));
  CHECK(test::batch_shows_nowhere<float>(embed_of, {4, 9}, {Shape{9}, Shape{5, 9}}));
  CHECK(test::batch_shows_nowhere<float>(mean_of, {5, 19}, {}));
  CHECK(test::batch_shows_nowhere<float>(select_of(1), {5, 19}, {}));
}

TEST_CASE("tokens: reject what they cannot do") {
  StepArena arena;
  Tape tape(arena);
  const std::vector<float> v(24), none;
  const Tensor images = tape.input(view(v, {1, 1, 4, 6}));
  CHECK(caught([&] { patchify(images, 4); }).is(ErrorKind::kShape, {"patchify", "4", "(1,1,4,6)"}));
  CHECK(caught([&] { patchify(images, 3); }).is(ErrorKind::kShape, {"3"}));
  CHECK(caught([&] { patchify(images, 0); }).is(ErrorKind::kShape, {"0"}));
  CHECK(caught([&] { patchify(tape.input(view(v, {4, 6})), 2); }).is(ErrorKind::kShape, {"(4,6)"}));
  CHECK(caught([&] { patchify(view(v, {1, 1, 4, 6}), 2); }).is(ErrorKind::kValue, {"tape"}));

  const Tensor x = tape.input(view(v, {2, 3, 4}));
  const std::vector<float> c(4), c5(5), p(16), p3(12);
  const Tensor cls = view(c, {4}), pos = view(p, {4, 4});
  CHECK(caught([&] { embed_tokens(x, cls, pos); }).kind == std::nullopt);
  CHECK(caught([&] { embed_tokens(x, kNone, pos); }).is(ErrorKind::kShape, {"(3,4)", "(4,4)"}));
  CHECK(caught([&] { embed_tokens(x, cls, view(p3, {3, 4})); }).is(ErrorKind::kShape, {"(4,4)"}));
  CHECK(caught([&] { embed_tokens(x, view(c5, {5}), pos); }).is(ErrorKind::kShape, {"(5)"}));
  CHECK(caught([&] { embed_tokens(view(v, {2, 3, 4}), cls, pos); }).is(ErrorKind::kValue));
  CHECK(caught([&] {
          embed_tokens(tape.input(view(v, {6, 4})), cls, pos);
        }).is(ErrorKind::kShape, {"embed_tokens", "(6,4)"}));

  CHECK(caught([&] { select_token(x, 3); }).is(ErrorKind::kShape, {"token 3", "(2,3,4)"}));
  CHECK(caught([&] { select_token(x, -1); }).is(ErrorKind::kShape, {"-1"}));
  CHECK(caught([&] { select_token(view(v, {2, 3, 4}), 0); }).is(ErrorKind::kValue));
  CHECK(caught([&] {
          mean_tokens(tape.input(view(none, {2, 0, 4})));
        }).is(ErrorKind::kShape, {"(2,0,4)"}));
  CHECK(caught([&] { mean_tokens(tape.input(view(v, {6, 4}))); }).is(ErrorKind::kShape, {"(6,4)"}));
  CHECK(caught([&] { mean_tokens(view(v, {2, 3, 4})); }).is(ErrorKind::kValue));
}
