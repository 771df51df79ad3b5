#include <algorithm>

#include "engine/core/parallel.h"
#include "engine/core/simd.h"
#include "engine/ops/tokens_kernels.h"

namespace engine::kernels {
namespace {

// Calls move(image_index, patch_index) for every element, both flat, image by image.
template <class Move>
void each_patch_element(const PatchSize& s, Move&& move) {
  const int64_t grid_w = s.width / s.patch, grid_h = s.height / s.patch;
  const int64_t row = s.patch * s.patch * s.channels;
  parallel_for(s.batch, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      for (int64_t c = 0; c < s.channels; ++c) {
        for (int64_t y = 0; y < s.height; ++y) {
          const int64_t line = ((b * s.channels + c) * s.height + y) * s.width;
          const int64_t base = (b * grid_h + y / s.patch) * grid_w;
          const int64_t in_patch = (y % s.patch) * s.patch;
          for (int64_t gx = 0; gx < grid_w; ++gx) {
            const int64_t to = (base + gx) * row + in_patch * s.channels + c;
            for (int64_t x = 0; x < s.patch; ++x) {
              move(line + gx * s.patch + x, to + x * s.channels);
            }
          }
        }
      }
    }
  });
}

// out (+)= in over one row.
template <class T>
void put_row(const T* in, T* out, int64_t count, GradWrite write) {
  simd::for_lanes<T>(count, [&](int64_t i, int64_t n) {
    simd::put_n(out + i, simd::load_n(in + i, n), n, write == GradWrite::kAccumulate);
  });
}

}  // namespace

template <class T>
void patchify_forward(Cpu, const T* images, T* patches, PatchSize size) {
  each_patch_element(size, [=](int64_t image, int64_t patch) { patches[patch] = images[image]; });
}

template <class T>
void patchify_backward(Cpu, const T* dpatches, T* dimages, PatchSize size, GradWrite write) {
  if (write == GradWrite::kAccumulate) {
    each_patch_element(size, [=](int64_t i, int64_t p) { dimages[i] += dpatches[p]; });
  } else {
    each_patch_element(size, [=](int64_t i, int64_t p) { dimages[i] = dpatches[p]; });
  }
}

template <class T>
void embed_tokens_forward(Cpu, const T* patches, const T* class_token, const T* position, T* y,
                          TokenSize s) {
  const int64_t skip = class_token != nullptr ? 1 : 0, count = s.tokens - skip;
  parallel_for(s.batch, 1, [=](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      for (int64_t t = 0; t < s.tokens; ++t) {
        const T* from = t < skip ? class_token : patches + (b * count + t - skip) * s.width;
        const T* at = position + t * s.width;
        T* out = y + (b * s.tokens + t) * s.width;
        for (int64_t i = 0; i < s.width; ++i) out[i] = from[i] + at[i];
      }
    }
  });
}

template <class T>
void embed_tokens_backward_patches(Cpu, const T* dy, T* dpatches, TokenSize s, int64_t skip,
                                   GradWrite write) {
  const int64_t row = (s.tokens - skip) * s.width;
  parallel_for(s.batch, 1, [=](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      put_row(dy + (b * s.tokens + skip) * s.width, dpatches + b * row, row, write);
    }
  });
}

template <class T>
void embed_tokens_backward_position(Cpu, const T* dy, T* dposition, TokenSize s) {
  const int64_t row = s.tokens * s.width;
  parallel_for(row, 64, [=](int64_t begin, int64_t end) {
    for (int64_t b = 0; b < s.batch; ++b) {
      put_row(dy + b * row + begin, dposition + begin, end - begin, GradWrite::kAccumulate);
    }
  });
}

template <class T>
void embed_tokens_backward_class(Cpu, const T* dy, T* dclass, TokenSize s) {
  for (int64_t b = 0; b < s.batch; ++b) {
    put_row(dy + b * s.tokens * s.width, dclass, s.width, GradWrite::kAccumulate);
  }
}

template <class T>
void select_token_forward(Cpu, const T* x, T* y, TokenSize s, int64_t token) {
  for (int64_t b = 0; b < s.batch; ++b) {
    std::copy_n(x + (b * s.tokens + token) * s.width, s.width, y + b * s.width);
  }
}

template <class T>
void select_token_backward(Cpu, const T* dy, T* dx, TokenSize s, int64_t token) {
  for (int64_t b = 0; b < s.batch; ++b) {
    put_row(dy + b * s.width, dx + (b * s.tokens + token) * s.width, s.width,
            GradWrite::kAccumulate);
  }
}

template <class T>
void mean_tokens_forward(Cpu, const T* x, T* y, TokenSize s) {
  const T share = T(1) / static_cast<T>(s.tokens);
  parallel_for(s.batch, 1, [=](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      T* out = y + b * s.width;
      std::fill_n(out, s.width, T(0));
      for (int64_t t = 0; t < s.tokens; ++t) {
        put_row(x + (b * s.tokens + t) * s.width, out, s.width, GradWrite::kAccumulate);
      }
      for (int64_t i = 0; i < s.width; ++i) out[i] *= share;
    }
  });
}

template <class T>
void mean_tokens_backward(Cpu, const T* dy, T* dx, TokenSize s, GradWrite write) {
  const simd::Packet<T> share = simd::set(T(T(1) / static_cast<T>(s.tokens)));
  parallel_for(s.batch, 1, [=](int64_t begin, int64_t end) {
    for (int64_t row = begin * s.tokens; row < end * s.tokens; ++row) {
      const T* g = dy + row / s.tokens * s.width;
      simd::for_lanes<T>(s.width, [&](int64_t i, int64_t n) {
        simd::put_n(dx + row * s.width + i, simd::mul(simd::load_n(g + i, n), share), n,
                    write == GradWrite::kAccumulate);
      });
    }
  });
}

template void patchify_forward(Cpu, const float*, float*, PatchSize);
template void patchify_forward(Cpu, const double*, double*, PatchSize);
template void patchify_backward(Cpu, const float*, float*, PatchSize, GradWrite);
template void patchify_backward(Cpu, const double*, double*, PatchSize, GradWrite);
template void embed_tokens_forward(Cpu, const float*, const float*, const float*, float*,
                                   TokenSize);
template void embed_tokens_forward(Cpu, const double*, const double*, const double*, double*,
                                   TokenSize);
template void embed_tokens_backward_patches(Cpu, const float*, float*, TokenSize, int64_t,
                                            GradWrite);
template void embed_tokens_backward_patches(Cpu, const double*, double*, TokenSize, int64_t,
                                            GradWrite);
template void embed_tokens_backward_position(Cpu, const float*, float*, TokenSize);
template void embed_tokens_backward_position(Cpu, const double*, double*, TokenSize);
template void embed_tokens_backward_class(Cpu, const float*, float*, TokenSize);
template void embed_tokens_backward_class(Cpu, const double*, double*, TokenSize);
template void select_token_forward(Cpu, const float*, float*, TokenSize, int64_t);
template void select_token_forward(Cpu, const double*, double*, TokenSize, int64_t);
template void select_token_backward(Cpu, const float*, float*, TokenSize, int64_t);
template void select_token_backward(Cpu, const double*, double*, TokenSize, int64_t);
template void mean_tokens_forward(Cpu, const float*, float*, TokenSize);
template void mean_tokens_forward(Cpu, const double*, double*, TokenSize);
template void mean_tokens_backward(Cpu, const float*, float*, TokenSize, GradWrite);
template void mean_tokens_backward(Cpu, const double*, double*, TokenSize, GradWrite);

}  // namespace engine::kernels
