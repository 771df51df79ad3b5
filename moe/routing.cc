#include "moe/routing.h"

#include <algorithm>

#include "engine/core/backend.h"

namespace moe {

using engine::check;
using engine::ErrorKind;
using engine::Tensor;

bool follow_order(nn::Forward& f, Routing& r) {
  const auto* orders = dynamic_cast<const RoutingOrders*>(f.orders);
  if (orders == nullptr) return false;
  const auto found = std::ranges::find(orders->layers, r.layer, &LayerOrder::layer);
  if (found == orders->layers.end()) return false;
  const int64_t n = r.images * r.tokens;
  if (found->expert < 0) {
    const engine::Shape &chosen = found->chosen.shape(), &weight = found->weight.shape();
    check(chosen.rank() == 2 && chosen[0] == n && weight == chosen, ErrorKind::kShape,
          "routing order for layer ", r.layer, ": choices ", chosen, " and weights ", weight,
          " for ", n, " tokens");
    r.chosen = found->chosen;
    r.weight = f.tape.input(found->weight);
    r.top_k = chosen[1];
    return true;
  }
  check(found->expert < r.experts, ErrorKind::kValue, "there is no expert ", found->expert,
        " in a layer of ", r.experts);
  r.top_k = 1;
  r.chosen = f.tape.arena().empty({n, 1}, engine::Dtype::kI32);
  std::fill_n(r.chosen.data<int32_t>(), n, static_cast<int32_t>(found->expert));
  const Tensor weight = f.tape.arena().empty({n, 1}, r.clean.dtype());
  engine::dispatch_cpu(weight,
                       [&]<class T>(engine::Cpu) { std::fill_n(weight.data<T>(), n, T(1)); });
  r.weight = f.tape.input(weight);
  return true;
}

}  // namespace moe
