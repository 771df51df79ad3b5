#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/support/bits.h"
#include "train/safetensors.h"

namespace train::test {

// A dump of audit --dump, read back.
struct Dump {
  explicit Dump(const std::string& path) : file(path) {
    for (const char* name :
         {"image", "layer", "token", "view", "flat", "partner", "experts", "routed", "sweep.image",
          "sweep.label", "sweep.prediction", "sweep.flat", "sweep.top1"}) {
      columns[name] = read<int32_t>(name);
    }
    probabilities = read<float>("probabilities");
    experts = file.find("probabilities")->shape[1];
    top_k = file.find("experts")->shape[1];
  }
  template <class T>
  std::vector<T> read(const std::string& name) const {
    std::vector<T> values(static_cast<size_t>(file.find(name)->shape.numel()));
    file.read(name, engine::test::view(values, file.find(name)->shape));
    return values;
  }
  // Experts of a row, most probable first.
  std::vector<int> sorted(int64_t row) const {
    std::vector<int> order;
    for (int e = 0; e < experts; ++e) order.push_back(e);
    const float* p = probabilities.data() + row * experts;
    std::stable_sort(order.begin(), order.end(), [p](int a, int b) { return p[a] > p[b]; });
    return order;
  }
  double p(int64_t row, int64_t e) const { return probabilities[row * experts + e]; }

  SafetensorsFile file;
  std::map<std::string, std::vector<int32_t>> columns;
  std::vector<float> probabilities;
  int64_t experts = 0, top_k = 0;
};

}  // namespace train::test
