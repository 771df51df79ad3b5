#pragma once

#include "tests/reference/naive_layers.h"

namespace engine::test {

// Expert e of a layer with these parameters on rows `in`, in plain loops.
inline naive::Vec naive_expert(const naive::Params& p, int64_t e, int64_t width, int64_t hidden,
                               const naive::Vec& in) {
  const auto at = [&](const char* name, int64_t size) {
    return naive::Param{&p.at(name)[e * size], nullptr};
  };
  naive::Mlp mlp{
      {at("experts.up.weight", width * hidden), at("experts.up.bias", hidden), width, hidden},
      {at("experts.down.weight", width * hidden), at("experts.down.bias", width), hidden, width},
      naive::Gelu::kTanh};
  return mlp.forward(in);
}

}  // namespace engine::test
