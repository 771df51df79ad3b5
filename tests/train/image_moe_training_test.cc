#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "moe/cnn/image_balance.h"
#include "tests/support/bits.h"
#include "tests/support/heap_counter.h"
#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"
#include "train/memory_plan.h"
#include "train/network.h"
#include "train/objective.h"
#include "train/train_step.h"

// Residual networks with mixtures of experts, from their settings to a training step.
using engine::ErrorKind;
using engine::Slab;
using engine::test::caught;
using engine::test::copy_of;
using train::Config;
using train::test::contains;

namespace {

using Settings = std::vector<std::string>;

const Settings kBlocks = {
    "model.kind=resnet18", "model.first_width=4", "moe.layers=blocks layer4",
    "moe.top_k=1",         "train.batch=16",      "optimizer.name=sgd",
    "schedule.peak=0.05",  "train.steps=100",     "optimizer.weight_decay=0.01",
    "optimizer.decay=all"};

Settings with(Settings settings, const Settings& more) {
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

struct Run {
  explicit Run(const Settings& settings)
      : data(data::open_dataset("shapes:size=16,train=64,test=16", data::Split::kTrain)),
        config(train::test::small_config(*data, settings)),
        model(config, true),
        step(config, model, 100),
        loader(*data, train::training_loader(config)) {}
  const train::StepResult& next() {
    const data::Batch* batch = loader.next();
    return step.run(*batch, batch->step);
  }

  std::unique_ptr<data::Dataset> data;
  Config config;
  train::Model model;
  train::TrainStep step;
  data::Loader loader;
};

void validated(const Settings& more) {
  const auto set = data::open_dataset("shapes:size=16,train=64,test=16", data::Split::kTrain);
  train::validate(train::test::small_config(*set, with(kBlocks, more)));
}

}  // namespace

TEST_CASE("image moe training: settings name what becomes a mixture") {
  const auto layers = [](const Settings& more) {
    const Run run(with(kBlocks, more));
    return run.model.network->moe_layer_names();
  };
  CHECK(layers({}) == Settings{"layer4.0", "layer4.1"});
  CHECK(layers({"moe.layers=blocks layer4.1"}) == Settings{"layer4.1"});
  CHECK(layers({"moe.layers=convs layer4"}).size() == 5);
  CHECK(layers({"moe.experts=1"}).empty());
  Config config;
  for (const std::string& s : kBlocks) train::set_value(config, s);
  for (const auto& [balance, noisy] : {std::pair{"none", false},
                                       {"entropy", false},
                                       {"switch", true},
                                       {"column-entropy", true},
                                       {"variance", true}}) {
    train::set_value(config, std::string("image_moe.balance=") + balance);
    CHECK(train::image_moe_config(config).noisy_selection == noisy);
  }
  train::set_value(config, "image_moe.noisy_selection=off");
  CHECK_FALSE(train::image_moe_config(config).noisy_selection);
  train::set_value(config, "image_moe.router=two-conv-gap");
  train::set_value(config, "image_moe.weight=plain");
  train::set_value(config, "moe.dispatch=capacity");
  train::set_value(config, "moe.capacity_factor=1.5");
  const moe::ImageMoeConfig c = train::image_moe_config(config);
  CHECK(c.router == moe::ImageRouterKind::kTwoConvGap);
  CHECK(c.weight == moe::GateWeight::kPlain);
  CHECK(c.capacity_factor == 1.5);
}

TEST_CASE("image moe training: what cannot be is one line") {
  struct Case {
    Settings settings;
    std::vector<std::string> parts;
  };
  for (const Case& c : {
           Case{{"moe.layers=blocks layer7"}, {"no block", "layer7", "layer1.0", "layer4.1"}},
           Case{{"moe.layers=convs bn1"}, {"no convolution", "bn1", "layer4.0.downsample.0"}},
           Case{{"moe.layers=blocks"}, {"moe.layers = \"blocks\"", "blocks layer4"}},
           Case{{"moe.layers=last 2"}, {"moe.layers = \"last 2\"", "resnet18"}},
           Case{{"moe.top_k=5", "image_moe.weight=plain"}, {"moe.top_k = 5", "moe.experts = 4"}},
           Case{{"moe.top_k=2"}, {"straight-through", "image_moe.weight=normalised"}},
           Case{{"moe.dispatch=capacity"}, {"capacity", "entropy", "moe.dispatch=dropless"}},
           Case{{"image_moe.grid=4"}, {"layer4.0", "4 x 4 pixels", "image_moe.grid=1"}},
           Case{{"image_moe.router=conv-gap"}, {"layer4.1", "conv-gap", "2 x 2"}},
           Case{{"moe.layers=blocks layer3", "model.stem=imagenet"}, {"layer3.0", "variance"}},
           Case{{"prc.form=paper"}, {"prc.form"}},
           Case{{"model.image_size=8"}, {"layer4.0", "one pixel", "variance"}},
           Case{{"image_moe.router=first-channels", "moe.experts=40"},
                {"layer4.0", "16 channels", "40 experts"}},
       }) {
    CAPTURE(c.settings[0]);
    const auto error = caught([&] { validated(c.settings); });
    CAPTURE(error.message);
    CHECK(error.is(ErrorKind::kValue, {}));
    for (const std::string& part : c.parts) CHECK_MESSAGE(contains(error.message, part), part);
    CHECK(error.message.find('\n') == std::string::npos);
  }
  validated({});
  validated({"moe.dispatch=capacity", "image_moe.balance=switch"});
  validated({"image_moe.grid=2", "model.image_size=32"});
  validated({"model.image_size=8", "moe.layers=blocks layer3"});
  validated({"model.image_size=8", "moe.layers=convs layer4"});
}

TEST_CASE("image moe training: the loss has the balance and spread terms of every layer") {
  for (const char* balance : {"switch", "entropy", "column-entropy", "variance", "none"}) {
    CAPTURE(balance);
    Run run(with(kBlocks, {std::string("image_moe.balance=") + balance,
                           "image_moe.balance_weight=0.25", "image_moe.spread_weight=2"}));
    const train::Objective objective(run.config);
    engine::StepArena arena;
    engine::Tape tape(arena);
    nn::Forward f{.tape = tape};
    const data::Batch* batch = run.loader.next();
    moe::ModelOutput out;
    run.model.network->forward(f, tape.input(train::pixels_of(*batch, run.config)), out);
    train::LossTerms terms;
    objective.loss(f, out, train::labels_of(*batch), {}, 16, terms);
    using moe::ImageBalance;
    const std::string name = balance;
    const ImageBalance kind = name == "switch"           ? ImageBalance::kSwitch
                              : name == "column-entropy" ? ImageBalance::kColumnEntropy
                              : name == "variance"       ? ImageBalance::kVariance
                                                         : ImageBalance::kEntropy;
    double want = 0, spread = 0;
    for (const moe::Routing& r : out.routings) {
      want += 0.25 * copy_of<float>(moe::image_balance_loss(r.clean, kind))[0];
      spread += 2 * copy_of<float>(moe::expert_spread_loss(r.outputs, r.offset))[0];
    }
    CHECK(terms.balance == doctest::Approx(name == "none" ? 0 : want).epsilon(1e-5));
    CHECK(terms.spread == doctest::Approx(spread).epsilon(1e-5));
    CHECK(terms.importance == 0);  // of vision transformers
    CHECK(terms.total ==
          doctest::Approx(terms.cross_entropy + terms.balance + terms.spread).epsilon(1e-6));
  }
}

TEST_CASE("image moe training: steps reach routers and experts, and allocate nothing when warm") {
  for (const Settings& more :
       {Settings{}, Settings{"moe.layers=convs layer4"},
        Settings{"image_moe.balance=switch", "moe.top_k=2", "image_moe.weight=normalised",
                 "image_moe.grid=2", "model.image_size=32"}}) {
    Run run(with(kBlocks, more));
    const auto before = copy_of<float>(run.model.params.slab(Slab::kValue));
    std::map<std::string, int64_t> served;  // by path of an expert
    for (int i = 0; i < 3; ++i) {
      for (const train::LayerLoad& layer : run.next().layers) {
        for (size_t e = 0; e < layer.tokens.size(); ++e) {
          served[layer.name + ".experts." + std::to_string(e) + "."] += layer.tokens[e];
        }
      }
    }
    int64_t looked_at = 0;
    for (const auto& entry : run.model.params.entries()) {
      if (!entry.trainable) continue;
      const auto now = copy_of<float>(run.model.params.view(entry, Slab::kValue));
      const bool moved = !std::equal(now.begin(), now.end(), before.begin() + entry.offset);
      const bool taught = std::ranges::any_of(served, [&](const auto& expert) {
        return entry.path.starts_with(expert.first) && expert.second > 0;
      });
      if (!taught && !contains(entry.path, "router")) continue;
      CHECK_MESSAGE(moved, entry.path);
      ++looked_at;
    }
    CHECK(looked_at > 8);
    const train::StepResult& result = run.next();
    for (const train::LayerLoad& layer : result.layers) {
      int64_t taken = 0;
      for (const int64_t n : layer.tokens) taken += n;
      CHECK(taken == layer.choices);
      CHECK(contains(layer.name, "layer4."));
    }
    if (!engine::test::HeapCounter::available()) continue;
    const data::Batch* batch = run.loader.next();
    run.step.run(*batch, 4);
    const engine::test::HeapCounter heap;
    run.step.run(*batch, 5);
    CHECK(heap.count() == 0);
  }
}

TEST_CASE("image moe training: training chooses by noisy scores, evaluation does not") {
  Run run(with(kBlocks, {"image_moe.balance=switch"}));
  const data::Batch* batch = run.loader.next();
  engine::StepArena arena;
  engine::Tape tape(arena);
  std::vector<int64_t> ids(16);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i);
  moe::ModelOutput out;
  for (const nn::Mode mode : {nn::Mode::kTrain, nn::Mode::kEval}) {
    nn::Forward f{.tape = tape, .mode = mode, .sample_ids = ids};
    run.model.network->forward(f, tape.input(train::pixels_of(*batch, run.config)), out);
    const bool noisy = mode == nn::Mode::kTrain;
    CHECK((copy_of<float>(out.routings[0].gates) != copy_of<float>(out.routings[0].clean)) ==
          noisy);
    CHECK(out.routings[0].sigma == (noisy ? 0.1 : 0));
  }
}
