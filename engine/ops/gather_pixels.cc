#include "engine/ops/gather_pixels.h"

#include <algorithm>

#include "engine/core/backend.h"
#include "engine/core/parallel.h"

namespace engine {

Tensor gather_pixels(const Tensor& x, const Tensor& index) {
  check(x.tape() != nullptr, ErrorKind::kValue, "gather_pixels: input is not on a tape");
  const Shape& in = x.shape();
  check(in.rank() == 3 && index.shape().rank() == 1, ErrorKind::kShape,
        "gather_pixels: expected (B, P, C) and (Q), got ", in, " and ", index.shape());
  const int64_t batch = in[0], pixels = in[1], channels = in[2], places = index.shape()[0];
  const auto* from = index.data<const int32_t>();
  check(std::all_of(from, from + places, [&](int32_t p) { return p >= -1 && p < pixels; }),
        ErrorKind::kValue, "gather_pixels: an index is outside the ", pixels, " pixels");
  Tensor y = x.tape()->arena().empty({batch, places, channels}, x.dtype());
  dispatch_cpu(x, [&]<class T>(Cpu) {
    parallel_for(batch, 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        const T* own = x.data<const T>() + b * pixels * channels;
        T* to = y.data<T>() + b * places * channels;
        for (int64_t q = 0; q < places; ++q, to += channels) {
          if (from[q] < 0) {
            std::fill_n(to, channels, T(0));
          } else {
            std::copy_n(own + from[q] * channels, channels, to);
          }
        }
      }
    });
  });
  x.tape()->record("gather_pixels", {x}, y, [=](const Tensor& dy, Tape& tape) {
    const Tensor dx = tape.target_zeroed(x);
    const auto* to = index.data<const int32_t>();
    dispatch_cpu(dy, [&]<class T>(Cpu) {
      parallel_for(batch, 1, [&](int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; ++b) {
          const T* g = dy.data<const T>() + b * places * channels;
          T* own = dx.data<T>() + b * pixels * channels;
          for (int64_t q = 0; q < places; ++q, g += channels) {
            if (to[q] < 0) continue;
            T* sum = own + to[q] * channels;
            for (int64_t c = 0; c < channels; ++c) sum[c] += g[c];
          }
        }
      });
    });
  });
  return y;
}

}  // namespace engine
