#include "train/init/torchvision_names.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/support/model_fixture.h"
#include "train/model.h"

using engine::Shape;
using train::SourceTensor;
using train::SourceTensors;

namespace {

train::Config narrow(const std::string& kind) {
  train::Config config;
  config.model.kind = kind;
  config.model.first_width = 4;
  config.model.channels = 3;
  config.model.classes = 5;
  config.moe.layers = "none";
  return config;
}

SourceTensors weights_of(const train::Model& model) {
  SourceTensors out;
  for (const auto& entry : model.params.entries()) {
    out[entry.path] = {
        entry.shape, engine::test::copy_of<float>(model.params.view(entry, engine::Slab::kValue))};
  }
  return out;
}

}  // namespace

TEST_CASE("torchvision: an element of a convolution and of the classifier") {
  // (N=2, C=3, 2, 2) counted in torchvision's order.
  SourceTensor conv{{2, 3, 2, 2}, {}}, fc{{2, 3}, {0, 1, 2, 3, 4, 5}}, bias{{2}, {7, 8}};
  for (int i = 0; i < 24; ++i) conv.values.push_back(static_cast<float>(i));
  const SourceTensors theirs = {
      {"layer2.0.conv1.weight", conv}, {"fc.weight", fc}, {"fc.bias", bias}};
  CHECK(train::has_torchvision_layout(theirs));
  const SourceTensors ours = train::from_torchvision(theirs);
  CHECK_FALSE(train::has_torchvision_layout(ours));
  const SourceTensor& turned = ours.at("layer2.0.conv1.weight");
  CHECK(turned.shape == Shape{2, 2, 3, 2});
  for (int n = 0; n < 2; ++n) {
    for (int c = 0; c < 3; ++c) {
      for (int y = 0; y < 2; ++y) {
        for (int x = 0; x < 2; ++x) {
          CHECK(turned.values[static_cast<size_t>(((y * 2 + x) * 3 + c) * 2 + n)] ==
                ((n * 3 + c) * 2 + y) * 2 + x);
        }
      }
    }
  }
  CHECK(ours.at("fc.weight").shape == Shape{3, 2});
  CHECK(ours.at("fc.weight").values == std::vector<float>{0, 3, 1, 4, 2, 5});
  CHECK(ours.at("fc.bias").values == bias.values);
}

TEST_CASE("torchvision: there and back, and our own layout is not taken for torchvision's") {
  for (const char* kind : {"resnet18", "resnet50", "resnet34"}) {
    CAPTURE(std::string(kind));
    train::Config config = narrow(kind);
    if (config.model.kind == "resnet34") config.model.channels = 4;  // as many as conv1 makes
    const train::Model model(config, false);
    const SourceTensors ours = weights_of(model), theirs = train::to_torchvision(ours);
    CHECK(train::has_torchvision_layout(theirs));
    CHECK_FALSE(train::has_torchvision_layout(ours));
    CHECK(theirs.at("conv1.weight").shape == Shape{4, config.model.channels, 3, 3});
    const SourceTensors back = train::from_torchvision(theirs);
    CHECK(back.size() == ours.size());
    for (const auto& entry : ours) {
      CHECK(back.at(entry.first).shape == entry.second.shape);
      CHECK(back.at(entry.first).values == entry.second.values);
    }
  }
  // A vision transformer's are neither.
  CHECK_FALSE(train::has_torchvision_layout({{"stem.patch.weight", {{2, 2}, {1, 2, 3, 4}}}}));
}
