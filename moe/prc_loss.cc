#include "moe/prc_loss.h"

#include <algorithm>
#include <utility>

#include "engine/core/backend.h"
#include "engine/core/parallel.h"

namespace moe {

using engine::check;
using engine::Cpu;
using engine::Dtype;
using engine::ErrorKind;
using engine::Tape;
using engine::Tensor;

TokenPairs make_pairs(Tape& tape, const Tensor& match, int64_t tokens, bool class_token,
                      bool pair_class_tokens, const engine::RngKey* shuffle) {
  const int64_t first = class_token ? 1 : 0;
  check(match.shape().rank() == 2 && match.shape()[1] == tokens - first, ErrorKind::kShape,
        "prc: expected correspondences (P, ", tokens - first, "), got ", match.shape());
  const int64_t pairs = match.shape()[0], patches = match.shape()[1];
  const bool with_class = class_token && pair_class_tokens;
  const int64_t most = pairs * (patches + 1);
  engine::StepArena& arena = tape.arena();
  TokenPairs out{arena.empty({most}, Dtype::kI32), arena.empty({most}, Dtype::kI32),
                 arena.empty({most}, Dtype::kI32), 0, patches + (with_class ? 1 : 0)};
  const int32_t* to = match.data<const int32_t>();
  int32_t *left = out.left.data<int32_t>(), *right = out.right.data<int32_t>();
  int32_t* slot = out.slot.data<int32_t>();
  const auto push = [&](int64_t a, int64_t b, int64_t x) {
    left[out.count] = static_cast<int32_t>(a);
    right[out.count] = static_cast<int32_t>(b);
    slot[out.count++] = static_cast<int32_t>(x);
  };
  for (int64_t p = 0; p < pairs; ++p) {
    for (int64_t x = 0; x < patches; ++x) {
      const int64_t other = to[p * patches + x];
      check(other >= -1 && other < patches, ErrorKind::kValue, "prc: patch ", other, " of ",
            patches);
      if (other >= 0) push(2 * p * tokens + first + x, (2 * p + 1) * tokens + first + other, x);
    }
  }
  const int64_t patch_pairs = out.count;
  for (int64_t p = 0; with_class && p < pairs; ++p) {
    push(2 * p * tokens, (2 * p + 1) * tokens, patches);
  }
  if (shuffle != nullptr) {
    const auto permute = [&](int64_t begin, int64_t end) {  // Fisher-Yates
      for (int64_t i = end - 1; i > begin; --i) {
        const auto j = static_cast<int64_t>(
            shuffle->below(static_cast<uint64_t>(i), static_cast<uint64_t>(i - begin + 1)));
        std::swap(right[i], right[begin + j]);
      }
    };
    permute(0, patch_pairs);
    permute(patch_pairs, out.count);
  }
  return out;
}

namespace {

// Sums over the pairs: S (E, E) and D (X, E), both already times E/N. Partial sums per fixed
// chunk of pairs, added in chunk order.
template <class T>
void accumulate(const T* r, const TokenPairs& pairs, int64_t experts, double* partial, double* s,
                double* d) {
  const int64_t square = experts * experts, row = square + pairs.slots * experts;
  const int32_t* left = pairs.left.data<const int32_t>();
  const int32_t* right = pairs.right.data<const int32_t>();
  const int32_t* slot = pairs.slot.data<const int32_t>();
  engine::parallel_tasks(engine::kReduceChunks, [=, count = pairs.count](int64_t chunk) {
    double* sum = partial + chunk * row;
    std::fill_n(sum, row, 0.0);
    const engine::ChunkRange range = engine::reduce_chunk(count, chunk);
    for (int64_t n = range.begin; n < range.end; ++n) {
      const T *a = r + left[n] * experts, *b = r + right[n] * experts;
      double* by_slot = sum + square + slot[n] * experts;
      for (int64_t i = 0; i < experts; ++i) {
        const double ai = static_cast<double>(a[i]);
        for (int64_t j = 0; j < experts; ++j)
          sum[i * experts + j] += ai * static_cast<double>(b[j]);
        by_slot[i] += ai * static_cast<double>(b[i]);
      }
    }
  });
  const double factor = static_cast<double>(experts) / static_cast<double>(pairs.count);
  std::fill_n(s, square, 0.0);
  std::fill_n(d, row - square, 0.0);
  for (int64_t chunk = 0; chunk < engine::kReduceChunks; ++chunk) {
    const double* sum = partial + chunk * row;
    for (int64_t i = 0; i < square; ++i) s[i] += sum[i] * factor;
    for (int64_t i = 0; i < row - square; ++i) d[i] += sum[square + i] * factor;
  }
}

struct Terms {
  double diagonal = 0, off_diagonal = 0;
};

Terms terms_of(const double* s, const double* d, int64_t experts, int64_t slots, PrcForm form) {
  Terms t;
  const double e = static_cast<double>(experts);
  for (int64_t i = 0; i < experts; ++i) {
    for (int64_t j = 0; j < experts; ++j) {
      const double v = s[i * experts + j];
      if (i != j) t.off_diagonal += v * v / (e * (e - 1));
      if (i == j && form == PrcForm::kPaper) t.diagonal += (1 - v) * (1 - v) / e;
    }
  }
  if (form == PrcForm::kFork) {
    const int64_t count = slots * experts;
    for (int64_t i = 0; i < count; ++i) {
      t.diagonal += (d[i] - 1) * (d[i] - 1) / static_cast<double>(count);
    }
  }
  return t;
}

// s becomes M = dloss/dS (its diagonal 0 in the fork form), d becomes the diagonal's slope of
// each slot (0 in the paper form); both times E/N.
void slopes_in_place(double* s, double* d, int64_t experts, const TokenPairs& pairs, PrcForm form,
                     double lambda_diag, double lambda_off) {
  const double e = static_cast<double>(experts), factor = e / static_cast<double>(pairs.count);
  for (int64_t i = 0; i < experts; ++i) {
    for (int64_t j = 0; j < experts; ++j) {
      double& v = s[i * experts + j];
      if (i != j) {
        v = factor * 2 * lambda_off / (e * (e - 1)) * v;
      } else {
        v = form == PrcForm::kPaper ? -factor * 2 * lambda_diag / e * (1 - v) : 0;
      }
    }
  }
  const int64_t count = pairs.slots * experts;
  for (int64_t i = 0; i < count; ++i) {
    d[i] = form == PrcForm::kFork
               ? factor * 2 * lambda_diag * (d[i] - 1) / static_cast<double>(count)
               : 0;
  }
}

// dr[left] += seed (M + diag(d_slot)) r[right], dr[right] += seed (M^T + diag(d_slot)) r[left].
template <class T>
void spread(const T* r, T* dr, const TokenPairs& pairs, int64_t experts, const double* m,
            const double* d, double seed) {
  const int32_t* left = pairs.left.data<const int32_t>();
  const int32_t* right = pairs.right.data<const int32_t>();
  const int32_t* slot = pairs.slot.data<const int32_t>();
  for (int64_t n = 0; n < pairs.count; ++n) {
    const T *a = r + left[n] * experts, *b = r + right[n] * experts;
    T *da = dr + left[n] * experts, *db = dr + right[n] * experts;
    const double* own = d + slot[n] * experts;
    for (int64_t i = 0; i < experts; ++i) {
      double ga = own[i] * static_cast<double>(b[i]), gb = own[i] * static_cast<double>(a[i]);
      for (int64_t j = 0; j < experts; ++j) {
        ga += m[i * experts + j] * static_cast<double>(b[j]);
        gb += m[j * experts + i] * static_cast<double>(a[j]);
      }
      da[i] += static_cast<T>(seed * ga);
      db[i] += static_cast<T>(seed * gb);
    }
  }
}

}  // namespace

Tensor prc_loss(const Tensor& clean, const TokenPairs& pairs, PrcForm form, double lambda_diag,
                double lambda_off, PrcStats* stats) {
  check(clean.tape() != nullptr, ErrorKind::kValue, "prc_loss: input is not on a tape");
  check(clean.shape().rank() == 2 && clean.shape()[1] >= 2, ErrorKind::kShape,
        "prc_loss: expected (N, E) with E > 1, got ", clean.shape());
  check(form != PrcForm::kNone, ErrorKind::kValue, "prc_loss: no form was chosen");
  const int64_t experts = clean.shape()[1];
  engine::StepArena& arena = clean.tape()->arena();
  Tensor loss = arena.empty({1}, clean.dtype());
  const Tensor s = arena.empty({experts, experts}, Dtype::kF64);
  const Tensor slope = arena.empty({experts, experts}, Dtype::kF64);
  const Tensor d = arena.empty({pairs.slots, experts}, Dtype::kF64);
  const Tensor partial = arena.empty({engine::kReduceChunks, s.numel() + d.numel()}, Dtype::kF64);
  Terms terms;
  engine::dispatch_cpu(clean, [&]<class T>(Cpu) {
    if (pairs.count > 0) {
      accumulate(clean.data<const T>(), pairs, experts, partial.data<double>(), s.data<double>(),
                 d.data<double>());
      terms = terms_of(s.data<double>(), d.data<double>(), experts, pairs.slots, form);
    } else {
      std::fill_n(s.data<double>(), s.numel(), 0.0);
    }
    loss.data<T>()[0] =
        static_cast<T>(lambda_diag * terms.diagonal + lambda_off * terms.off_diagonal);
  });
  if (stats != nullptr) *stats = {s, terms.diagonal, terms.off_diagonal};
  if (pairs.count == 0) return clean.tape()->input(loss);
  std::copy_n(s.data<double>(), s.numel(), slope.data<double>());
  slopes_in_place(slope.data<double>(), d.data<double>(), experts, pairs, form, lambda_diag,
                  lambda_off);

  clean.tape()->record("prc_loss", {clean}, loss, [=](const Tensor& dy, Tape& tape) {
    const Tensor dclean = tape.target_zeroed(clean);
    engine::dispatch_cpu(clean, [&]<class T>(Cpu) {
      spread(clean.data<const T>(), dclean.data<T>(), pairs, experts, slope.data<const double>(),
             d.data<const double>(), static_cast<double>(dy.data<const T>()[0]));
    });
  });
  return loss;
}

}  // namespace moe
