#pragma once

#include <cstdint>

#include "engine/core/simd_gelu.h"
#include "engine/gemm/gemm.h"

// The end of every product on the CPU: a tile goes to where it belongs, with the epilogue.
// Include it in *_cpu.cc files only.
namespace engine::kernels {

// Where a finished tile goes and what is done to it on the way.
template <class T>
struct Output {
  T* c;
  int64_t ldc;
  bool add;              // to what is there: an earlier block of k, or accumulation
  bool last;             // the product is complete: apply the epilogue
  Epilogue<T> epilogue;  // pointers at this tile's origin
  bool stream = false;   // c and `activated` past the caches: see streams()

  // Whether a tile only has to be put there.
  bool plain() const {
    return !add && !stream &&
           (!last || (epilogue.bias == nullptr && epilogue.residual == nullptr &&
                      epilogue.activated == nullptr));
  }
  // The same, further down or to the right.
  Output at(int64_t row, int64_t column) const {
    Output out = *this;
    const int64_t shift = row * ldc + column;
    out.c += shift;
    if (out.epilogue.bias != nullptr) out.epilogue.bias += column;
    if (out.epilogue.residual != nullptr) out.epilogue.residual += shift;
    if (out.epilogue.activated != nullptr) out.epilogue.activated += shift;
    return out;
  }
};

// Whether an output of m rows is worth that: larger than the caches and written once, so that
// reading its old content to overwrite it would cost as much again as writing it.
template <class T>
bool streams(int64_t m, const Output<T>& out, bool written_once) {
  constexpr int64_t kLarge = int64_t{4} << 20, kLine = 64;
  const auto whole_lines = [](const T* p) { return reinterpret_cast<uintptr_t>(p) % kLine == 0; };
  const int64_t row = out.ldc * static_cast<int64_t>(sizeof(T));
  return written_once && m * row >= kLarge && row % kLine == 0 && whole_lines(out.c) &&
         whole_lines(out.epilogue.activated);
}

// tile: `rows` rows, kStride elements apart, of which `cols` count.
template <class T, int64_t kStride>
void write_tile(const T* tile, int64_t rows, int64_t cols, const Output<T>& out) {
  using simd::Packet;
  const Epilogue<T>& e = out.epilogue;
  const bool stream = out.stream && out.last;
  const auto put = [](T* to, const Packet<T>& x, int64_t n, bool past_caches) {
    if (past_caches && n == simd::kLanes<T>) {
      simd::stream(to, x);
    } else {
      simd::store_n(to, x, n);
    }
  };
  for (int64_t r = 0; r < rows; ++r) {
    T* c = out.c + r * out.ldc;
    simd::for_lanes<T>(cols, [&](int64_t j, int64_t n) {
      Packet<T> x = simd::load(tile + r * kStride + j);
      if (out.add) x = simd::add(simd::load_n(c + j, n), x);
      if (out.last) {
        if (e.bias != nullptr) x = simd::add(x, simd::load_n(e.bias + j, n));
        if (e.residual != nullptr) x = simd::add(x, simd::load_n(e.residual + r * out.ldc + j, n));
        if (e.activated != nullptr) {
          put(e.activated + r * out.ldc + j, simd::gelu<T>(x, e.form), n, stream);
        }
      }
      put(c + j, x, n, stream && !out.add);
    });
  }
}

}  // namespace engine::kernels
