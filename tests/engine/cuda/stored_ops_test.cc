#include <algorithm>
#include <numeric>

#include "engine/ops/add_scaled.h"
#include "engine/ops/attention.h"
#include "engine/ops/attention_kernels.h"
#include "engine/ops/cast.h"
#include "engine/ops/concat.h"
#include "engine/ops/layer_norm.h"
#include "engine/ops/rows.h"
#include "engine/ops/tokens.h"
#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;

// Ops, all but products, with activations stored in bf16. All inputs and cotangents are f32 values
// that bf16 holds, so that the same numbers go through tensors stored in f32.
namespace {

using Floats = std::vector<float>;

Floats rounded(Floats x) {
  round_to_bf16(x.data(), static_cast<int64_t>(x.size()));
  return x;
}
std::vector<double> doubles(const Floats& x) { return {x.begin(), x.end()}; }

// Parameters, masks and weights are f32 beside activations in bf16.
struct Input {
  Shape shape;
  bool activation = true;
  bool grad = true;
};
struct Run {
  Device device;
  Dtype activations;
  bool twice = false;  // the op is used two times, so that its gradients are added up
};
struct Result {
  Floats y;
  std::vector<Floats> gradients;  // zeros before
};

constexpr Run kOnCpu{Device::kCpu, Dtype::kF32}, kWide{Device::kCuda, Dtype::kF32},
    kStored{Device::kCuda, Dtype::kBF16};

// The op's output and gradients, widened where they are stored in bf16.
Result run(Run how, const std::vector<Input>& inputs, const ParityOp& op) {
  StepArena arena(how.device);
  Tape tape(arena);
  std::vector<Buffer> values, gradients;
  std::vector<Tensor> on_tape;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Shape& shape = inputs[i].shape;
    values.push_back(
        upload(rounded(test_values<float>(40 + i, shape.numel(), 2)), shape, how.device));
    gradients.push_back(upload(Floats(static_cast<size_t>(shape.numel())), shape, how.device));
    const Tensor x = inputs[i].grad ? tape.leaf(values[i].tensor(), gradients[i].tensor())
                                    : tape.input(values[i].tensor());
    on_tape.push_back(inputs[i].activation ? cast(x, how.activations) : x);
  }
  Tensor y = op(tape, on_tape);
  CHECK(y.dtype() == how.activations);
  if (how.twice) y = add(y, scale(op(tape, on_tape), 0.5));
  y = cast(y, Dtype::kF32);
  const Buffer seed = upload(rounded(test_values<float>(80, y.numel())), y.shape(), how.device);
  tape.backward(y, seed.tensor());
  Result result{download<float>(y), {}};
  for (const Buffer& g : gradients) result.gradients.push_back(download<float>(g));
  return result;
}

// Storing rounds by 2^-8 of a number at most. y, and each of two gradients that are added, is
// stored up to three times, and what is added before it is stored may be larger than the sum.
constexpr double kStoredBound = 4 * 0x1p-8;

// Against the CPU in f32, used once and twice; gradients of what is f32 are sums in f32 of numbers
// that are exact, and as good as there.
void check_bound(const std::vector<Input>& inputs, const ParityOp& op,
                 double bound_of_wide = tolerance<float>()) {
  for (const bool twice : {false, true}) {
    CAPTURE(twice);
    const Result want = run({Device::kCpu, Dtype::kF32, twice}, inputs, op),
                 got = run({Device::kCuda, Dtype::kBF16, twice}, inputs, op),
                 again = run({Device::kCuda, Dtype::kBF16, twice}, inputs, op);
    CHECK(worst_error(got.y, doubles(want.y)) < kStoredBound);
    CHECK(same_bits(again.y, got.y));
    for (size_t i = 0; i < inputs.size(); ++i) {
      CAPTURE(i);
      CHECK(worst_error(got.gradients[i], doubles(want.gradients[i])) <
            (inputs[i].activation ? kStoredBound : bound_of_wide));
      CHECK(same_bits(again.gradients[i], got.gradients[i]));
    }
  }
}

// Sums are the same as of tensors stored in f32, to the bit; what is stored is rounded once.
void check_bits(const std::vector<Input>& inputs, const ParityOp& op) {
  const Result wide = run(kWide, inputs, op), got = run(kStored, inputs, op);
  CHECK(same_bits(got.y, rounded(wide.y)));
  for (size_t i = 0; i < inputs.size(); ++i) {
    CAPTURE(i);
    const Floats& want = wide.gradients[i];
    CHECK(same_bits(got.gradients[i], inputs[i].activation ? rounded(want) : want));
  }
}

void check_op(const std::vector<Input>& inputs, const ParityOp& op) {
  check_bound(inputs, op);
  check_bits(inputs, op);
}

