#include "moe/routing.h"

#include <doctest/doctest.h>

#include "engine/ops/softmax.h"
#include "engine/ops/top_k.h"
#include "moe/draw_kernels.h"
#include "moe/moe_layer.h"
#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;

namespace {

// What a layer with a capacity reports, without its products.
moe::Routing routing_on(StepArena& arena, Tape& tape, bool expert_choice, int64_t capacity) {
  moe::Routing r;
  r.images = 5;
  r.tokens = 13;
  r.experts = 4;
  r.top_k = expert_choice ? 4 : 2;
  r.expert_choice = expert_choice;
  r.capacity = capacity;
  const int64_t n = r.images * r.tokens;
  r.logits = r.noisy_logits = tape.input(on(arena, test_values<float>(3, n * 4, 3), {n, 4}));
  r.clean = r.gates = softmax(r.logits);
  r.chosen = top_k(r.gates, r.top_k);
  const moe::DispatchPlan plan = moe::make_plan(
      tape, r.chosen, 4, capacity, n,
      expert_choice ? moe::SlotRule::kExpertChoice : moe::SlotRule::kBatchPriority, r.gates);
  r.expert = plan.expert_of;
  r.offset = plan.offset;
  r.slot_of = plan.map.slot_of;
  r.dropped = plan.dropped;
  r.weight = pick(r.gates, r.expert);
  return r;
}

}  // namespace

TEST_CASE("cuda: a routing on the host is the CPU's" * doctest::skip(!cuda_available())) {
  for (const bool expert_choice : {false, true}) {
    for (const int64_t capacity : {0, 6, 15, 40}) {
      if (expert_choice && capacity == 0) continue;
      CAPTURE(expert_choice);
      CAPTURE(capacity);
      StepArena host, arena(Device::kCuda), copies;
      Tape host_tape(host), tape(arena);
      const moe::Routing want = routing_on(host, host_tape, expert_choice, capacity);
      const moe::Routing there = routing_on(arena, tape, expert_choice, capacity);
      CHECK(there.dropped == -1);
      const moe::Routing got = moe::on_host(there, copies);
      CHECK(got.dropped == want.dropped);
      CHECK(got.capacity == capacity);
      CHECK(!got.outputs.defined());
      for (const auto field : {&moe::Routing::logits, &moe::Routing::noisy_logits}) {
        CHECK((got.*field).device() == Device::kCpu);
        CHECK((got.*field).shape() == want.logits.shape());
        CHECK(same_bits(download<float>(got.*field), download<float>(want.*field)));
      }
      for (const auto field : {&moe::Routing::chosen, &moe::Routing::expert, &moe::Routing::offset,
                               &moe::Routing::slot_of}) {
        CHECK(download<int32_t>(got.*field) == download<int32_t>(want.*field));
      }
      for (const auto field : {&moe::Routing::clean, &moe::Routing::gates, &moe::Routing::weight}) {
        const auto values = download<float>(want.*field);
        CHECK(worst_error(download<float>(got.*field), {values.begin(), values.end()}) < 1e-6);
      }
    }
  }
}

TEST_CASE("a routing of the CPU is taken to the host as it is") {
  StepArena arena, copies;
  Tape tape(arena);
  const moe::Routing r = routing_on(arena, tape, false, 6), same = moe::on_host(r, copies);
  CHECK(same.logits.raw() == r.logits.raw());
  CHECK(same.expert.raw() == r.expert.raw());
  CHECK(same.dropped == r.dropped);
  CHECK(copies.bytes_in_use() == 0);
}

TEST_CASE("cuda: an order for one expert" * doctest::skip(!cuda_available())) {
  StepArena arena(Device::kCuda);
  Tape tape(arena);
  moe::RoutingOrders orders;
  orders.layers.push_back({.layer = 1, .expert = 2});
  nn::Forward f{.tape = tape, .orders = &orders};
  moe::Routing r;
  r.layer = 1;
  r.images = 3;
  r.tokens = 100;
  r.experts = 4;
  r.clean = arena.empty({300, 4}, Dtype::kF64);
  REQUIRE(moe::follow_order(f, r));
  CHECK(download<int32_t>(r.chosen) == std::vector<int32_t>(300, 2));
  CHECK(download<double>(r.weight) == std::vector<double>(300, 1));
  const moe::DispatchPlan plan = moe::make_plan(tape, r.chosen, 4, 0, 300);
  CHECK(download<int32_t>(plan.offset) == std::vector<int32_t>{0, 0, 0, 300, 300});
}

TEST_CASE("cuda: owners and shares of soft slots" * doctest::skip(!cuda_available())) {
  constexpr int64_t kSlots = 3, kExperts = 5, kCount = 7 * kSlots * kExperts;
  const auto both = [&](Device device) {
    StepArena arena(device);
    auto values = test_values<double>(9, kCount, 0.5);
    for (double& x : values) x += 0.6;
    const Tensor weight = on(arena, values, {kCount});
    const Tensor owner = arena.empty({kCount}, Dtype::kI32);
    const Tensor shares = arena.empty({2, kCount / kSlots}, Dtype::kF64);
    on_device(device, [&](auto backend) {
      moe::kernels::put_owners(backend, kCount, kSlots, kExperts, owner.data<int32_t>());
      moe::kernels::put_shares(backend, weight.data<const double>(), kSlots, kCount / kSlots,
                               shares.data<double>(), shares.data<double>() + kCount / kSlots);
    });
    return std::pair(download<int32_t>(owner), download<double>(shares));
  };
  const auto got = both(Device::kCuda), want = both(Device::kCpu);
  CHECK(got.first == want.first);
  CHECK(worst_error(got.second, want.second) < 1e-14);
}
