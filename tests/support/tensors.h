#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/tape.h"

namespace engine::test {

// splitmix64 -> uniform in [-1, 1); the value depends only on (seed, i).
inline double noise(uint64_t seed, uint64_t i) {
  uint64_t z = seed * 0x9e3779b97f4a7c15ull + (i + 1) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return static_cast<double>((z ^ (z >> 31)) >> 11) * (2.0 / 9007199254740992.0) - 1.0;
}

// n numbers in [-scale, scale).
template <class T>
std::vector<T> values(int64_t n, uint64_t seed, double scale = 1) {
  std::vector<T> v(static_cast<size_t>(n));
  for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<T>(scale * noise(seed, i));
  return v;
}

// The vector's elements as a CPU tensor; the vector must outlive it.
template <class T>
Tensor view(const std::vector<T>& v, const Shape& shape) {
  check(static_cast<int64_t>(v.size()) == shape.numel(), ErrorKind::kShape, "view: ", v.size(),
        " elements as ", shape);
  // An empty vector has a null pointer, which a Tensor takes for "undefined".
  static T nothing;
  return {v.empty() ? &nothing : const_cast<T*>(v.data()), shape, dtype_of<T>(), Device::kCpu};
}

template <class T>
std::vector<T> copy_of(const Tensor& x) {
  return {x.data<const T>(), x.data<const T>() + x.numel()};
}

template <class T>
bool same_bytes(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// What body() threw: its kind (none if nothing) and its message.
struct Caught {
  std::optional<ErrorKind> kind;
  std::string message;
  // True if the kind is right and the message holds every one of the words.
  bool is(ErrorKind expected, std::initializer_list<std::string_view> words = {}) const {
    if (kind != expected) return false;
    return std::all_of(words.begin(), words.end(), [this](std::string_view word) {
      return message.find(word) != std::string::npos;
    });
  }
};

template <class Body>
Caught caught(Body&& body) {
  try {
    body();
  } catch (const Error& e) {
    return {e.kind(), e.message()};
  }
  return {};
}

// Makes the arena hand out memory full of NaN, so that a kernel that adds to memory it
// should have written shows.
inline void fill_with_nan(StepArena& arena, int64_t bytes) {
  std::memset(arena.allocate(bytes), 0xff, static_cast<size_t>(bytes));
  arena.reset();
}

// An op of any number of inputs, all of them on one tape.
using Function = std::function<Tensor(std::span<const Tensor>)>;

// What an op returns, and the gradients of all its inputs for one cotangent.
template <class T>
struct OpRun {
  std::vector<T> y;
  std::vector<std::vector<T>> grads;
};

// The cotangent is noise, unless one of y's size is given.
template <class T>
OpRun<T> run_op(const Function& f, const std::vector<Shape>& shapes,
                const std::vector<std::vector<T>>& inputs, std::vector<T> cotangent = {}) {
  OpRun<T> out;
  StepArena arena;
  fill_with_nan(arena, 900'000);
  Tape tape(arena);
  std::vector<Tensor> x;
  for (size_t k = 0; k < shapes.size(); ++k) {
    out.grads.emplace_back(inputs[k].size(), T(0));
    x.push_back(tape.leaf(view(inputs[k], shapes[k]), view(out.grads[k], shapes[k])));
  }
  const Tensor y = f(x);
  out.y = copy_of<T>(y);
  if (cotangent.empty()) cotangent = values<T>(y.numel(), 1000);
  tape.backward(y, view(cotangent, y.shape()));
  return out;
}

template <class T>
OpRun<T> run_op(const Function& f, const std::vector<Shape>& shapes, double scale = 1) {
  std::vector<std::vector<T>> inputs;
  for (size_t k = 0; k < shapes.size(); ++k) {
    inputs.push_back(values<T>(shapes[k].numel(), k + 1, scale));
  }
  return run_op<T>(f, shapes, inputs);
}

// max |a - b| / max(1, max |b|); infinite if anything is NaN or the sizes differ.
template <class A, class B>
double distance(const std::vector<A>& a, const std::vector<B>& b) {
  if (a.size() != b.size()) return INFINITY;
  double worst = 0, largest = 1;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(d <= worst)) worst = d;
    if (!(d <= INFINITY)) return INFINITY;
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
  }
  return worst / largest;
}

}  // namespace engine::test
