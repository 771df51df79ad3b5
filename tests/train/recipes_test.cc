#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "engine/core/error.h"
#include "train/config.h"
#include "train/config_fields.h"
#include "train/recipe.h"

using train::Config;

namespace {

// The keys whose values differ.
std::vector<std::string> differences(Config a, Config b) {
  const std::vector<train::Field> in_a = train::fields(a), in_b = train::fields(b);
  std::vector<std::string> keys;
  for (size_t i = 0; i < in_a.size(); ++i)
    if (train::toml_value(in_a[i]) != train::toml_value(in_b[i])) keys.push_back(in_a[i].key);
  return keys;
}

}  // namespace

TEST_CASE("recipes: all are there") {
  const std::vector<std::string> names = {"cifar10-hour-dense",
                                          "cifar10-hour-prc",
                                          "cifar10-hour-vmoe",
                                          "cifar10-small-prc",
                                          "cifar10-small-vmoe",
                                          "cifar100-resnet18-blockmoe-pgd",
                                          "cifar100-resnet18-blockmoe",
                                          "cifar100-resnet18-convmoe-pgd",
                                          "cifar100-resnet18-convmoe",
                                          "cifar100-resnet18-pgd",
                                          "cifar100-resnet18",
                                          "cifar100-resnet50-blockmoe-pgd",
                                          "cifar100-resnet50-blockmoe",
                                          "cifar100-resnet50-convmoe-pgd",
                                          "cifar100-resnet50-convmoe",
                                          "cifar100-resnet50-pgd",
                                          "cifar100-resnet50",
                                          "prc-s32-ft-cifar10",
                                          "prc-s32-ft-cifar100",
                                          "prc-s32-ft-flowers",
                                          "prc-s32-ft-imagenet",
                                          "prc-s32-imagenet-paper",
                                          "prc-s32-imagenet",
                                          "quick-blockmoe",
                                          "quick-convmoe",
                                          "quick-prc",
                                          "quick-resnet",
                                          "quick-vmoe",
                                          "vmoe-s32-ft-cifar10",
                                          "vmoe-s32-ft-cifar100",
                                          "vmoe-s32-ft-flowers",
                                          "vmoe-s32-ft-imagenet",
                                          "vmoe-s32-imagenet"};
  CHECK(train::recipe_names() == names);
}

TEST_CASE("recipes: each loads, is valid and survives being written") {
  for (const train::Recipe& recipe : train::embedded_recipes()) {
    const std::string name(recipe.name);
    CAPTURE(name);
    const Config config = train::load_config(name);
    CHECK(config.recipe == name);
    train::validate(config);
    const bool mixed = name.find("moe") != std::string::npos;
    const bool dense =
        name.ends_with("-dense") || (name.find("resnet") != std::string::npos && !mixed);
    CHECK(train::moe_layer_indices(config).empty() == dense);
    CHECK(train::recipe_summary(recipe).size() > 20);
    CHECK(train::recipe_comment(recipe).ends_with("\n"));
    for (const bool with_docs : {false, true}) {
      const std::string text = train::to_toml(config, with_docs);
      const Config read = train::parse_config(text, name, train::Origin::kFile);
      train::validate(read);
      CHECK(differences(config, read).empty());
      CHECK(read.recipe == name);
      CHECK(train::config_hash(read) == train::config_hash(config));
      CHECK(train::to_toml(read, with_docs) == text);
    }
    for (const auto& entry : config.sources) {
      CAPTURE(entry.first);
      CHECK(entry.second.origin == train::Origin::kRecipe);
      CHECK_FALSE(config.by_hand(entry.first));
    }
  }
}

TEST_CASE("recipes: a pair differs in its loss terms only") {
  const std::vector<std::string> loss_terms = {"moe.importance_weight", "moe.load_weight",
                                               "prc.form"};
  CHECK(differences(train::load_config("quick-vmoe"), train::load_config("quick-prc")) ==
        loss_terms);
  CHECK(differences(train::load_config("cifar10-small-vmoe"),
                    train::load_config("cifar10-small-prc")) == loss_terms);
  CHECK(differences(train::load_config("cifar10-hour-vmoe"),
                    train::load_config("cifar10-hour-prc")) == loss_terms);
}

