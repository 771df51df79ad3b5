#include "engine/ops/tokens.h"

#include "engine/core/stored.h"
#include "engine/ops/tokens_kernels.h"

namespace engine {
namespace {

kernels::TokenSize token_size(const char* op, const Tensor& x) {
  check(x.tape() != nullptr, ErrorKind::kValue, op, ": input is not on a tape");
  check(x.shape().rank() == 3, ErrorKind::kShape, op, ": expected (B, T, D), got ", x.shape());
  return {x.shape()[0], x.shape()[1], x.shape()[2]};
}

}  // namespace

Tensor patchify(const Tensor& images, int64_t patch) {
  check(images.tape() != nullptr, ErrorKind::kValue, "patchify: input is not on a tape");
  const Shape& s = images.shape();
  check(s.rank() == 4 && patch > 0 && s[2] % patch == 0 && s[3] % patch == 0, ErrorKind::kShape,
        "patchify: expected (B, C, H, W) with H and W multiples of ", patch, ", got ", s);
  const kernels::PatchSize size{s[0], s[1], s[2], s[3], patch};
  const int64_t patches = (s[2] / patch) * (s[3] / patch);
  Tensor y = images.tape()->arena().empty({s[0], patches, patch * patch * s[1]}, images.dtype());
  dispatch(images, [&]<class T>(auto backend) {
    kernels::patchify_forward(backend, images.data<const T>(), y.data<T>(), size);
  });
  images.tape()->record("patchify", {images}, y, [=](const Tensor& dy, Tape& tape) {
    const GradTarget dx = tape.target(images);
    dispatch(dy, [&]<class T>(auto backend) {
      kernels::patchify_backward(backend, dy.data<const T>(), dx.grad.data<T>(), size, dx.write);
    });
  });
  return y;
}

Tensor embed_tokens(const Tensor& patches, const Tensor& class_token, const Tensor& position) {
  kernels::TokenSize size = token_size("embed_tokens", patches);
  const int64_t skip = class_token.defined() ? 1 : 0;
  size.tokens += skip;
  check(position.shape() == Shape{size.tokens, size.width} &&
            (skip == 0 || class_token.shape() == Shape{size.width}),
        ErrorKind::kShape, "embed_tokens: expected position (", size.tokens, ",", size.width,
        ") and class token (", size.width, "), got ", position.shape(), " and ",
        class_token.shape());
  Tensor y = patches.tape()->arena().empty({size.batch, size.tokens, size.width}, patches.dtype());
  dispatch_stored(patches, [&]<class T>(auto backend) {
    kernels::embed_tokens_forward(backend, patches.data<const T>(),
                                  skip != 0 ? class_token.data<const Wide<T>>() : nullptr,
                                  position.data<const Wide<T>>(), y.data<T>(), size);
  });
  patches.tape()->record(
      "embed_tokens", {patches, class_token, position}, y, [=](const Tensor& dy, Tape& tape) {
        dispatch_stored(dy, [&]<class T>(auto backend) {
          const T* g = dy.data<const T>();
          if (tape.wants_grad(position)) {
            kernels::embed_tokens_backward_position(
                backend, g, tape.target_zeroed(position).template data<Wide<T>>(), size);
          }
          if (skip != 0 && tape.wants_grad(class_token)) {
            kernels::embed_tokens_backward_class(
                backend, g, tape.target_zeroed(class_token).template data<Wide<T>>(), size);
          }
          if (tape.wants_grad(patches)) {
            const GradTarget dx = tape.target(patches);
            kernels::embed_tokens_backward_patches(backend, g, dx.grad.data<T>(), size, skip,
                                                   dx.write);
          }
        });
      });
  return y;
}

Tensor select_token(const Tensor& x, int64_t token) {
  const kernels::TokenSize size = token_size("select_token", x);
  check(token >= 0 && token < size.tokens, ErrorKind::kShape, "select_token: token ", token, " of ",
        x.shape());
  Tensor y = x.tape()->arena().empty({size.batch, size.width}, x.dtype());
  dispatch_stored(x, [&]<class T>(auto backend) {
    kernels::select_token_forward(backend, x.data<const T>(), y.data<T>(), size, token);
  });
  x.tape()->record("select_token", {x}, y, [=](const Tensor& dy, Tape& tape) {
    const Tensor dx = tape.target_zeroed(x);
    dispatch_stored(dy, [&]<class T>(auto backend) {
      kernels::select_token_backward(backend, dy.data<const T>(), dx.data<T>(), size, token);
    });
  });
  return y;
}

Tensor mean_tokens(const Tensor& x) {
  const kernels::TokenSize size = token_size("mean_tokens", x);
  check(size.tokens > 0, ErrorKind::kShape, "mean_tokens: no tokens in ", x.shape());
  Tensor y = x.tape()->arena().empty({size.batch, size.width}, x.dtype());
  dispatch_stored(x, [&]<class T>(auto backend) {
    kernels::mean_tokens_forward(backend, x.data<const T>(), y.data<T>(), size);
  });
  x.tape()->record("mean_tokens", {x}, y, [=](const Tensor& dy, Tape& tape) {
    const GradTarget dx = tape.target(x);
    dispatch_stored(dy, [&]<class T>(auto backend) {
      kernels::mean_tokens_backward(backend, dy.data<const T>(), dx.grad.data<T>(), size, dx.write);
    });
  });
  return y;
}

}  // namespace engine
