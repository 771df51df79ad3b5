#pragma once

#include "engine/core/stored.h"
#include "engine/core/tape.h"
#include "engine/ops/linear_kernels.h"

namespace engine {

// For backwards of ops that add a residual: dresidual = g, handed over without a copy where it can
// be. Nothing where there is no residual or it wants no gradient. The last thing done with g.
inline void give_residual(const Tensor& residual, const Tensor& g, Tape& tape) {
  if (!residual.defined() || !tape.wants_grad(residual) || tape.pass_grad(residual, g)) return;
  const Tensor dresidual = tape.target_zeroed(residual);
  dispatch_stored(g, [&]<class T>(auto backend) {
    kernels::add_into(backend, g.data<const T>(), dresidual.data<T>(), g.numel());
  });
}

}  // namespace engine
