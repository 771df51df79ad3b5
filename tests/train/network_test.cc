#include "train/network.h"

#include <doctest/doctest.h>

#include <string>

#include "tests/support/tensors.h"
#include "train/memory_plan.h"
#include "train/model.h"
#include "train/recipe.h"

using engine::ErrorKind;
using engine::test::caught;
using train::Config;

namespace {

Config resnet(const std::string& assignments = "") {
  Config config;
  std::string rest =
      "model.kind=resnet18 moe.layers=none model.channels=3 model.classes=10 "
      "train.steps=1 " +
      assignments;
  for (size_t space = 0; (space = rest.find(' ')) != std::string::npos;) {
    if (space > 0) train::set_value(config, rest.substr(0, space));
    rest.erase(0, space + 1);
  }
  if (!rest.empty()) train::set_value(config, rest);
  return config;
}

}  // namespace

TEST_CASE("network: a config names the network and its size") {
  CHECK(train::count_parameters(resnet()) == 11'173'962);
  CHECK(train::build_network(resnet())->cost_per_image().done() == 555'422'720);
  CHECK(train::build_network(resnet("model.image_size=64"))->cost_per_image().done() ==
        int64_t{4} * (555'422'720 - 5120) + 5120);
  CHECK(train::count_parameters(resnet("model.kind=resnet50 model.stem=imagenet "
                                       "model.classes=1000")) == 25'557'032);
  CHECK(train::count_parameters(resnet("model.first_width=16")) < 11'173'962 / 15);
  CHECK_FALSE(train::build_network(resnet())->has_experts());
  CHECK(train::build_network(resnet())->dependent_images() == 0);
  CHECK(train::build_network(resnet("train.precision=bf16"))->precision() ==
        engine::Precision::kBf16);
}

TEST_CASE("network: what is asked of the other kind is refused in one line") {
  CHECK(caught([] { train::vmoe_config(resnet()); }).is(ErrorKind::kValue, {"resnet18"}));
  CHECK(caught([] { train::resnet_config(Config{}); }).is(ErrorKind::kValue, {"vit"}));
  CHECK(caught([] {
          train::validate(resnet("moe.layers=1,3"));
        }).is(ErrorKind::kValue, {"moe.layers = \"1,3\"", "resnet18", "blocks layer4"}));
  CHECK(caught([] {
          resnet("model.kind=resnet19");
        }).is(ErrorKind::kValue, {"model.kind", "resnet19", "resnet18"}));
  train::validate(resnet("model.image_size=30"));  // patches are no concern of it
  CHECK(caught([] {
          train::validate(resnet("data.two_view=true"));
        }).is(ErrorKind::kValue, {"data.two_view", "resnet18"}));
  CHECK(caught([] {
          train::validate(resnet("train.batch=1 model.stem=imagenet"));
        }).is(ErrorKind::kValue, {"train.batch = 1", "variance"}));
  CHECK(caught([] {
          train::validate(resnet("train.batch=4 train.micro_batch=1 model.image_size=8"));
        }).is(ErrorKind::kValue, {"train.micro_batch = 1", "model.image_size = 8"}));
  train::validate(resnet("train.batch=1"));  // 4 x 4 pixels are left
}

TEST_CASE("network: the memory plan of a residual network is near what its steps take") {
  // Counted by hand: outputs of 20 convolutions and their norms, 16 x 32 x 32 x 64 in stage one.
  const Config config = resnet("train.batch=100");
  const train::MemoryPlan plan = train::plan_memory(config, train::count_parameters(config));
  const double stages = 2 * (5 * 65536 + 5 * 32768 + 5 * 16384 + 5 * 8192);
  CHECK(plan.weights == 4 * 11'173'962);
  CHECK(plan.activations == doctest::Approx(400 * (stages + 4 * 65536 + 3072)).epsilon(1e-6));
  CHECK(plan.evaluation == doctest::Approx(4 * 256 * (stages + 3072)).epsilon(1e-6));
  CHECK(plan.moe == 0);
}
