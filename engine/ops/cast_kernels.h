#pragma once

#include "engine/core/backend.h"

namespace engine::kernels {

// y (+)= x, flat, rounded where To is bf16. (From, To): (f32, bf16), (bf16, f32).
template <class From, class To>
void put_cast(Cuda, const From* x, To* y, int64_t count, GradWrite write);

}  // namespace engine::kernels
