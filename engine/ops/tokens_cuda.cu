#include "engine/ops/row_moves.cuh"
#include "engine/ops/tokens_kernels.h"

namespace engine::kernels {
namespace {

// Both sides of patchify: one thread an element of what is written, one image's elements (fewer
// than 2^31) in `cuts` blocks. In a patch, channels are innermost: a warp reads or writes short
// runs of every plane, which its neighbours complete.
struct PatchCuts {
  uint32_t channels, height, width, patch, count, cuts;
};

template <bool kToPatches, class T>
__global__ void __launch_bounds__(kEachThreads)
    patchify_kernel(const T* from, T* to, PatchCuts s, bool add) {
  const uint32_t b = blockIdx.x / s.cuts;
  const uint32_t i = blockIdx.x % s.cuts * kEachThreads + threadIdx.x;
  if (i >= s.count) return;
  const uint32_t grid_w = s.width / s.patch, line = s.patch * s.channels;  // line of a patch
  uint32_t other;
  if (kToPatches) {
    const uint32_t c = i % s.channels, x_in = i / s.channels % s.patch;
    const uint32_t y_in = i / line % s.patch, p = i / (line * s.patch);
    const uint32_t y = p / grid_w * s.patch + y_in, x = p % grid_w * s.patch + x_in;
    other = (c * s.height + y) * s.width + x;
  } else {
    const uint32_t x = i % s.width, y = i / s.width % s.height, c = i / (s.width * s.height);
    const uint32_t p = y / s.patch * grid_w + x / s.patch;
    other = (p * s.patch + y % s.patch) * line + x % s.patch * s.channels + c;
  }
  const int64_t base = int64_t{b} * s.count;
  const T value = from[base + other];
  to[base + i] = add ? to[base + i] + value : value;
}

template <bool kToPatches, class T>
void launch_patchify(Cuda on, const T* from, T* to, PatchSize s, GradWrite write) {
  const int64_t count = s.channels * s.height * s.width;
  if (s.batch == 0 || count == 0) return;
  check(count <= INT32_MAX, ErrorKind::kShape, "patchify: an image of ", count, " elements");
  const unsigned cuts = blocks_for(count, kEachThreads);
  const auto narrow = [](int64_t n) { return static_cast<uint32_t>(n); };
  const PatchCuts size{narrow(s.channels), narrow(s.height), narrow(s.width),
                       narrow(s.patch),    narrow(count),    cuts};
  launch(on, blocks_for(s.batch * cuts, 1), kEachThreads, patchify_kernel<kToPatches, T>, from, to,
         size, write == GradWrite::kAccumulate);
}

template <int kVec, class T>
__global__ void __launch_bounds__(kWarp* kMoveRows)
    embed_kernel(const T* patches, const Wide<T>* class_token, const Wide<T>* position, T* y,
                 TokenSize s) {
  using Packed = Pack<Wide<T>, kVec>;
  const int64_t row = moved_row();
  if (row >= s.batch * s.tokens) return;
  const int64_t b = row / s.tokens, t = row % s.tokens, skip = class_token != nullptr ? 1 : 0;
  const T* from = patches + (b * (s.tokens - skip) + t - skip) * s.width;  // of what is no class
  each_pack<kVec>(
      s.width,
      [&](int64_t c) {
        Packed sum = t < skip ? Packed::load(class_token + c) : Packed::load(from + c);
        const Packed at = Packed::load(position + t * s.width + c);
        for (int i = 0; i < kVec; ++i) sum.v[i] += at.v[i];
        return sum;
      },
      [&](int64_t c, const Packed& sum) { sum.store(y + row * s.width + c); });
}

}  // namespace

template <class T>
void patchify_forward(Cuda on, const T* images, T* patches, PatchSize size) {
  launch_patchify<true>(on, images, patches, size, GradWrite::kOverwrite);
}

template <class T>
void patchify_backward(Cuda on, const T* dpatches, T* dimages, PatchSize size, GradWrite write) {
  launch_patchify<false>(on, dpatches, dimages, size, write);
}

template <class T>
void embed_tokens_forward(Cuda on, const T* patches, const Wide<T>* class_token,
                          const Wide<T>* position, T* y, TokenSize s) {
  const int64_t rows = s.batch * s.tokens;
  if (rows == 0 || s.width == 0) return;
  with_pack<T>(packable<T>(s.width, patches, class_token, position, y), [&]<int kVec>() {
    launch(on, move_grid(rows), move_block(), embed_kernel<kVec, T>, patches, class_token, position,
           y, s);
  });
}

template <class T>
void embed_tokens_backward_patches(Cuda on, const T* dy, T* dpatches, TokenSize s, int64_t skip,
                                   GradWrite write) {
  const int64_t count = s.tokens - skip;
  launch_row_moves<T>(on, {s.batch * count, s.width}, packable<T>(s.width, dy, dpatches), write,
                      [=] __device__(int64_t row) {
                        const int64_t from = row + (row / count + 1) * skip;
                        return RowMove<T>{dy + from * s.width, dpatches + row * s.width, 1};
                      });
}

template <class T>
void embed_tokens_backward_position(Cuda on, const T* dy, Wide<T>* dposition, TokenSize s) {
  const int64_t row = s.tokens * s.width;
  launch_column_sums(on, dy, dposition, {1, s.batch, row, 0, row}, 1, GradWrite::kAccumulate);
}

template <class T>
void embed_tokens_backward_class(Cuda on, const T* dy, Wide<T>* dclass, TokenSize s) {
  launch_column_sums(on, dy, dclass, {1, s.batch, s.width, 0, s.tokens * s.width}, 1,
                     GradWrite::kAccumulate);
}

template <class T>
void select_token_forward(Cuda on, const T* x, T* y, TokenSize s, int64_t token) {
  launch_row_moves<T>(on, {s.batch, s.width}, packable<T>(s.width, x, y), GradWrite::kOverwrite,
                      [=] __device__(int64_t b) {
                        return RowMove<T>{x + (b * s.tokens + token) * s.width, y + b * s.width, 1};
                      });
}

template <class T>
void select_token_backward(Cuda on, const T* dy, T* dx, TokenSize s, int64_t token) {
  launch_row_moves<T>(
      on, {s.batch, s.width}, packable<T>(s.width, dy, dx), GradWrite::kAccumulate,
      [=] __device__(int64_t b) {
        return RowMove<T>{dy + b * s.width, dx + (b * s.tokens + token) * s.width, 1};
      });
}

template <class T>
void mean_tokens_forward(Cuda on, const T* x, T* y, TokenSize s) {
  launch_column_sums(on, x, y, {s.batch, s.tokens, s.width, s.tokens * s.width, s.width},
                     1 / static_cast<Wide<T>>(s.tokens), GradWrite::kOverwrite);
}

template <class T>
void mean_tokens_backward(Cuda on, const T* dy, T* dx, TokenSize s, GradWrite write) {
  const Wide<T> share = 1 / static_cast<Wide<T>>(s.tokens);
  launch_row_moves<T>(on, {s.batch * s.tokens, s.width}, packable<T>(s.width, dy, dx), write,
                      [=] __device__(int64_t row) {
                        return RowMove<T>{dy + row / s.tokens * s.width, dx + row * s.width, share};
                      });
}

template void patchify_forward(Cuda, const float*, float*, PatchSize);
template void patchify_forward(Cuda, const double*, double*, PatchSize);
template void patchify_backward(Cuda, const float*, float*, PatchSize, GradWrite);
template void patchify_backward(Cuda, const double*, double*, PatchSize, GradWrite);
template void embed_tokens_forward(Cuda, const float*, const float*, const float*, float*,
                                   TokenSize);
template void embed_tokens_forward(Cuda, const double*, const double*, const double*, double*,
                                   TokenSize);
template void embed_tokens_forward(Cuda, const bf16*, const float*, const float*, bf16*, TokenSize);
template void embed_tokens_backward_patches(Cuda, const float*, float*, TokenSize, int64_t,
                                            GradWrite);
template void embed_tokens_backward_patches(Cuda, const double*, double*, TokenSize, int64_t,
                                            GradWrite);
template void embed_tokens_backward_patches(Cuda, const bf16*, bf16*, TokenSize, int64_t,
                                            GradWrite);
template void embed_tokens_backward_position(Cuda, const float*, float*, TokenSize);
template void embed_tokens_backward_position(Cuda, const double*, double*, TokenSize);
template void embed_tokens_backward_position(Cuda, const bf16*, float*, TokenSize);
template void embed_tokens_backward_class(Cuda, const float*, float*, TokenSize);
template void embed_tokens_backward_class(Cuda, const double*, double*, TokenSize);
template void embed_tokens_backward_class(Cuda, const bf16*, float*, TokenSize);
template void select_token_forward(Cuda, const float*, float*, TokenSize, int64_t);
template void select_token_forward(Cuda, const double*, double*, TokenSize, int64_t);
template void select_token_forward(Cuda, const bf16*, bf16*, TokenSize, int64_t);
template void select_token_backward(Cuda, const float*, float*, TokenSize, int64_t);
template void select_token_backward(Cuda, const double*, double*, TokenSize, int64_t);
template void select_token_backward(Cuda, const bf16*, bf16*, TokenSize, int64_t);
template void mean_tokens_forward(Cuda, const float*, float*, TokenSize);
template void mean_tokens_forward(Cuda, const double*, double*, TokenSize);
template void mean_tokens_forward(Cuda, const bf16*, bf16*, TokenSize);
template void mean_tokens_backward(Cuda, const float*, float*, TokenSize, GradWrite);
template void mean_tokens_backward(Cuda, const double*, double*, TokenSize, GradWrite);
template void mean_tokens_backward(Cuda, const bf16*, bf16*, TokenSize, GradWrite);

}  // namespace engine::kernels
