#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "nn/resnet.h"
#include "tests/support/model_fixture.h"
#include "tests/support/sanitized.h"
#include "tests/train/golden_file.h"

// Residual networks of the Python package torchvision (tests/reference/golden_resnet.py).
using namespace engine::test;
using engine::Shape;
using engine::Slab;
using engine::Tensor;
using train::SafetensorsFile;

namespace {

// The script's numbers u of a name.
naive::Vec formula(const std::string& name, int64_t count) {
  return values<double>(count, nn::hash_path(name));
}

void fill(engine::ParamStore& params) {
  for (const auto& entry : params.entries()) {
    naive::Vec v = formula(entry.path, entry.shape.numel());
    const Shape& s = entry.shape;
    double factor = 0.5, offset = 0;
    if (s.rank() == 4) {
      factor = std::sqrt(6 / static_cast<double>(s[0] * s[1] * s[3]));
    } else if (s.rank() == 2) {
      factor = 3 / std::sqrt(static_cast<double>(s[0]));
    } else if (entry.path.ends_with("running_var") || entry.path.ends_with("weight")) {
      offset = 1;
    }
    for (double& x : v) x = offset + factor * x;
    set_param(params, entry.path, v);
  }
}

// Norm and 64 numbers, as the script keeps them.
naive::Vec sample(const naive::Vec& v) {
  const size_t n = v.size(), count = std::min<size_t>(64, n);
  naive::Vec out = {0};
  for (const double x : v) out[0] += x * x;
  out[0] = std::sqrt(out[0]);
  for (size_t i = 0; i < count; ++i) out.push_back(v[i * n / count]);
  return out;
}

// Samples of the parameters' gradients or of the running statistics.
naive::Params samples_of(const engine::ParamStore& store, bool statistics) {
  naive::Params out;
  for (const auto& entry : store.entries()) {
    if (entry.trainable == statistics) continue;
    out[entry.path] = sample(f64_of(store.view(entry, statistics ? Slab::kValue : Slab::kGrad)));
  }
  return out;
}

struct Result {
  naive::Vec logits, dimages;
  naive::Params grads, before, after;  // samples; of statistics before and after
};

template <class T>
Result run(const SafetensorsFile& file, nn::Mode mode) {
  nn::ResnetConfig config = nn::named_resnet(file.metadata().at("model"));
  config.small_inputs = file.metadata().at("small") == "true";
  config.classes = std::stoll(file.metadata().at("classes"));
  const int64_t size = std::stoll(file.metadata().at("size"));
  Bound<nn::Resnet> bound(config, engine::dtype_of<T>());
  fill(bound.store);
  Result result;
  result.before = samples_of(bound.store, true);
  const int64_t batch = file.find("logits.train")->shape[0];
  const auto as = [](const naive::Vec& v) { return std::vector<T>(v.begin(), v.end()); };
  const auto images = as(formula("images", batch * 3 * size * size));
  const auto cotangent = as(formula("cotangent", batch * config.classes));
  std::vector<T> dimages(images.size());
  engine::StepArena arena;
  engine::Tape tape(arena);
  nn::Forward f{.tape = tape, .mode = mode, .param_grads = mode == nn::Mode::kTrain};
  const Shape shape{batch, 3, size, size};
  const Tensor logits =
      bound.model.forward(f, tape.leaf(view(images, shape), view(dimages, shape)));
  result.logits = f64_of(logits);
  tape.backward(logits, view(cotangent, logits.shape()));
  result.dimages = f64_of(dimages);
  result.grads = samples_of(bound.store, false);
  result.after = samples_of(bound.store, true);
  return result;
}

// The largest error of the tensors `prefix`NAME, and how many there are.
struct Compared {
  WorstTensor worst;
  int64_t count = 0;
};
Compared compare(const SafetensorsFile& file, const std::string& prefix, const naive::Params& got) {
  Compared out;
  for (const auto& [name, v] : got) {
    if (file.find(prefix + name) == nullptr) continue;
    const double error = error_of(v, train::test::numbers(file, prefix + name));
    if (!(error <= out.worst.error)) out.worst = {error, name};
    ++out.count;
  }
  return out;
}

template <class T>
void check_file(const SafetensorsFile& file, double tolerance) {
  const Result train = run<T>(file, nn::Mode::kTrain), eval = run<T>(file, nn::Mode::kEval);
  CHECK(error_of(train.logits, train::test::numbers(file, "logits.train")) <= tolerance);
  CHECK(error_of(eval.logits, train::test::numbers(file, "logits.eval")) <= tolerance);
  CHECK(error_of(sample(eval.dimages), train::test::numbers(file, "eval.images")) <=
        10 * tolerance);
  CHECK(error_of(sample(train.dimages), train::test::numbers(file, "train.images")) <=
        10 * tolerance);
  const Compared grads = compare(file, "train.", train.grads);
  CHECK_MESSAGE(grads.worst.ok(10 * tolerance), grads.worst);
  const Compared after = compare(file, "after.", train.after);
  CHECK_MESSAGE(after.worst.ok(tolerance), after.worst);
  // Every tensor of the file was held against one of ours, and the other way round.
  CHECK(grads.count + after.count + 4 == static_cast<int64_t>(file.entries().size()));
  CHECK(grads.count + after.count == static_cast<int64_t>(train.grads.size() + train.after.size()));
  CHECK(eval.after == eval.before);
  CHECK(train.after != train.before);
}

}  // namespace

TEST_CASE("golden: logits, gradients and statistics of torchvision's residual networks") {
  const std::vector<std::string> paths = train::test::golden_files("resnet-");
  CHECK(paths.size() == 4);
  for (const std::string& path : paths) {
    CAPTURE(path);
    if (kSanitized && path.find("resnet18") == std::string::npos) continue;  // minutes, there
    check_file<double>(SafetensorsFile(path), 1e-9);
  }
}
