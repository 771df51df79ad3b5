#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/support/model_fixture.h"
#include "tests/train/golden_file.h"
#include "train/init/rules.h"
#include "train/init/timm_names.h"
#include "train/model.h"

// Vision transformers of the Python package timm, with its logits (tests/reference/golden_timm.py).
using namespace engine::test;
using engine::Shape;
using train::Config;
using train::SafetensorsFile;
using train::SourceTensors;

namespace {

// What the file's weights, given to `model`, make of the file's images.
template <class T>
naive::Vec logits_of(const SafetensorsFile& file, const train::Model& model) {
  const std::vector<float> read = train::read_source(file.path()).at("golden.images").values;
  const std::vector<T> images(read.begin(), read.end());
  engine::StepArena arena;
  engine::Tape tape(arena);
  nn::Forward f{.tape = tape, .mode = nn::Mode::kEval, .param_grads = false};
  moe::ModelOutput out;
  model.network->forward(f, tape.input(view(images, file.find("golden.images")->shape)), out);
  return f64_of(out.logits);
}

SourceTensors weights_of(const std::string& path) {
  SourceTensors source = train::read_source(path);
  std::erase_if(source, [](const auto& entry) { return entry.first.starts_with("golden."); });
  return source;
}

}  // namespace

TEST_CASE("golden: logits of timm's vision transformers, attention packed and split") {
  const std::vector<std::string> paths = train::test::golden_files("timm-");
  CHECK(paths.size() == 4);
  for (const std::string& path : paths) {
    CAPTURE(path);
    const SafetensorsFile file(path);
    const Config config = train::test::config_of(file);
    const naive::Vec want = train::test::numbers(file, "golden.logits");
    const SourceTensors timm = weights_of(path), ours = train::from_timm(timm);
    train::Model model(config, false);
    train::init_from(ours, {}, model.params);
    CHECK(error_of(logits_of<float>(file, model), want) <= 1e-5);

    train::Model exact(config, false, engine::Dtype::kF64);
    for (const auto& [name, tensor] : ours) {
      set_param(exact.params, name, f64_of(tensor.values));
    }
    CHECK(error_of(logits_of<double>(file, exact), want) <= 1e-12);

    // What we export is what timm wrote.
    const SourceTensors back = train::to_timm(ours, config);
    if (timm.count("blocks.0.attn.qkv.weight") == 0) continue;
    CHECK(back.size() == timm.size());
    for (const auto& [name, tensor] : timm) {
      REQUIRE(back.count(name) == 1);
      CHECK(back.at(name).shape == tensor.shape);
      CHECK(back.at(name).values == tensor.values);
    }
  }
}

TEST_CASE("golden: another GELU or other heads are not timm's logits") {
  const std::string path = ROBUSTMOE_SOURCE_DIR "/tests/golden/timm-token.safetensors";
  const SafetensorsFile file(path);
  const naive::Vec want = train::test::numbers(file, "golden.logits");
  for (const char* other : {"model.gelu=tanh", "model.heads=2"}) {
    CAPTURE(std::string(other));
    train::Model model(train::test::config_of(file, other), false);
    train::init_from(train::from_timm(weights_of(path)), {}, model.params);
    CHECK(error_of(logits_of<float>(file, model), want) > 1e-4);
  }
}