TEST_CASE("recipes: the dense twin has as many active multiplications as the V-MoE") {
  const Config sparse = train::load_config("cifar10-hour-vmoe");
  const Config dense = train::load_config("cifar10-hour-dense");
  const int64_t with_experts = static_cast<int64_t>(train::moe_layer_indices(sparse).size());
  const int64_t layers = sparse.model.layers - with_experts + with_experts * sparse.moe.top_k;
  CHECK(dense.model.mlp * dense.model.layers == sparse.model.mlp * layers);
  CHECK(differences(sparse, dense) == std::vector<std::string>{"model.mlp", "moe.layers",
                                                               "moe.importance_weight",
                                                               "moe.load_weight"});
}

TEST_CASE("recipes: the published ones have the published values") {
  for (const char* name : {"vmoe-s32-imagenet", "prc-s32-imagenet"}) {
    const Config config = train::load_config(name);
    CHECK(config.model.width == 512);
    CHECK(config.model.mlp == 2048);
    CHECK(config.model.heads == 8);
    CHECK(config.model.layers == 8);
    CHECK(train::moe_layer_indices(config) == std::vector<int64_t>{5, 7});
    CHECK(config.sources.at("model.width").note == "model.size S");
  }
  const Config prc = train::load_config("prc-s32-imagenet");
  CHECK(prc.schedule.peak == 7.5e-4);  // of the fork, not its base recipe's 3e-3
  CHECK(prc.moe.importance_weight == 0);
  CHECK(prc.sources.at("prc.lambda_off").note == "fork: prc_ilsvrc2012_full.py; paper Table 1");
}

TEST_CASE("recipes: fine-tuning has the published values, not those of the pre-training") {
  struct Case {
    const char* name;
    int64_t image_size, steps;
    double peak, end, area_max;
    const char* train_split;
    bool two_view;
  };
  for (const Case& c : {
           Case{"vmoe-s32-ft-imagenet", 384, 10000, 3e-3, 1e-5, 1, "train[:99%]", false},
           Case{"vmoe-s32-ft-cifar10", 128, 1000, 1.5e-3, 1e-5, 1, "train[:98%]", false},
           Case{"vmoe-s32-ft-cifar100", 128, 2000, 5e-3, 1e-5, 1, "train[:98%]", false},
           Case{"vmoe-s32-ft-flowers", 128, 2000, 5e-3, 1e-5, 1, "train", false},
           Case{"prc-s32-ft-flowers", 128, 10000, 3e-3, 1e-5, 0.7, "train", true},
           Case{"prc-s32-ft-imagenet", 384, 5000, 4.5e-3, 1.5e-5, 0.7, "train[:99%]", true},
           Case{"prc-s32-ft-cifar100", 128, 5000, 3e-3, 1e-5, 0.7, "train[:98%]", true},
           Case{"prc-s32-ft-cifar10", 128, 5000, 3e-3, 1e-5, 0.7, "train[:98%]", true},
       }) {
    CAPTURE(c.name);
    const Config config = train::load_config(c.name);
    CHECK(config.model.image_size == c.image_size);
    CHECK(config.train.steps == c.steps);
    CHECK(config.schedule.peak == c.peak);
    CHECK(config.schedule.end == c.end);
    CHECK(config.augment.area_max == c.area_max);
    CHECK(config.data.train_split == c.train_split);
    CHECK(config.data.two_view == c.two_view);
    CHECK(config.prc.form == (c.two_view ? "fork" : "none"));
    CHECK(config.moe.importance_weight == (c.two_view ? 0 : 0.005));
    CHECK(config.optimizer.name == "sgd");
    CHECK(config.optimizer.weight_decay == 0);
    CHECK(config.optimizer.clip == 10);
    CHECK(config.schedule.kind == "cosine");
    CHECK(config.train.loss == "softmax");
    CHECK(config.train.batch == 1024);
    CHECK(config.moe.expert_dropout == 0);
    CHECK(config.moe.capacity_factor == 1.5);
    CHECK(config.moe.eval_capacity_factor == 1.5);
    CHECK(config.augment.randaugment == "none");
    CHECK(config.augment.mixup == 0);
    CHECK_FALSE(config.model.pre_logits);
    CHECK(config.eval.shorter == 0);
  }
}

TEST_CASE("recipes: an unknown name") {
  try {
    train::load_config("quick-vmo");
    FAIL("loaded");
  } catch (const engine::Error& error) {
    CHECK(error.kind() == engine::ErrorKind::kValue);
    CHECK(error.message().find("the nearest is quick-vmoe") != std::string::npos);
    CHECK(error.message().find("prc-s32-imagenet") != std::string::npos);
  }
}