struct Heads {
  int64_t batch, tokens, heads, dim;
  Shape shape() const { return {batch, tokens, 3 * heads * dim}; }
};
// Heads that are read 16, 4 and 2 bytes at a time, in every tile; both sides of a tile of keys, and
// more rows than the 8 warps of a block have.
const Heads kHeads[] = {{2, 1, 2, 3},   {1, 2, 1, 16},  {2, 17, 3, 12}, {1, 33, 2, 20},
                        {1, 65, 1, 64}, {1, 33, 1, 65}, {1, 17, 1, 96}, {1, 145, 1, 24}};

// dqkv of the kernels, of f32 or bf16 in memory; added to where `add`.
template <class T>
Floats attention_gradient(const Heads& s, bool add, const Floats& qkv, const Floats& saved,
                          const Floats& y, const Floats& dy) {
  const auto given = [](const Floats& x) {
    std::vector<T> out(x.size());
    std::transform(x.begin(), x.end(), out.begin(), [](float v) {
      if constexpr (std::is_same_v<T, bf16>) return to_bf16(v);
      if constexpr (std::is_same_v<T, float>) return v;
    });
    return upload(out, Device::kCuda);
  };
  const Buffer on_qkv = given(qkv), on_y = given(y), on_dy = given(dy), to = given(qkv);
  const Buffer on_saved = upload(saved, Device::kCuda);
  if constexpr (kCudaEnabled) {
    kernels::attention_backward(
        cuda_backend(), on_qkv.data<const T>(), on_saved.data<const float>(), on_y.data<const T>(),
        on_dy.data<const T>(), to.data<T>(), {s.batch, s.tokens, s.heads, s.dim},
        add ? GradWrite::kAccumulate : GradWrite::kOverwrite, Precision::kBf16);
  }
  Floats out;
  for (const T v : download<T>(to)) {
    if constexpr (std::is_same_v<T, bf16>) out.push_back(to_float(v));
    if constexpr (std::is_same_v<T, float>) out.push_back(v);
  }
  return out;
}

}  // namespace

TEST_CASE("cuda: layer norm stored in bf16" * doctest::skip(!cuda_available())) {
  const ParityOp op = [](Tape&, auto in) { return layer_norm(in[0], in[1], in[2]); };
  // A warp a row, a block a row, and rows that are read again; with and without packs. More rows
  // than chunks of a sum have.
  for (const auto& each : {std::pair{1, 1},
                           {5, 3},
                           {137, 6},
                           {9, 8},
                           {140, 130},
                           {2, 132},
                           {1, 1030},
                           {2, 1031},
                           {2, 1532},
                           {1, 16385},
                           {1, 16400}}) {
    const int64_t rows = std::get<0>(each), cols = std::get<1>(each);
    CAPTURE(rows);
    CAPTURE(cols);
    const bool sums = cols < 200;  // over rows: enough columns are slow in an emulator
    const std::vector<Input> inputs{{{rows, cols}}, {{cols}, false, sums}, {{cols}, false, sums}};
    check_bits(inputs, op);
    // Of a row of two or three numbers the gradient of x is what almost cancels.
    if (cols > 3) check_bound(inputs, op);
  }
}

TEST_CASE("cuda: pointwise ops stored in bf16" * doctest::skip(!cuda_available())) {
  for (const Shape& shape : {Shape{1}, Shape{3, 5}, Shape{4, 8, 64}, Shape{3, 1031}}) {
    CAPTURE(shape);
    const Input x{shape};
    check_op({x, x}, [](Tape&, auto in) { return add(in[0], in[1]); });
    check_op({x, {shape, false}}, [](Tape&, auto in) { return multiply(in[0], in[1]); });
    check_op({x}, [](Tape&, auto in) { return scale(in[0], -1.3); });
    check_op({x}, [](Tape&, auto in) { return relu(in[0]); });
    // Its gradient is made of the y that was rounded.
    check_bound({x}, [](Tape&, auto in) { return engine::tanh(in[0]); });
    check_op({x}, [](Tape&, auto in) { return reshape(in[0], {in[0].numel()}); });
    const std::vector<float> factors{0, 1.25f, -2, 0.3f};
    const std::span some(factors.data(), static_cast<size_t>(shape[0]));
    check_op({x, x}, [some](Tape&, auto in) { return add_scaled(in[0], in[1], some); });
  }
  check_op({{{7, 6}}}, [](Tape&, auto in) { return slice(in[0], 2, 5); });
  check_op({{{7, 6}}, {{2, 6}}}, [](Tape&, auto in) { return concat(in); });
  StepArena arena(Device::kCuda);
  Tape tape(arena);
  const Tensor x = tape.input(arena.empty({8}, Dtype::kBF16));
  CHECK(round_bf16(x).raw() == x.raw());
  CHECK_THROWS_AS(multiply(x, x), Error);
}

