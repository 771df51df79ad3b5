#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/model_fixture.h"
#include "tests/train/golden_file.h"
#include "train/model.h"
#include "train/objective.h"
#include "train/optimizer.h"
#include "train/safetensors.h"
#include "train/schedule.h"

// Whole V-MoEs, forward, backward and five updates, against an implementation of its own in
// PyTorch, whose numbers lie in tests/golden (tests/reference/golden_vmoe.py writes them).
using namespace engine::test;
using engine::Shape;
using engine::Slab;
using engine::Tensor;
using train::Config;
using train::SafetensorsFile;
using train::test::config_of;
using train::test::golden_files;
using train::test::integers;
using train::test::numbers;

namespace {

constexpr int64_t kUpdates = 5;

// One model of a golden file, in f32 or f64, on the file's batch and with its random numbers.
template <class T>
class Replay {
 public:
  Replay(const SafetensorsFile& file, const Config& config)
      : file_(file),
        config_(config),
        model_(train::vmoe_config(config), engine::dtype_of<T>()),
        objective_(config) {
    for (const auto& entry : model_.store.entries()) {
      set_param(model_.store, entry.path, numbers(file, "param." + entry.path));
    }
    images_ = converted("images");
    labels_ = integers(file, "labels");
    if (objective_.compares_pairs()) match_ = integers(file, "match");
    for (const int64_t layer : train::moe_layer_indices(config)) {
      if (config.moe.noise_std > 0) noise_.push_back(converted("noise." + std::to_string(layer)));
    }
  }

  // Forward and backward; gradients start from zero.
  void run() {
    const auto views = static_cast<int64_t>(labels_.size());
    const moe::VmoeConfig& c = model_.model.config();
    engine::StepArena arena;
    engine::Tape tape(arena);
    std::vector<int64_t> ids(labels_.size());
    nn::Forward f{.tape = tape, .mode = nn::Mode::kTrain, .sample_ids = ids};
    std::vector<moe::RoutingRandom> random(noise_.size());
    for (size_t i = 0; i < noise_.size(); ++i) {
      const int64_t tokens = views * c.vit.tokens();
      random[i].noise = view(noise_[i], {tokens, static_cast<int64_t>(noise_[i].size()) / tokens});
    }
    const Shape shape{views, c.vit.channels, c.vit.image_size, c.vit.image_size};
    moe::ModelOutput out;
    model_.model.forward(f, tape.input(view(images_, shape)), out, random);
    const Tensor match = match_.empty() ? Tensor{} : view(match_, {views / 2, c.vit.patches()});
    const Tensor loss = objective_.loss(f, out, view(labels_, {views}), match, views, terms);
    model_.store.zero(Slab::kGrad);
    const std::vector<T> one = {1};
    tape.backward(loss, view(one, {1}));
    logits = f64_of(out.logits);
    chosen.clear();
    for (const moe::Routing& r : out.routings) chosen.push_back(copy_of<int32_t>(r.expert));
  }

  void update() {
    train::Optimizer optimizer(config_, model_.store);
    for (int64_t t = 0; t < kUpdates; ++t) {
      run();
      optimizer.step(t, train::learning_rate(config_.schedule, t, kUpdates),
                     optimizer.gradient_norm());
    }
  }

  const engine::ParamStore& params() const { return model_.store; }
  train::LossTerms terms;
  naive::Vec logits;
  std::vector<std::vector<int32_t>> chosen;

 private:
  std::vector<T> converted(const std::string& name) const {
    const std::vector<double> v = numbers(file_, name);
    return {v.begin(), v.end()};
  }

  const SafetensorsFile& file_;
  Config config_;
  Bound<moe::Vmoe> model_;
  train::Objective objective_;
  std::vector<T> images_;
  std::vector<int32_t> labels_, match_;
  std::vector<std::vector<T>> noise_;
};

// Parameters or gradients against the file's. The gradient of a key bias is zero but for
// rounding, so it must only be small, and an update by Adam is not compared.
template <class T>
void check_params(const SafetensorsFile& file, const engine::ParamStore& store, Slab slab,
                  const std::string& prefix, double tolerance) {
  for (const auto& entry : store.entries()) {
    INFO(prefix, entry.path);
    naive::Vec got = f64_of(store.view(entry, slab)), want = numbers(file, prefix + entry.path);
    if (entry.path.ends_with("qkv.bias")) {
      const auto third = static_cast<int64_t>(got.size()) / 3;
      double key = 0, largest = 0;
      for (int64_t i = 0; i < 3 * third; ++i) {
        double& most = i / third == 1 ? key : largest;
        most = std::max(most, std::abs(got[i]));
      }
      if (slab == Slab::kGrad) CHECK(key <= 1e-6 * largest);
      for (naive::Vec* v : {&got, &want}) {
        v->erase(v->begin() + third, v->begin() + 2 * third);
      }
    }
    CHECK(error_of(got, want) <= tolerance);
  }
}

// A term that the file has no number of is zero here.
void check_term(const SafetensorsFile& file, const std::string& name, double got,
                double tolerance) {
  INFO(name);
  if (file.find(name) == nullptr) {
    CHECK(got == 0);
  } else {
    CHECK(error_of(got, numbers(file, name)[0]) <= tolerance);
  }
}

template <class T>
void check_file(const SafetensorsFile& file, double tolerance) {
  INFO(file.path(), ": ", file.metadata().at("about"));
  const Config config = config_of(file);
  Replay<T> replay(file, config);
  replay.run();
  CHECK(error_of(replay.logits, numbers(file, "logits")) <= tolerance);
  const std::vector<int64_t> layers = train::moe_layer_indices(config);
  for (size_t l = 0; l < layers.size(); ++l) {
    if (config.moe.chooser == "soft") continue;  // nothing is chosen
    CHECK(replay.chosen[l] == integers(file, "chosen." + std::to_string(layers[l])));
  }
  const train::LossTerms& t = replay.terms;
  const Config::Moe& moe = config.moe;
  const auto unweighted = [](double term, double weight) { return weight > 0 ? term / weight : 0; };
  check_term(file, "loss.total", t.total, tolerance);
  check_term(file, "loss.cross_entropy", t.cross_entropy, tolerance);
  check_term(file, "loss.importance", unweighted(t.importance, moe.importance_weight), tolerance);
  check_term(file, "loss.load", unweighted(t.load, moe.load_weight), tolerance);
  check_term(file, "loss.gshard", unweighted(t.gshard, moe.gshard_weight), tolerance);
  check_term(file, "loss.entropy", unweighted(t.entropy, moe.entropy_weight), tolerance);
  check_term(file, "loss.prc", t.prc, tolerance);
  check_term(file, "loss.prc_diagonal", t.prc_diagonal, tolerance);
  check_term(file, "loss.prc_off_diagonal", t.prc_off_diagonal, tolerance);
  check_params<T>(file, replay.params(), Slab::kGrad, "grad.", tolerance);
  for (const std::string name : {"adam", "sgd"}) {
    Replay<T> updated(file, config_of(file, "optimizer.name=" + name));
    updated.update();
    check_params<T>(file, updated.params(), Slab::kValue, name + ".", tolerance);
  }
}

}  // namespace

TEST_CASE("golden: V-MoEs in f64 and f32 equal those of PyTorch") {
  const std::vector<std::string> paths = golden_files("vmoe-");
  CHECK(paths.size() >= 17);
  for (const std::string& path : paths) {
    const SafetensorsFile file(path);
    check_file<double>(file, 1e-9);
    check_file<float>(file, 1e-4);
  }
}
