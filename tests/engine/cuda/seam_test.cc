#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "engine/core/arena.h"
#include "engine/core/param_store.h"
#include "engine/core/tape.h"
#include "engine/ops/layer_norm.h"
#include "engine/ops/layer_norm_kernels.h"
#include "engine/ops/softmax.h"
#include "engine/ops/softmax_kernels.h"
#include "tests/support/devices.h"
#include "tests/support/sanitized.h"

using namespace engine;
using namespace engine::test;

namespace {

// Both sides of every size at which a device kernel changes its layout, 16-byte multiples and not:
// a warp a row, a block a row, rows read again in each pass.
const RowsCols kSizes[] = {{0, 5},    {1, 1},     {3, 7},     {5, 32},    {5, 33},
                           {9, 128},  {9, 129},   {2, 197},   {7, 256},   {3, 257},
                           {3, 512},  {3, 1000},  {2, 1024},  {2, 1025},  {3, 1028},
                           {2, 4097}, {2, 16384}, {2, 16385}, {1, 16388}, {517, 65}};

void check_memory(Device device) {
  const auto values = test_values<float>(1, 1001);
  const Buffer a = upload(values, device);
  Buffer b({1001}, Dtype::kF32, device);
  CHECK(same_bits(download<float>(b), std::vector<float>(1001)));  // buffers start as zeros
  device_copy(device, b.tensor().raw(), device, a.tensor().raw(), a.tensor().bytes());
  CHECK(same_bits(download<float>(b), values));
  device_zero(device, b.tensor().raw(), 500 * 4);
  const auto half = download<float>(b);
  for (int i = 0; i < 1001; ++i) CHECK(half[i] == (i < 500 ? 0.0f : values[i]));

  const Buffer empty({0, 5}, Dtype::kF64, device);
  CHECK(empty.tensor().defined());
  CHECK(download<double>(empty).empty());
}

void check_arena(Device device) {
  StepArena arena(device);
  const Tensor kept = arena.empty({3, 5}, Dtype::kF32);
  CHECK(kept.device() == device);
  CHECK(reinterpret_cast<uintptr_t>(kept.raw()) % 64 == 0);
  const auto values = test_values<float>(2, 15);
  device_copy(device, kept.raw(), Device::kCpu, values.data(), kept.bytes());

  const StepArena::Mark outer = arena.mark();
  const void* first = arena.allocate(1000);
  const StepArena::Mark inner = arena.mark();
  const void* second = arena.allocate(1000);
  CHECK(second != first);
  arena.release(inner);
  CHECK(arena.allocate(1000) == second);
  arena.release(outer);
  CHECK(arena.allocate(1000) == first);
  CHECK(same_bits(download<float>(kept), values));  // allocated before the mark: untouched

  const int64_t large = int64_t{3} << 20;  // more than a block: chained now, one block after reset
  (void)arena.allocate(large);
  arena.reset();
  CHECK(arena.bytes_in_use() == 0);
  const int64_t reserved = arena.bytes_reserved();
  const Tensor again = arena.empty({large / 8}, Dtype::kF64);
  device_zero(device, again.raw(), again.bytes());
  CHECK(arena.bytes_reserved() == reserved);
  CHECK(arena.bytes_peak() >= large);
  CHECK(download<double>(again)[static_cast<size_t>(large / 8 - 1)] == 0);
}

void check_param_store(Device device) {
  ParamStore store;
  store.declare("a/kernel", {3, 5}, true, true);
  store.declare("a/bias", {7}, false, true);
  store.allocate(Dtype::kF32, device);
  store.allocate(Slab::kGrad);
  const std::vector<float> zeros(static_cast<size_t>(store.padded_count()));
  CHECK(same_bits(download<float>(store.slab(Slab::kValue)), zeros));
  CHECK(same_bits(download<float>(store.slab(Slab::kGrad)), zeros));

  const auto values = test_values<float>(3, 7);
  const ParamStore::Entry& bias = store.find("a/bias");
  const Tensor view = store.view(bias, Slab::kValue);
  CHECK(view.device() == device);
  CHECK(reinterpret_cast<uintptr_t>(view.raw()) % 64 == 0);
  device_copy(device, view.raw(), Device::kCpu, values.data(), view.bytes());
  auto want = zeros;
  std::copy(values.begin(), values.end(), want.begin() + bias.offset);
  CHECK(same_bits(download<float>(store.slab(Slab::kValue)), want));
  store.zero(Slab::kValue);
  CHECK(same_bits(download<float>(store.slab(Slab::kValue)), zeros));
}

template <class T>
void check_softmax(Device device) {
  for (const RowsCols size : kSizes) {
    CAPTURE(size.rows);
    CAPTURE(size.cols);
    const auto x = test_values<T>(4, size.numel(), 2), dy = test_values<T>(5, size.numel());
    std::vector<double> y_want(x.size()), dx_want(x.size());
    for (int64_t r = 0; r < size.rows; ++r) {
      const int64_t at = r * size.cols;
      double sum = 0, dot = 0;
      for (int64_t c = 0; c < size.cols; ++c) sum += std::exp(double(x[at + c]));
      for (int64_t c = 0; c < size.cols; ++c) {
        y_want[at + c] = std::exp(double(x[at + c])) / sum;
        dot += y_want[at + c] * dy[at + c];
      }
      for (int64_t c = 0; c < size.cols; ++c) dx_want[at + c] = y_want[at + c] * (dy[at + c] - dot);
    }
    const Buffer in = upload(x, device), g = upload(dy, device), in_place = upload(x, device);
    const Buffer y({size.numel()}, dtype_of<T>(), device),
        dx({size.numel()}, dtype_of<T>(), device);
    on_device(device, [&](auto backend) {
      kernels::softmax_forward(backend, in.data<const T>(), y.data<T>(), size);
      kernels::softmax_forward(backend, in_place.data<const T>(), in_place.data<T>(), size);
      kernels::softmax_backward(backend, y.data<const T>(), g.data<const T>(), dx.data<T>(), size,
                                GradWrite::kOverwrite);
    });
    CHECK(worst_error(download<T>(y), y_want) < tolerance<T>());
    CHECK(same_bits(download<T>(in_place), download<T>(y)));
    CHECK(worst_error(download<T>(dx), dx_want) < tolerance<T>());
    on_device(device, [&](auto backend) {
      kernels::softmax_backward(backend, y.data<const T>(), g.data<const T>(), dx.data<T>(), size,
                                GradWrite::kAccumulate);
    });
    for (double& v : dx_want) v *= 2;
    CHECK(worst_error(download<T>(dx), dx_want) < tolerance<T>());
  }
}

template <class T>
void check_large_logits(Device device) {
  const T inf = std::numeric_limits<T>::infinity();
  const Buffer x = upload<T>({T(1e4), T(1e4), T(-1e4), -inf}, device);
  on_device(device, [&](auto backend) {
    kernels::softmax_forward(backend, x.data<const T>(), x.data<T>(), {1, 4});
  });
  const std::vector<T> y = download<T>(x);
  for (int c = 0; c < 2; ++c) CHECK(std::abs(y[c] - T(0.5)) < T(1e-6));
  for (int c = 2; c < 4; ++c) CHECK((y[c] >= 0 && y[c] < T(1e-37)));  // Eigen's exp ends above 0
}

// x, dy (rows, cols), scale, bias (cols): what layer_norm must give, by its definition.
struct NormReference {
  std::vector<double> y, stats, dx, dscale, dbias;
};
template <class T>
NormReference norm_reference(const std::vector<T>& x, const std::vector<T>& scale,
                             const std::vector<T>& bias, const std::vector<T>& dy, RowsCols size) {
  const int64_t n = size.cols;
  NormReference out{std::vector<double>(x.size()), std::vector<double>(size.rows * 2),
                    std::vector<double>(x.size()), std::vector<double>(n, 0.0),
                    std::vector<double>(n, 0.0)};
  for (int64_t r = 0; r < size.rows; ++r) {
    const T *x_r = x.data() + r * n, *dy_r = dy.data() + r * n;
    double mean = 0, var = 0, mean_g = 0, mean_gn = 0;
    for (int64_t c = 0; c < n; ++c) mean += x_r[c] / double(n);
    for (int64_t c = 0; c < n; ++c) var += (x_r[c] - mean) * (x_r[c] - mean) / double(n);
    const double rstd = 1 / std::sqrt(var + 1e-6);
    for (int64_t c = 0; c < n; ++c) {
      const double norm = (x_r[c] - mean) * rstd;
      out.y[r * n + c] = norm * scale[c] + bias[c];
      out.dscale[c] += dy_r[c] * norm;
      out.dbias[c] += dy_r[c];
      mean_g += double(dy_r[c]) * scale[c] / double(n);
      mean_gn += double(dy_r[c]) * scale[c] * norm / double(n);
    }
    for (int64_t c = 0; c < n; ++c) {
      const double norm = (x_r[c] - mean) * rstd;
      out.dx[r * n + c] = rstd * (double(dy_r[c]) * scale[c] - mean_g - norm * mean_gn);
    }
    out.stats[2 * r] = mean;
    out.stats[2 * r + 1] = rstd;
  }
  return out;
}

// With sanitizers the emulator takes minutes for the largest: there one is enough, in one type.
template <class T>
bool left_out(RowsCols size) {
  if (!kSanitized || size.numel() <= 10'000) return false;
  return std::is_same_v<T, double> || size.cols == 16384 || size.cols == 16385;
}

template <class T>
void check_layer_norm(Device device) {
  for (const RowsCols size : kSizes) {
    if (left_out<T>(size)) continue;
    CAPTURE(size.rows);
    CAPTURE(size.cols);
    auto x = test_values<T>(6, size.numel(), 3);
    for (T& v : x) v += T(0.5);  // a mean that is not nearly 0
    const auto dy = test_values<T>(7, size.numel());
    const auto scale = test_values<T>(8, size.cols), bias = test_values<T>(9, size.cols);
    NormReference want = norm_reference(x, scale, bias, dy, size);

    const Buffer in = upload(x, device), g = upload(dy, device), w = upload(scale, device),
                 b = upload(bias, device);
    const Dtype dtype = dtype_of<T>();
    const Buffer y({size.numel()}, dtype, device), stats({size.rows * 2}, dtype, device),
        dx({size.numel()}, dtype, device), dw({size.cols}, dtype, device),
        db({size.cols}, dtype, device);
    const auto backward = [&](GradWrite write) {
      on_device(device, [&](auto backend) {
        kernels::layer_norm_backward<T>(backend, in.data<const T>(), w.data<const T>(),
                                        stats.data<const T>(), g.data<const T>(), size,
                                        {dx.data<T>(), write, dw.data<T>(), db.data<T>()});
      });
    };
    on_device(device, [&](auto backend) {
      kernels::layer_norm_forward(backend, in.data<const T>(), w.data<const T>(), b.data<const T>(),
                                  y.data<T>(), stats.data<T>(), size, 1e-6);
    });
    backward(GradWrite::kOverwrite);
    CHECK(worst_error(download<T>(y), want.y) < tolerance<T>());
    // One column has no variance: rstd is 1000 there, and its dx a difference of equal numbers.
    const double dx_tolerance = size.cols == 1 ? 1e-3 : tolerance<T>();
    CHECK(worst_error(download<T>(stats), want.stats) < tolerance<T>());
    CHECK(worst_error(download<T>(dx), want.dx) < dx_tolerance);
    CHECK(worst_error(download<T>(dw), want.dscale) < tolerance<T>());
    CHECK(worst_error(download<T>(db), want.dbias) < tolerance<T>());

    backward(GradWrite::kAccumulate);
    for (auto* values : {&want.dx, &want.dscale, &want.dbias}) {
      for (double& v : *values) v *= 2;
    }
    CHECK(worst_error(download<T>(dx), want.dx) < dx_tolerance);
    CHECK(worst_error(download<T>(dw), want.dscale) < tolerance<T>());
    CHECK(worst_error(download<T>(db), want.dbias) < tolerance<T>());
  }
}

struct TapeResult {
  std::vector<double> y, dx, dscale, dbias;
};

// Two rounds of layer_norm and softmax with the same scale and bias, whose gradients thus add up.
template <class T>
TapeResult run_tape(Device device, const Shape& shape) {
  const int64_t n = shape.numel(), cols = shape[-1];
  const Buffer x = upload(test_values<T>(10, n, 2), shape, device);
  const Buffer scale = upload(test_values<T>(11, cols), device);
  const Buffer bias = upload(test_values<T>(12, cols), device);
  const Buffer seed = upload(test_values<T>(13, n), shape, device);
  const Buffer dx(shape, dtype_of<T>(), device), dscale({cols}, dtype_of<T>(), device),
      dbias({cols}, dtype_of<T>(), device);
  StepArena arena(device);
  Tape tape(arena);
  const Tensor w = tape.leaf(scale.tensor(), dscale.tensor());
  const Tensor b = tape.leaf(bias.tensor(), dbias.tensor());
  const Tensor p = softmax(layer_norm(tape.leaf(x.tensor(), dx.tensor()), w, b));
  const Tensor y = softmax(layer_norm(p, w, b));
  tape.backward(y, seed.tensor());
  const auto wide = [](const Tensor& t) {
    const auto values = download<T>(t);
    return std::vector<double>(values.begin(), values.end());
  };
  return {wide(y), wide(dx.tensor()), wide(dscale.tensor()), wide(dbias.tensor())};
}

template <class T>
void check_tape(Device device) {
  for (const Shape& shape : {Shape{2, 3, 10}, Shape{5, 65, 192}, Shape{3, 1000}, Shape{2, 4097}}) {
    if (left_out<T>({shape.numel() / shape[-1], shape[-1]})) continue;
    CAPTURE(shape);
    const TapeResult want = run_tape<T>(Device::kCpu, shape), got = run_tape<T>(device, shape);
    const double bound = std::is_same_v<T, float> ? 2e-4 : 1e-11;  // two layer norms of small rows
    CHECK(worst_error(got.y, want.y) < bound);
    CHECK(worst_error(got.dx, want.dx) < bound);
    CHECK(worst_error(got.dscale, want.dscale) < bound);
    CHECK(worst_error(got.dbias, want.dbias) < bound);

    const TapeResult again = run_tape<T>(device, shape);
    CHECK(same_bits(again.y, got.y));
    CHECK(same_bits(again.dx, got.dx));
    CHECK(same_bits(again.dscale, got.dscale));
    CHECK(same_bits(again.dbias, got.dbias));
  }
}

// A row of softmax and layer_norm has the same bits alone and among others.
template <class T>
void check_row_bits(Device device) {
  for (const int64_t cols : {int64_t{7}, int64_t{192}, int64_t{1000}, int64_t{4097}}) {
    const int64_t rows = 37, row = 29;
    const auto x = test_values<T>(14, rows * cols, 2);
    const auto scale = test_values<T>(15, cols), bias = test_values<T>(16, cols);
    const auto run = [&](const std::vector<T>& values) {
      const int64_t count = static_cast<int64_t>(values.size()) / cols;
      const Buffer in = upload(values, device), w = upload(scale, device), b = upload(bias, device);
      const Buffer stats({count, 2}, dtype_of<T>(), device);
      on_device(device, [&](auto backend) {
        kernels::layer_norm_forward(backend, in.data<const T>(), w.data<const T>(),
                                    b.data<const T>(), in.data<T>(), stats.data<T>(), {count, cols},
                                    1e-6);
        kernels::softmax_forward(backend, in.data<const T>(), in.data<T>(), {count, cols});
      });
      return download<T>(in);
    };
    const auto all = run(x);
    const auto begin = row * cols, end = begin + cols;
    CHECK(same_bits(run({x.begin() + begin, x.begin() + end}),
                    std::vector<T>(all.begin() + begin, all.begin() + end)));
    CHECK(same_bits(run(x), all));
  }
}

}  // namespace

TEST_CASE("cpu seam: memory, arena, parameters") {
  check_memory(Device::kCpu);
  check_arena(Device::kCpu);
  check_param_store(Device::kCpu);
}
TEST_CASE("cpu seam: softmax") {
  check_softmax<float>(Device::kCpu);
  check_softmax<double>(Device::kCpu);
  check_large_logits<float>(Device::kCpu);
}
TEST_CASE("cpu seam: layer_norm") {
  check_layer_norm<float>(Device::kCpu);
  check_layer_norm<double>(Device::kCpu);
}
TEST_CASE("cpu seam: same bits for a row alone and among others") {
  check_row_bits<float>(Device::kCpu);
  check_row_bits<double>(Device::kCpu);
}

TEST_CASE("cuda: a device is listed where there is one" * doctest::skip(!cuda_available())) {
  CHECK(available_devices() == std::vector<Device>{Device::kCpu, Device::kCuda});
}
TEST_CASE("cuda: copies, zeros and empty buffers" * doctest::skip(!cuda_available())) {
  check_memory(Device::kCuda);
}
TEST_CASE("cuda: arena marks, reset and reuse" * doctest::skip(!cuda_available())) {
  check_arena(Device::kCuda);
}
TEST_CASE("cuda: parameter slabs" * doctest::skip(!cuda_available())) {
  check_param_store(Device::kCuda);
}
TEST_CASE("cuda: what cannot fit is an error, and no more" * doctest::skip(!cuda_available())) {
  CHECK_THROWS_AS(device_allocate(Device::kCuda, int64_t{1} << 50), Error);
  check_memory(Device::kCuda);
}
TEST_CASE("cuda: softmax f32" * doctest::skip(!cuda_available())) {
  check_softmax<float>(Device::kCuda);
  check_large_logits<float>(Device::kCuda);
}
TEST_CASE("cuda: softmax f64" * doctest::skip(!cuda_available())) {
  check_softmax<double>(Device::kCuda);
  check_large_logits<double>(Device::kCuda);
}
TEST_CASE("cuda: layer_norm f32" * doctest::skip(!cuda_available())) {
  check_layer_norm<float>(Device::kCuda);
}
TEST_CASE("cuda: layer_norm f64" * doctest::skip(!cuda_available())) {
  check_layer_norm<double>(Device::kCuda);
}
TEST_CASE("cuda: same bits for a row alone and among others" * doctest::skip(!cuda_available())) {
  check_row_bits<float>(Device::kCuda);
  check_row_bits<double>(Device::kCuda);
}
TEST_CASE("cuda: a tape as on the CPU, and the same bits again" *
          doctest::skip(!cuda_available())) {
  check_tape<float>(Device::kCuda);
  check_tape<double>(Device::kCuda);
}
