#include "engine/ops/rows.h"

#include "engine/core/stored.h"
#include "engine/ops/pointwise_kernels.h"
#include "engine/ops/rows_kernels.h"

namespace engine {
namespace {

kernels::RowsSize rows_size(const char* op, const RowMap& map, int64_t width) {
  check(map.choice_of_slot.shape().rank() == 1 && map.slot_of.shape().rank() == 2,
        ErrorKind::kShape, op, ": expected choice_of_slot (S) and slot_of (N, K), got ",
        map.choice_of_slot.shape(), " and ", map.slot_of.shape());
  return {map.slot_of.shape()[0], map.slot_of.shape()[1], map.choice_of_slot.shape()[0], width};
}

}  // namespace

Tensor gather_rows(const Tensor& x, const RowMap& map) {
  check(x.tape() != nullptr, ErrorKind::kValue, "gather_rows: input is not on a tape");
  check(x.shape().rank() == 2, ErrorKind::kShape, "gather_rows: expected (N, D), got ", x.shape());
  const kernels::RowsSize size = rows_size("gather_rows", map, x.shape()[1]);
  check(size.items == x.shape()[0], ErrorKind::kShape, "gather_rows: ", x.shape()[0],
        " rows for a plan of ", size.items, " items");
  Tensor xs = x.tape()->arena().empty({size.slots, size.width}, x.dtype());
  dispatch_stored(x, [&]<class T>(auto backend) {
    kernels::gather_rows_forward(backend, x.data<const T>(),
                                 map.choice_of_slot.data<const int32_t>(), xs.data<T>(), size);
  });
  x.tape()->record("gather_rows", {x}, xs, [=](const Tensor& dxs, Tape& tape) {
    const GradTarget dx = tape.target(x);
    dispatch_stored(x, [&]<class T>(auto backend) {
      kernels::gather_rows_backward(backend, dxs.data<const T>(), map.slot_of.data<const int32_t>(),
                                    dx.grad.data<T>(), size, dx.write);
    });
  });
  return xs;
}

Tensor combine_rows(const Tensor& ys, const Tensor& weight, const RowMap& map,
                    const Tensor* residual) {
  check(ys.tape() != nullptr, ErrorKind::kValue, "combine_rows: input is not on a tape");
  check(ys.shape().rank() == 2, ErrorKind::kShape, "combine_rows: expected (S, D), got ",
        ys.shape());
  const kernels::RowsSize size = rows_size("combine_rows", map, ys.shape()[1]);
  const Tensor add = residual != nullptr ? *residual : Tensor{};
  check(ys.shape()[0] == size.slots && weight.shape() == map.slot_of.shape() &&
            (!add.defined() || add.shape() == Shape{size.items, size.width}),
        ErrorKind::kShape, "combine_rows: ys ", ys.shape(), ", weight ", weight.shape(),
        " and residual ", add.shape(), " do not fit a plan of ", map.slot_of.shape());
  Tensor y = ys.tape()->arena().empty({size.items, size.width}, ys.dtype());
  dispatch_stored(ys, [&]<class T>(auto backend) {
    kernels::combine_rows_forward(backend, ys.data<const T>(), weight.data<const Wide<T>>(),
                                  map.slot_of.data<const int32_t>(),
                                  add.defined() ? add.data<const T>() : nullptr, y.data<T>(), size);
  });
  ys.tape()->record("combine_rows", {ys, weight, add}, y, [=](const Tensor& dy, Tape& tape) {
    dispatch_stored(dy, [&]<class T>(auto backend) {
      const T* g = dy.data<const T>();
      if (tape.wants_grad(weight)) {
        const GradTarget d = tape.target(weight);
        kernels::combine_rows_backward_weight(backend, ys.data<const T>(), g,
                                              map.slot_of.data<const int32_t>(),
                                              d.grad.data<Wide<T>>(), size, d.write);
      }
      if (tape.wants_grad(ys)) {
        const GradTarget d = tape.target(ys);
        kernels::combine_rows_backward_slots(backend, weight.data<const Wide<T>>(), g,
                                             map.choice_of_slot.data<const int32_t>(),
                                             d.grad.data<T>(), size, d.write);
      }
      if (add.defined() && tape.wants_grad(add) && !tape.pass_grad(add, dy)) {
        kernels::put_scaled(backend, g, Wide<T>(1), tape.target_zeroed(add).template data<T>(),
                            dy.numel(), GradWrite::kAccumulate);
      }
    });
  });
  return y;
}

}  // namespace engine
