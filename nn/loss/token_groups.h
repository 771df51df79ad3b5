#pragma once

#include "engine/core/tape.h"

namespace nn {

// How a batch of router outputs (N, E) is cut into groups of whole images.
struct Groups {
  int64_t count, tokens, experts;  // groups, tokens of one, E
};

// The groups of x (N, E), a tensor on a tape. Error(kValue, kShape) in the name of `op`.
inline Groups check_groups(const char* op, const engine::Tensor& x, int64_t group_tokens) {
  using engine::ErrorKind;
  engine::check(x.tape() != nullptr, ErrorKind::kValue, op, ": input is not on a tape");
  engine::check(x.shape().rank() == 2, ErrorKind::kShape, op, ": expected (N, E), got ", x.shape());
  engine::check(group_tokens > 0 && x.shape()[0] % group_tokens == 0, ErrorKind::kValue, op,
                ": groups of ", group_tokens, " tokens do not divide the batch's ", x.shape()[0]);
  return {x.shape()[0] / group_tokens, group_tokens, x.shape()[1]};
}

}  // namespace nn
