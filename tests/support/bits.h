#pragma once

#include <omp.h>

#include <vector>

#include "tests/support/tensors.h"

namespace engine::test {

// Sets the number of OpenMP threads, and puts it back when it goes out of scope.
class Threads {
 public:
  explicit Threads(int count) : before_(omp_get_max_threads()) { omp_set_num_threads(count); }
  ~Threads() { omp_set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

// True if body(), which returns a vector of numbers, returns the same bytes with 1, 2 and 5
// threads.
template <class Body>
bool same_bits_for_threads(Body&& body) {
  const auto with = [&body](int threads) {
    const Threads scope(threads);
    return body();
  };
  const auto one = with(1);
  return !one.empty() && same_bytes(one, with(2)) && same_bytes(one, with(5));
}

// The same of an op's output and of the gradients of all its inputs.
template <class T>
bool op_same_bits_for_threads(const Function& f, const std::vector<Shape>& shapes) {
  return same_bits_for_threads([&] {
    const OpRun<T> run = run_op<T>(f, shapes);
    std::vector<T> all = run.y;
    for (const auto& grad : run.grads) all.insert(all.end(), grad.begin(), grad.end());
    return all;
  });
}

// Whether items computed in batches of 1 and 7 have the same bits, output and gradient, as
// among 256. The leading axis of the first input and of the output counts items; `item` is
// the shape of one item, the further inputs are parameters.
template <class T>
bool batch_shows_nowhere(const Function& f, const Shape& item,
                         const std::vector<Shape>& parameters) {
  constexpr int64_t kItems = 256;
  const auto run = [&](int64_t begin, int64_t count, const std::vector<T>& cotangent) {
    const int64_t n = item.numel();
    const auto x = values<T>(kItems * n, 1);
    std::vector<Shape> shapes = {item.with_prepended(count)};
    std::vector<std::vector<T>> inputs = {{x.begin() + begin * n, x.begin() + (begin + count) * n}};
    for (const Shape& shape : parameters) {
      inputs.push_back(values<T>(shape.numel(), shapes.size() + 1));
      shapes.push_back(shape);
    }
    return run_op<T>(f, shapes, inputs, cotangent);
  };
  const OpRun<T> all = run(0, kItems, {});
  const auto part = [](const std::vector<T>& v, int64_t begin, int64_t count) {
    const auto n = static_cast<int64_t>(v.size()) / kItems;
    return std::vector<T>(v.begin() + begin * n, v.begin() + (begin + count) * n);
  };
  const auto cotangent = values<T>(static_cast<int64_t>(all.y.size()), 1000);
  for (const int64_t count : {1, 7}) {
    for (const int64_t begin : {int64_t{0}, int64_t{101}, kItems - count}) {
      const OpRun<T> some = run(begin, count, part(cotangent, begin, count));
      if (!same_bytes(some.y, part(all.y, begin, count))) return false;
      if (!same_bytes(some.grads[0], part(all.grads[0], begin, count))) return false;
    }
  }
  return true;
}

}  // namespace engine::test
