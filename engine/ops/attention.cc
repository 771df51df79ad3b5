#include "engine/ops/attention.h"

#include "engine/core/stored.h"
#include "engine/ops/attention_kernels.h"

namespace engine {

Tensor attention(const Tensor& qkv, int64_t heads, Precision precision) {
  check(qkv.tape() != nullptr, ErrorKind::kValue, "attention: input is not on a tape");
  check(qkv.shape().rank() == 3 && heads > 0 && qkv.shape()[2] % (3 * heads) == 0,
        ErrorKind::kShape, "attention: expected (B, T, 3*H*D) with H = ", heads, ", got ",
        qkv.shape());
  check_product("attention", qkv, precision);
  const int64_t width = qkv.shape()[2] / 3;
  const kernels::AttentionSize size{qkv.shape()[0], qkv.shape()[1], heads, width / heads};

  StepArena& arena = qkv.tape()->arena();
  Tensor y = arena.empty({size.batch, size.tokens, width}, qkv.dtype());
  Tensor saved;
  dispatch_stored(qkv, [&]<class T>(auto backend) {
    saved = arena.empty({kernels::attention_saved(backend, size)}, wide_dtype(qkv.dtype()));
    kernels::attention_forward(backend, qkv.data<const T>(), saved.data<Wide<T>>(), y.data<T>(),
                               size, precision);
  });

  qkv.tape()->record("attention", {qkv}, y, [=](const Tensor& dy, Tape& tape) {
    const GradTarget d = tape.target(qkv);
    dispatch_stored(qkv, [&]<class T>(auto backend) {
      kernels::attention_backward(backend, qkv.data<const T>(), saved.data<const Wide<T>>(),
                                  y.data<const T>(), dy.data<const T>(), d.grad.data<T>(), size,
                                  d.write, precision);
    });
  });
  return y;
}

}  // namespace engine
