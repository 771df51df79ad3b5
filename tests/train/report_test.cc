#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "engine/core/rng.h"
#include "tests/support/bits.h"
#include "tests/train/audit_dump.h"
#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"
#include "train/audit/audit.h"
#include "train/predict/predict.h"
#include "train/report/base64.h"
#include "train/report/chosen_images.h"
#include "train/report/noise_routes.h"
#include "train/report/run_history.h"
#include "train/report/view_pairs.h"

using engine::ErrorKind;
using nlohmann::json;
using train::NoiseRoutes;
using train::ViewPairs;
using train::test::contains;
using train::test::Dump;
using train::test::error_of;
using train::test::put;
using train::test::SmallModel;
using train::test::TempFolder;

namespace {

constexpr const char* kData = "shapes:size=16,train=20,test=40";
const std::vector<int64_t> kChosen = {0, 7, 21, 39};

std::string base64_of_text(const std::string& text) {
  return train::base64({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

}  // namespace

TEST_CASE("base64: the examples of RFC 4648, and bytes beyond ASCII") {
  CHECK(base64_of_text("").empty());
  CHECK(base64_of_text("f") == "Zg==");
  CHECK(base64_of_text("fo") == "Zm8=");
  CHECK(base64_of_text("foo") == "Zm9v");
  CHECK(base64_of_text("foobar") == "Zm9vYmFy");
  CHECK(train::base64_of(std::vector<uint8_t>{0xfb, 0xff, 0xfe}) == "+//+");
  CHECK(train::base64_of(std::vector<int16_t>{1, -1}) == "AQD//w==");
}

TEST_CASE("report: images are spread over the whole set") {
  CHECK(train::spread_images(10, 3) == std::vector<int64_t>{0, 3, 6});
  CHECK(train::spread_images(3, 10) == std::vector<int64_t>{0, 1, 2});
  CHECK(train::spread_images(0, 10).empty());
}

TEST_CASE("report: routes under noise are those that the audit saw") {
  const TempFolder folder;
  const SmallModel small(kData, {});
  const train::AuditOptions options{
      .seed = 5, .noise_sigmas = {0.25, 0.5}, .dump_path = folder / "dump.safetensors"};
  train::audit_model(*small.model.network, small.config, *small.test, options);
  const Dump dump(options.dump_path);
  train::Inference inference(*small.model.network);
  const NoiseRoutes routes =
      train::follow_noise(inference, small.config, *small.test, kChosen, 5, 3, 0.5);
  REQUIRE(routes.sigmas == std::vector<double>{0, 0.25, 0.5});
  const auto& top1 = dump.columns.at("sweep.top1");
  const auto& predicted = dump.columns.at("sweep.prediction");
  int64_t flips = 0;
  for (size_t level = 0; level < 3; ++level) {
    for (size_t k = 0; k < kChosen.size(); ++k) {
      const auto image = static_cast<size_t>(kChosen[k]);
      const double* p = routes.probabilities.data() + (level * kChosen.size() + k) * 10;
      CHECK(std::max_element(p, p + 10) - p == predicted[level * 40 + image]);
      for (size_t l = 0; l < 2; ++l) {
        for (size_t patch = 0; patch < 16; ++patch) {
          const size_t cell = (level * kChosen.size() + k) * 16 + patch;
          const int32_t first = routes.layers[l].experts_of[2 * cell];
          CHECK(first == top1[((level * 2 + l) * 40 + image) * 16 + patch]);
          flips += first != routes.layers[l].experts_of[2 * (k * 16 + patch)] ? 1 : 0;
        }
      }
    }
  }
  CHECK(flips > 0);
  CHECK(routes.labels == std::vector<int32_t>{0, 7, 1, 9});
  // The direction's own stream: what the page draws its noise from.
  CHECK(routes.noise_keys[2] == engine::RngKey(5, engine::Purpose::kNoiseSweep).with(21).value());
}

TEST_CASE("report: weights, second choices, drops and logits of the plain image") {
  for (const std::vector<std::string>& settings :
       {std::vector<std::string>{},
        std::vector<std::string>{"moe.dispatch=capacity", "moe.eval_capacity_factor=0.5",
                                 "moe.capacity_multiple_of=1", "moe.group_images=1"}}) {
    const SmallModel small(kData, settings);
    train::Inference inference(*small.model.network);
    const NoiseRoutes routes =
        train::follow_noise(inference, small.config, *small.test, kChosen, 5, 2, 0.5);
    int64_t dropped = 0;
    train::for_each_chosen(
        *small.test, train::evaluation_loader(small.config), kChosen,
        [&](int64_t k, const data::Batch& batch) {
          const moe::ModelOutput& out = inference.run(train::pixels_of(batch, small.config));
          for (size_t l = 0; l < 2; ++l) {
            const moe::Routing& r = out.routings[l];
            const train::NoiseRoutesLayer& layer = routes.layers[l];
            for (int64_t patch = 0; patch < 16; ++patch) {
              for (int64_t j = 0; j < 2; ++j) {
                const int64_t choice = (1 + patch) * 2 + j, cell = k * 16 + patch;
                const int32_t expert = r.chosen.data<const int32_t>()[choice];
                const bool lost = r.expert.data<const int32_t>()[choice] < 0;
                CHECK(layer.experts_of[2 * cell + j] == expert);
                CHECK(layer.gates[2 * cell + j] ==
                      r.gates.data<const float>()[(1 + patch) * 4 + expert]);
                CHECK((layer.dropped[cell] >> j & 1) == (lost ? 1 : 0));
                dropped += lost ? 1 : 0;
              }
            }
            for (int64_t i = 0; i < 17 * 4; ++i) {
              CHECK(layer.logits[k * 17 * 4 + i] == r.logits.data<const float>()[i]);
            }
          }
        });
    CHECK((dropped > 0) == !settings.empty());
  }
}

TEST_CASE("report: the two views are those that the audit compared") {
  const TempFolder folder;
  const SmallModel small(kData, {});
  const train::AuditOptions options{.seed = 5, .dump_path = folder / "dump.safetensors"};
  train::audit_model(*small.model.network, small.config, *small.test, options);
  const Dump dump(options.dump_path);
  train::Inference inference(*small.model.network);
  const ViewPairs views = train::look_at_views(inference, small.config, *small.test, kChosen, 5);
  REQUIRE(views.pictures.size() == 8);
  int64_t seen = 0, pairs = 0;
  for (size_t row = 0; row < dump.columns.at("image").size(); ++row) {
    const auto at = std::ranges::find(kChosen, dump.columns.at("image")[row]);
    const int32_t token = dump.columns.at("token")[row];
    if (at == kChosen.end() || token == 0) continue;
    const int64_t k = at - kChosen.begin(), view = dump.columns.at("view")[row] - 1;
    const auto l = static_cast<size_t>(dump.columns.at("layer")[row]);
    const int64_t place = (k * 2 + view) * 16 + token - 1;
    for (int64_t e = 0; e < 4; ++e) {
      CHECK(views.layers[l].clean[place * 4 + e] ==
            static_cast<float>(dump.p(static_cast<int64_t>(row), e)));
    }
    CHECK(views.flat[place] == dump.columns.at("flat")[row]);
    const int32_t partner = dump.columns.at("partner")[row];
    if (partner >= 0) {
      CHECK(views.match[k * 16 + token - 1] == dump.columns.at("token")[partner] - 1);
      ++pairs;
    }
    ++seen;
  }
  CHECK(seen == 2 * 2 * 16 * 4);
  CHECK(pairs > 0);
}

TEST_CASE("report: same bits for any threads") {
  const SmallModel small(kData, {});
  CHECK(engine::test::same_bits_for_threads([&] {
    train::Inference inference(*small.model.network);
    const NoiseRoutes routes =
        train::follow_noise(inference, small.config, *small.test, kChosen, 5, 3, 0.5);
    std::vector<double> all = routes.probabilities;
    all.insert(all.end(), routes.layers[1].gates.begin(), routes.layers[1].gates.end());
    return all;
  }));
}

TEST_CASE("report: what cannot be drawn is refused") {
  const SmallModel small(kData, {});
  train::Inference inference(*small.model.network);
  const auto follow = [&](int64_t levels, double sigma) {
    return error_of(ErrorKind::kValue, [&] {
      train::follow_noise(inference, small.config, *small.test, kChosen, 5, levels, sigma);
    });
  };
  CHECK(contains(follow(1, 0.5), "at least 2"));
  CHECK(contains(follow(3, 0), "above 0"));
  const SmallModel soft(kData, {"moe.chooser=soft"});
  train::Inference soft_inference(*soft.model.network);
  CHECK(contains(error_of(ErrorKind::kValue,
                          [&] {
                            train::follow_noise(soft_inference, soft.config, *soft.test, kChosen, 5,
                                                3, 0.5);
                          }),
                 "chooses no experts"));
}

TEST_CASE("history: columns, thinning, lines that are cut") {
  const TempFolder folder;
  std::string text;
  for (int step = 1; step <= 1001; ++step) {
    text += R"({"kind": "train", "step": )" + std::to_string(step) + R"(, "loss": )" +
            std::to_string(2 * step) + (step == 1001 ? R"(, "block_1_load": [0.5, 0.5])" : "") +
            "}\n";
  }
  text += R"({"kind": "eval", "step": 1001, "accuracy": 0.5})"
          "\n"
          R"({"kind": "s", "step": 1001, "block_1_s": [1, 0, 0, 1]})"
          "\n"
          R"({"kind": "event", "step": 7, "event": "resume", "text": ""})"
          "\n[1]\n"
          R"({"kind": "tra)";
  put(folder / "metrics.jsonl", text);
  std::vector<std::string> warnings;
  const json history = train::read_history(folder.path(), 2, warnings);
  REQUIRE(warnings.size() == 1);
  CHECK(contains(warnings[0], "no whole JSON objects and were left out: 2"));
  CHECK(history["lines"] == 1001);
  CHECK(history["shown_lines"] == 334);
  CHECK(history["train"]["step"].size() == 334);
  CHECK(history["train"]["step"].back() == 1001);
  CHECK(history["train"]["step"][0] == 2);
  CHECK(history["train"]["loss"][0] == 4);
  CHECK(history["train"]["block_1_load"][0] == nullptr);
  CHECK(history["train"]["block_1_load"].back() == json{0.5, 0.5});
  CHECK(history["eval"][0]["accuracy"] == 0.5);
  CHECK(history["s"][0]["block_1_s"] == json{1, 0, 0, 1});
  CHECK(history["event"][0]["event"] == "resume");

  warnings.clear();
  CHECK(train::read_history(folder / "nowhere", 2, warnings)["lines"] == 0);
  CHECK(contains(warnings.at(0), "not there"));
}

TEST_CASE("history: values of a wrong kind are left out, repeated events are one") {
  const TempFolder folder;
  std::string deep = R"({"kind": "train", "step": 9, "loss": )";
  for (int i = 0; i < 300000; ++i) deep += '[';
  for (int i = 0; i < 300000; ++i) deep += ']';
  put(folder / "metrics.jsonl",
      R"({"kind": "train", "step": 1, "loss": "much", "block_0_load": [1], "block_0_dead": 1})"
      "\n"
      R"({"kind": "train", "step": 2, "loss": {}, "block_0_load": [0.5, "x"]})"
      "\n"
      R"({"kind": "train", "step": 1e300, "loss": 1})"
      "\n"
      R"({"kind": "train", "step": -1, "loss": 1})"
      "\n"
      R"({"kind": "eval", "step": 2, "accuracy": "good"})"
      "\n"
      R"({"kind": "s", "step": 2, "block_0_s": [1, 2], "block_1_s": [1, 0, 0, 1]})"
      "\n"
      R"({"kind": "event", "step": 3, "event": "warning", "text": "a"})"
      "\n"
      R"({"kind": "event", "step": 5, "event": "warning", "text": "a"})"
      "\n"
      R"({"kind": "event", "step": 6, "event": "resume"})"
      "\n"
      R"({"kind": "event", "step": 7, "event": "resume"})"
      "\n" +
          deep + "}\n");
  std::vector<std::string> warnings;
  const json history = train::read_history(folder.path(), 2, warnings);
  REQUIRE(warnings.size() == 2);
  CHECK(contains(warnings[0], "left out: 2"));
  CHECK(contains(warnings[1], "wrong kind or length"));
  CHECK(history["train"]["loss"] == json({nullptr, nullptr, nullptr}));
  CHECK(history["train"]["block_0_load"] == json({nullptr, nullptr, nullptr}));
  CHECK(history["train"]["block_0_dead"][0] == 1);
  CHECK(history["eval"].empty());
  CHECK(history["s"][0]["block_0_s"] == nullptr);
  CHECK(history["s"][0]["block_1_s"].size() == 4);
  REQUIRE(history["event"].size() == 3);
  CHECK(history["event"][0]["times"] == 2);
  CHECK(history["event"][0]["last_step"] == 5);
  CHECK(history["event"][1]["text"] == "");
}
