#include "engine/ops/rows.h"

#include "engine/ops/rows_kernels.h"
#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;

namespace {

// N items with K choices in slots of mixed order; every fifth choice is dropped.
struct Plan {
  Plan(int64_t n, int64_t k) : items(n), choices(k), slot_of(static_cast<size_t>(n * k), -1) {
    for (size_t step = 0; step < slot_of.size(); ++step) {
      const size_t choice = slot_of.size() - 1 - step;
      if (choice % 5 == 3) continue;
      slot_of[choice] = static_cast<int32_t>(choice_of_slot.size());
      choice_of_slot.push_back(static_cast<int32_t>(choice));
    }
  }
  int64_t slots() const { return static_cast<int64_t>(choice_of_slot.size()); }
  RowMap map(StepArena& arena) const {
    return {on(arena, choice_of_slot, {slots()}), on(arena, slot_of, {items, choices})};
  }
  int64_t items, choices;
  std::vector<int32_t> choice_of_slot, slot_of;
};

// Rows of one element, with and without 16-byte accesses, below and beyond what a lane reads ahead.
constexpr int64_t kWidths[] = {1, 3, 20, 129, 132, 516, 520};

template <class T>
void check_rows() {
  for (const auto& each : {std::pair{1, 1}, {5, 1}, {9, 2}, {11, 3}}) {
    const auto n = std::get<0>(each), k = std::get<1>(each);
    const Plan plan(n, k);
    for (const int64_t width : kWidths) {
      CAPTURE(n);
      CAPTURE(k);
      CAPTURE(width);
      check_parity<T>(Device::kCuda, {{{n, width}}}, [&](Tape& tape, auto in) {
        return gather_rows(in[0], plan.map(tape.arena()));
      });
      const std::vector<ParityInput> inputs{{{plan.slots(), width}}, {{n, k}}, {{n, width}}};
      check_parity<T>(Device::kCuda, {inputs[0], inputs[1]}, [&](Tape& tape, auto in) {
        return combine_rows(in[0], in[1], plan.map(tape.arena()));
      });
      check_parity<T>(Device::kCuda, inputs, [&](Tape& tape, auto in) {
        return combine_rows(in[0], in[1], plan.map(tape.arena()), &in[2]);
      });
    }
  }
}

// Slots 1 and 4 of 5 hold nobody: zeros there, and nothing added.
template <class T>
void check_unused_slots(int64_t width) {
  const std::vector<int32_t> choice_of_slot{5, -1, 0, 2, -1};
  const kernels::RowsSize size{3, 2, 5, width};
  const auto x = test_values<T>(1, 3 * width), weight = test_values<T>(2, 6);
  const auto start = test_values<T>(3, 5 * width);
  const Buffer on_x = upload(x, Device::kCuda), on_weight = upload(weight, Device::kCuda);
  const Buffer of_slot = upload(choice_of_slot, Device::kCuda);
  const Buffer got = upload(start, Device::kCuda), first = upload(start, Device::kCuda);
  const Buffer added = upload(start, Device::kCuda);
  on_device(Device::kCuda, [&](auto backend) {
    const auto* slots = of_slot.data<const int32_t>();
    kernels::gather_rows_forward(backend, on_x.data<const T>(), slots, got.data<T>(), size);
    const auto back = [&](const Buffer& to, GradWrite write) {
      kernels::combine_rows_backward_slots(backend, on_weight.data<const T>(), on_x.data<const T>(),
                                           slots, to.data<T>(), size, write);
    };
    back(first, GradWrite::kOverwrite);
    back(added, GradWrite::kAccumulate);
  });
  std::vector<double> rows, scaled, sums;
  for (size_t i = 0; i < start.size(); ++i) {
    const auto slot = i / static_cast<size_t>(width), c = i % static_cast<size_t>(width);
    const int32_t choice = choice_of_slot[slot];
    const auto item = static_cast<size_t>(std::max(choice, 0) / 2);
    const T row = choice < 0 ? T(0) : x[item * static_cast<size_t>(width) + c];
    const T by = choice < 0 ? T(0) : weight[static_cast<size_t>(choice)];
    rows.push_back(row);
    scaled.push_back(by * row);
    sums.push_back(start[i] + by * row);
  }
  CHECK(worst_error(download<T>(got), rows) == 0);
  CHECK(worst_error(download<T>(first), scaled) < tolerance<T>());
  CHECK(worst_error(download<T>(added), sums) < tolerance<T>());
}

}  // namespace

TEST_CASE("cuda: gather_rows and combine_rows as on the CPU" * doctest::skip(!cuda_available())) {
  check_rows<float>();
  check_rows<double>();
}

TEST_CASE("cuda: slots that nobody uses hold zeros" * doctest::skip(!cuda_available())) {
  for (const int64_t width : {3, 8}) {
    check_unused_slots<float>(width);
    check_unused_slots<double>(width);
  }
}
