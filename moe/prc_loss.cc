#include "moe/prc_loss.h"

#include <algorithm>
#include <utility>

#include "engine/core/device_memory.h"
#include "engine/core/workspace.h"
#include "moe/prc_loss_kernels.h"

namespace moe {

using engine::check;
using engine::Device;
using engine::Dtype;
using engine::ErrorKind;
using engine::Tape;
using engine::Tensor;

TokenPairs make_pairs(engine::StepArena& arena, const Tensor& match, int64_t tokens,
                      bool class_token, bool pair_class_tokens, const engine::RngKey* shuffle) {
  const int64_t first = class_token ? 1 : 0;
  check(match.shape().rank() == 2 && match.shape()[1] == tokens - first, ErrorKind::kShape,
        "prc: expected correspondences (P, ", tokens - first, "), got ", match.shape());
  check(match.device() == Device::kCpu, ErrorKind::kDevice,
        "prc: correspondences are read on the host, got ", name_of(match.device()));
  const int64_t pairs = match.shape()[0], patches = match.shape()[1];
  const bool with_class = class_token && pair_class_tokens;
  const int64_t most = pairs * (patches + 1);
  // One array, made on the host: a GPU gets it in a single copy.
  const Tensor all = arena.empty({3 * most + 1}, Dtype::kI32);
  const bool on_host = all.device() == Device::kCpu;
  const auto part = [&](int64_t i) {
    return all.rows(i * most, std::min(3 * most + 1, (i + 1) * most));
  };
  TokenPairs out{part(0), part(1), part(2), part(3), 0, patches + (with_class ? 1 : 0)};
  const int32_t* to = match.data<const int32_t>();
  int32_t* left = on_host ? all.data<int32_t>() : engine::workspace<int32_t>(0, 3 * most + 1);
  int32_t *right = left + most, *slot = right + most;
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
  left[3 * most] = static_cast<int32_t>(out.count);
  if (!on_host) {
    for (int32_t* row : {left, right, slot}) std::fill(row + out.count, row + most, -1);
    engine::device_upload(all.raw(), left, all.bytes());
  }
  return out;
}

namespace {

kernels::PairRows rows_of(const TokenPairs& pairs) {
  const bool on_host = pairs.left.device() == Device::kCpu;
  return {pairs.left.data<const int32_t>(),   pairs.right.data<const int32_t>(),
          pairs.slot.data<const int32_t>(),   on_host ? pairs.count : pairs.left.numel(),
          pairs.number.data<const int32_t>(), pairs.slots};
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
  const Tensor terms = arena.empty({2}, Dtype::kF64);
  if (stats != nullptr) *stats = {s, terms};
  if (pairs.count == 0 && clean.device() == Device::kCpu) {
    for (const Tensor& x : {loss, s, terms}) engine::device_zero(x.device(), x.raw(), x.bytes());
    return clean.tape()->input(loss);
  }
  const Tensor slope = arena.empty({experts, experts}, Dtype::kF64);
  const Tensor slot_slope = arena.empty({pairs.slots, experts}, Dtype::kF64);
  engine::dispatch(clean, [&]<class T>(auto backend) {
    const kernels::PrcResult<T> out{loss.data<T>(), s.data<double>(), terms.data<double>(),
                                    slope.data<double>(), slot_slope.data<double>()};
    kernels::prc_forward(backend, clean.data<const T>(), experts, rows_of(pairs),
                         {form, lambda_diag, lambda_off}, out);
  });
  clean.tape()->record("prc_loss", {clean}, loss, [=](const Tensor& dy, Tape& tape) {
    const Tensor dclean = tape.target_zeroed(clean);
    engine::dispatch(clean, [&]<class T>(auto backend) {
      kernels::prc_backward(backend, clean.data<const T>(), clean.shape()[0], experts,
                            rows_of(pairs), slope.data<const double>(),
                            slot_slope.data<const double>(), dy.data<const T>(), dclean.data<T>());
    });
  });
  return loss;
}

}  // namespace moe
