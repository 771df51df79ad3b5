#include "train/audit/noise_path.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"
#include "train/audit/noise_direction.h"

using train::test::contains;
using train::test::error_of;
using train::test::SmallModel;

namespace {

constexpr const char* kData = "shapes:size=16,train=20,test=6";

// A patch's experts, sorted, at one place on the way.
std::vector<int32_t> set_at(const moe::Routing& r, int64_t token) {
  const int32_t* row = r.expert.data<const int32_t>() + token * r.top_k;
  std::vector<int32_t> set(row, row + r.top_k);
  std::ranges::sort(set);
  return set;
}

}  // namespace

TEST_CASE("noise path: against every step by itself") {
  SmallModel small(kData, {});
  train::Inference inference(*small.model.network);
  data::LoaderOptions options = train::evaluation_loader(small.config);
  options.batch = 4;  // the second batch has two
  data::Loader loader = data::Loader::evaluation(*small.test, options);
  train::NoisePath path(small.config, 3, 8, 0.8);
  double mean = 0, largest = 0, changes[2] = {0, 0}, square = 0;
  std::vector<float> directions, noisy;
  while (const data::Batch* batch = loader.next()) {
    path.add(inference, *batch);
    train::draw_directions(small.config, 3, *batch, directions);
    for (int64_t b = 0; b < batch->views; ++b) {
      double sum = 0, most = 0;
      std::vector<double> before;
      std::vector<std::vector<int32_t>> sets;
      for (int step = 0; step <= 8; ++step) {
        train::add_noise(batch->pixels, 0.8 * step / 8, directions, noisy);
        const engine::Tensor all(noisy.data(), {batch->views, 3, 16, 16}, engine::Dtype::kF32,
                                 engine::Device::kCpu);
        const moe::ModelOutput& out = inference.run(all);
        const float* logits = out.logits.data<const float>() + b * 10;
        double d = 0;
        for (size_t c = 0; c < before.size(); ++c) d += std::pow(logits[c] - before[c], 2);
        sum += std::sqrt(d) / 8;
        most = std::max(most, std::sqrt(d));
        before.assign(logits, logits + 10);
        std::vector<std::vector<int32_t>> now;
        for (const moe::Routing& r : out.routings) {
          for (int64_t t = 1; t < 17; ++t) now.push_back(set_at(r, b * 17 + t));
        }
        for (size_t i = 0; i < sets.size(); ++i) {
          changes[i / 16] += now[i] != sets[i] ? 1.0 / 16 / 6 : 0;
        }
        sets = now;
      }
      mean += sum / 6;
      largest += most / 6;
      square += most * most;
    }
  }
  const train::NoisePathFigures f = path.figures();
  CHECK(f.n_images == 6);
  CHECK(f.mean_logit_step == doctest::Approx(mean).epsilon(1e-9));
  CHECK(f.largest_logit_step == doctest::Approx(largest).epsilon(1e-9));
  CHECK(f.largest_logit_step_se ==
        doctest::Approx(std::sqrt((square - 6 * largest * largest) / 30)).epsilon(1e-6));
  REQUIRE(f.set_changes.size() == 2);
  for (int l = 0; l < 2; ++l) {
    CHECK(f.set_changes[l] == doctest::Approx(changes[l]).epsilon(1e-9));
    CHECK(f.set_changes[l] > 0);
  }
}

TEST_CASE("noise path: a full mixture never changes its experts; wrong ways are refused") {
  SmallModel small(kData, {"moe.eval_top_k=4"});
  train::Inference inference(*small.model.network);
  data::Loader loader =
      data::Loader::evaluation(*small.test, train::evaluation_loader(small.config));
  train::NoisePath path(small.config, 1, 4, 1);
  path.add(inference, *loader.next());
  CHECK(path.figures().set_changes == std::vector<double>{0, 0});
  CHECK(path.figures().mean_logit_step > 0);
  for (const auto& way : {std::pair{0, 0.2}, {4, 0.0}, {4, -1.0}}) {
    CHECK(contains(error_of(engine::ErrorKind::kValue,
                            [&] { train::NoisePath(small.config, 1, way.first, way.second); }),
                   "at least one step"));
  }
}
