#include <algorithm>
#include <type_traits>

#include "engine/gemm/group_tiles.cuh"
#include "engine/gemm/mma_tile.cuh"
#include "engine/gemm/operand_types.cuh"
#include "engine/gemm/simt_tile.cuh"

// Grouped products whose offsets the host never sees: blocks are launched for as many tiles as
// there can be, and each finds its group.
namespace engine::kernels {
namespace {

template <class In, class Out>
struct Grouped {
  GroupRows rows;
  int n, k;  // b_g is (k, n), or c_g when transposed
  const In *a, *b;
  Out* c;
  bool add;
  Epilogue<Out> epilogue;
};

// Zeros for rows of no group.
template <class T>
__device__ void clear_tile(const Destination<T>& to, int size) {
  for (int i = static_cast<int>(threadIdx.x); i < size * size; i += kTileThreads) {
    const int row = i / size, column = i % size;
    if (row >= to.rows || column >= to.cols) continue;
    const int64_t at = int64_t{row} * to.ld + column;
    if (!to.add) to.c[at] = T{};
    if (to.epilogue.activated != nullptr) to.epilogue.activated[at] = T{};
  }
}

template <class In, class Out>
__device__ Destination<Out> destination(const Grouped<In, Out>& call, const GroupTile& tile,
                                        int column) {
  const int64_t at = tile.begin * call.n + column;
  Epilogue<Out> e = call.epilogue;
  if (e.bias != nullptr) e.bias += tile.group * call.n + column;
  if (e.residual != nullptr) e.residual += at;
  if (e.activated != nullptr) e.activated += at;
  if (e.slope_of != nullptr) e.slope_of += at;
  return {call.c + at,     call.n,   static_cast<int>(tile.end - tile.begin),
          call.n - column, call.add, e};
}

// c rows of group g = a rows times b_g. Blocks that share rows of a are neighbours.
template <class Math, class Out, bool kTransposed, bool kPacked>
__global__ void __launch_bounds__(kTileThreads, 2)
    grouped_kernel(Grouped<typename Math::In, Out> call) {
  using T = typename Math::In;
  constexpr int kSize = Math::kSize;
  const int n = call.n, k = call.k, strips = (n + kSize - 1) / kSize;
  const GroupTile tile = tile_of(call.rows, kSize, blockIdx.x / strips);
  if (tile.begin >= tile.end) return;
  const int column = static_cast<int>(blockIdx.x % strips) * kSize;
  const auto rows = static_cast<int>(tile.end - tile.begin);
  if (tile.group == call.rows.groups) return clear_tile(destination(call, tile, column), kSize);
  const T* b = call.b + tile.group * k * n + (kTransposed ? int64_t{column} * k : column);
  const Source<T> from_a{call.a + tile.begin * k, rows, k, k};
  const Source<T> from_b =
      kTransposed ? Source<T>{b, n - column, k, k} : Source<T>{b, k, n - column, n};
  Math math;
  multiply_tile<Math, true, kTransposed, kPacked>(math, from_a, from_b, k);
  math.template put<kPacked>(destination(call, tile, column));
}

// c_g = a_g^T b_g, (k, n): every block walks over all rows of its group.
template <class Math, class Out, bool kPacked>
__global__ void __launch_bounds__(kTileThreads, 2)
    grouped_transposed_kernel(Grouped<typename Math::In, Out> call) {
  using T = typename Math::In;
  constexpr int kSize = Math::kSize;
  const int m = call.k, n = call.n;
  const unsigned strips = (n + kSize - 1) / kSize, tiles = (m + kSize - 1) / kSize * strips;
  const int64_t g = blockIdx.x / tiles;
  const int row = static_cast<int>(blockIdx.x % tiles / strips) * kSize;
  const int column = static_cast<int>(blockIdx.x % strips) * kSize;
  const int64_t begin = call.rows.begin(g);
  const auto depth = static_cast<int>(call.rows.begin(g + 1) - begin);
  Math math;
  multiply_tile<Math, false, false, kPacked>(
      math, Source<T>{call.a + begin * m + row, depth, m - row, m},
      Source<T>{call.b + begin * n + column, depth, n - column, n}, depth);
  math.template put<kPacked>(
      Destination<Out>{call.c + (g * m + row) * n + column, n, m - row, n - column, call.add, {}});
}

template <class In, class Out>
Grouped<In, Out> grouped(const int32_t* offset, int64_t groups, int64_t rows, int64_t n, int64_t k,
                         const In* a, const In* b, Out* c, GradWrite write,
                         const Epilogue<Out>& epilogue) {
  check(std::max({rows, n, k}) <= INT32_MAX, ErrorKind::kShape, "a grouped product of ", rows,
        " rows, (", k, ",", n, "), is too large");
  return {{offset, groups, rows},
          static_cast<int>(n),
          static_cast<int>(k),
          a,
          b,
          c,
          write == GradWrite::kAccumulate,
          epilogue};
}

// Calls f with the tile that multiplies operands of type In in this precision.
template <class In, class F>
void with_math(Precision precision, F&& f) {
  check_operands<In>(precision);
  if constexpr (std::is_same_v<In, bf16>) {
    f.template operator()<MmaTile<Bf16Words, bf16>>();
  } else {
    if constexpr (std::is_same_v<In, float>) {
      if (precision == Precision::kBf16) return f.template operator()<MmaTile<Bf16Words>>();
      if (precision == Precision::kTf32) return f.template operator()<MmaTile<Tf32Words>>();
    }
    f.template operator()<SimtTile<In>>();
  }
}

}  // namespace

template <class In, class Out>
void grouped_gemm(Cuda on, Trans tb, const int32_t* offset, int64_t groups, GemmSize size,
                  const In* a, const In* b, Out* c, GradWrite write, const Epilogue<Out>& epilogue,
                  Precision precision) {
  const auto call = grouped(offset, groups, size.m, size.n, size.k, a, b, c, write, epilogue);
  with_math<In>(precision, [&]<class Math>() {
    if (size.m == 0 || size.n == 0) return;
    const int64_t strips = (size.n + Math::kSize - 1) / Math::kSize;
    const unsigned blocks = blocks_for(tiles_at_most(call.rows, Math::kSize) * strips, 1);
    const auto run = [&]<bool kPacked>() {
      launch(on, blocks, kTileThreads,
             tb == Trans::kYes ? grouped_kernel<Math, Out, true, kPacked>
                               : grouped_kernel<Math, Out, false, kPacked>,
             call);
    };
    const Epilogue<Out>& e = epilogue;
    packable<In>(size.n, a, b, c, e.bias, e.residual, e.activated, e.slope_of) &&
            size.k % kPack<In> == 0
        ? run.template operator()<true>()
        : run.template operator()<false>();
  });
}

template <class In, class Out>
void grouped_gemm_transposed(Cuda on, const int32_t* offset, int64_t groups, GemmSize size,
                             const In* a, const In* b, Out* c, GradWrite write,
                             Precision precision) {
  const auto call =
      grouped(offset, groups, size.k, size.n, size.m, a, b, c, write, Epilogue<Out>{});
  with_math<In>(precision, [&]<class Math>() {
    if (groups == 0 || size.m == 0 || size.n == 0) return;
    const int64_t strips = (size.n + Math::kSize - 1) / Math::kSize;
    const int64_t tiles = (size.m + Math::kSize - 1) / Math::kSize * strips;
    const bool packed = packable<In>(size.n, a, b, c) && size.m % kPack<In> == 0;
    launch(on, blocks_for(groups * tiles, 1), kTileThreads,
           packed ? grouped_transposed_kernel<Math, Out, true>
                  : grouped_transposed_kernel<Math, Out, false>,
           call);
  });
}

template void grouped_gemm(Cuda, Trans, const int32_t*, int64_t, GemmSize, const float*,
                           const float*, float*, GradWrite, const Epilogue<float>&, Precision);
template void grouped_gemm(Cuda, Trans, const int32_t*, int64_t, GemmSize, const double*,
                           const double*, double*, GradWrite, const Epilogue<double>&, Precision);
template void grouped_gemm(Cuda, Trans, const int32_t*, int64_t, GemmSize, const bf16*, const bf16*,
                           bf16*, GradWrite, const Epilogue<bf16>&, Precision);
template void grouped_gemm_transposed(Cuda, const int32_t*, int64_t, GemmSize, const float*,
                                      const float*, float*, GradWrite, Precision);
template void grouped_gemm_transposed(Cuda, const int32_t*, int64_t, GemmSize, const double*,
                                      const double*, double*, GradWrite, Precision);
template void grouped_gemm_transposed(Cuda, const int32_t*, int64_t, GemmSize, const bf16*,
                                      const bf16*, float*, GradWrite, Precision);

}  // namespace engine::kernels