TEST_CASE("cuda: ops on tokens stored in bf16" * doctest::skip(!cuda_available())) {
  for (const auto& each : {std::pair{1, 1}, {3, 4}, {9, 2}, {2, 17}}) {
    const int64_t batch = std::get<0>(each), patches = std::get<1>(each);
    for (const int64_t width : {1, 5, 12, 16, 264}) {
      CAPTURE(batch);
      CAPTURE(patches);
      CAPTURE(width);
      const Input x{{batch, patches, width}};
      check_op({x, {{width}, false}, {{patches + 1, width}, false}},
               [](Tape&, auto in) { return embed_tokens(in[0], in[1], in[2]); });
      check_op({x, {{patches, width}, false}},
               [](Tape&, auto in) { return embed_tokens(in[0], {}, in[1]); });
      check_op({x}, [=](Tape&, auto in) { return select_token(in[0], patches - 1); });
      check_op({x}, [](Tape&, auto in) { return mean_tokens(in[0]); });
    }
  }
}

TEST_CASE("cuda: gather_rows and combine_rows stored in bf16" * doctest::skip(!cuda_available())) {
  for (const auto& each : {std::pair{1, 1}, {9, 2}, {11, 3}}) {
    const int64_t n = std::get<0>(each), k = std::get<1>(each);
    // Every fifth choice is dropped.
    std::vector<int32_t> slot_of(static_cast<size_t>(n * k), -1), choice_of_slot;
    for (size_t choice = slot_of.size(); choice-- > 0;) {
      if (choice % 5 == 3) continue;
      slot_of[choice] = static_cast<int32_t>(choice_of_slot.size());
      choice_of_slot.push_back(static_cast<int32_t>(choice));
    }
    const auto slots = static_cast<int64_t>(choice_of_slot.size());
    const auto map = [&](Tape& tape) {
      return RowMap{on(tape.arena(), choice_of_slot, {slots}), on(tape.arena(), slot_of, {n, k})};
    };
    for (const int64_t width : {1, 3, 20, 132, 136, 1032}) {
      CAPTURE(n);
      CAPTURE(k);
      CAPTURE(width);
      check_op({{{n, width}}}, [&](Tape& tape, auto in) { return gather_rows(in[0], map(tape)); });
      const std::vector<Input> inputs{{{slots, width}}, {{n, k}, false}, {{n, width}}};
      check_op({inputs[0], inputs[1]},
               [&](Tape& tape, auto in) { return combine_rows(in[0], in[1], map(tape)); });
      check_op(inputs,
               [&](Tape& tape, auto in) { return combine_rows(in[0], in[1], map(tape), &in[2]); });
    }
  }
}

TEST_CASE("cuda: attention stored in bf16" * doctest::skip(!cuda_available())) {
  for (const Heads& s : kHeads) {
    CAPTURE(s.shape());
    const ParityOp op = [&](Tape&, auto in) {
      return attention(in[0], s.heads,
                       in[0].dtype() == Dtype::kBF16 || in[0].device() == Device::kCuda
                           ? Precision::kBf16
                           : Precision::kF32);
    };
    check_bound({{s.shape()}}, op);
    // Forward to the bit. Backward takes sum_d dy y of a y that was rounded here: given the same y,
    // its bits are the same as well.
    CHECK(same_bits(run(kStored, {{s.shape()}}, op).y, rounded(run(kWide, {{s.shape()}}, op).y)));
    const int64_t outputs = s.shape().numel() / 3;
    const auto qkv = rounded(test_values<float>(1, s.shape().numel(), 2)),
               y = rounded(test_values<float>(2, outputs)),
               dy = rounded(test_values<float>(3, outputs)),
               saved = test_values<float>(4, s.batch * s.tokens * s.heads);
    for (const bool add : {false, true}) {
      CHECK(same_bits(attention_gradient<bf16>(s, add, qkv, saved, y, dy),
                      rounded(attention_gradient<float>(s, add, qkv, saved, y, dy))));
    }
  }
  StepArena arena(Device::kCuda);
  Tape tape(arena);
  const Tensor x = tape.input(arena.empty({1, 2, 12}, Dtype::kBF16));
  CHECK_THROWS_AS(attention(x, 1, Precision::kF32), Error);
}

TEST_CASE("ops refuse tensors stored in bf16 on the CPU") {
  StepArena arena;
  Tape tape(arena);
  const Tensor x = tape.input(arena.empty({1, 2, 12}, Dtype::kBF16));
  CHECK_THROWS_AS(scale(x, 2), Error);
  CHECK_THROWS_AS(mean_tokens(x), Error);
  CHECK_THROWS_AS(attention(x, 1, Precision::kBf16), Error);
}
