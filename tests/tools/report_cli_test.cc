#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/codec/encode_image.h"
#include "tests/tools/program.h"
#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"
#include "tools/commands/report_tty.h"
#include "train/checkpoint.h"

using nlohmann::json;
using tools::test::check_fails;
using tools::test::Result;
using tools::test::run;
using train::test::contains;
using train::test::content_of;
using train::test::put;
using train::test::SmallModel;
using train::test::TempFolder;

namespace {

constexpr const char* kData = "shapes:size=16,train=30,test=30";

// A run directory with one checkpoint of a small model and a config.toml that names its data.
void make_run(const std::string& folder, const std::vector<std::string>& settings = {},
              const std::string& class_names = "", const std::string& data = kData) {
  SmallModel small(data, settings);
  train::CheckpointState state;
  state.step = 12;
  train::save_checkpoint(
      folder, small.model.params, state,
      {{"config", train::to_toml(small.config, false)}, {"class_names", class_names}}, 1);
  train::Config config = small.config;
  config.data.source = data;
  put(folder + "/config.toml", train::to_toml(config, true));
}

std::string report_of(const TempFolder& folder, const std::string& more = "") {
  return "report --run " + (folder / "run") + " --out " + (folder / "report.html") +
         " --images 6 " + more;
}

}  // namespace

TEST_CASE("report: a page and its JSON, the same bytes each time") {
  const TempFolder folder;
  make_run(folder / "run");
  const Result first = run(report_of(folder, "--json " + (folder / "r.json") + " 2>/dev/null"));
  CHECK(first.status == 0);
  CHECK(contains(first.out, "report.html: 6 images, "));
  const std::string page = content_of(folder / "report.html");
  CHECK(page.starts_with("<!DOCTYPE html>"));
  CHECK(contains(page, "default-src 'none'"));
  CHECK_FALSE(contains(page, "@DATA@"));
  CHECK_FALSE(contains(page, "http://www.w3.org/1999"));
  const json result = json::parse(content_of(folder / "r.json"));
  CHECK(result["format"] == "robustmoe report");
  const json& one = result["runs"][0];
  CHECK(one["label"] == "run");
  CHECK(one["sigmas"].size() == 21);
  CHECK(one["images"].size() == 6);
  CHECK(one["images"][2]["index"] == 10);
  CHECK(one["layers"].size() == 2);
  CHECK(one["audit"]["n_images"] == 30);
  CHECK(one["provenance"]["step"] == 12);
  CHECK(one["provenance"]["ledger"].size() > 5);
  CHECK(result["warnings"].size() == 2);  // no audit.json, no metrics.jsonl

  CHECK(run(report_of(folder, "--threads 1 2>/dev/null")).status == 0);
  CHECK(content_of(folder / "report.html") == page);
  CHECK(run(report_of(folder, "--seed 1 2>/dev/null")).status == 0);
  CHECK(content_of(folder / "report.html") != page);
}

TEST_CASE("report: takes the run's audit, and says where it is of another model") {
  const TempFolder folder;
  make_run(folder / "run");
  const std::string audit = folder / "run/audit.json";
  const std::string make =
      "audit --checkpoint " + (folder / "run") + " --data " + kData + " --json " + audit;
  CHECK(run(make).status == 0);
  json written = json::parse(content_of(audit));
  const auto report = [&] {
    const Result result = run(report_of(folder, "--json - 2>/dev/null"));
    CHECK(result.status == 0);
    return json::parse(result.out);
  };
  CHECK(report()["runs"][0]["audit"] == written);
  CHECK(report()["warnings"].size() == 1);  // no metrics.jsonl

  const auto refused = [&](const json& wrong, const std::string& part) {
    put(audit, wrong.dump());
    check_fails(report_of(folder), 1, {"audit.json", part});
  };
  json wrong = written;
  wrong["model_crc32"] = "00000000";
  refused(wrong, "checksum");
  wrong = written;
  wrong["layers"][1]["experts"] = 8;
  refused(wrong, "blocks, experts and K");
  wrong["layers"] = {1, 2};
  refused(wrong, "blocks, experts and K");
  wrong = written;
  wrong["layers"][1]["top_k"] = 1;
  refused(wrong, "blocks, experts and K");
  // Whole JSON, but not figures.
  for (const auto& [key, value] : {std::pair{"s", json{0.1}},
                                   {"s", json()},
                                   {"class_information", json("much")},
                                   {"margin_histogram", json{"a", "b"}},
                                   {"class_expert", json{1, 2}},
                                   {"part_expert", json{1, 2}},
                                   {"match_top1_se", json()}}) {
    wrong = written;
    wrong["layers"][0][key] = value;
    refused(wrong, key);
  }
  wrong = written;
  wrong["accuracy"] = nullptr;
  refused(wrong, "accuracy");
  refused(json{1, 2}, "not what robustmoe audit --json writes");
  put(audit, "{\"layers\": [");
  check_fails(report_of(folder), 1, {"audit.json", "not what robustmoe audit --json writes"});
  CHECK_FALSE(std::filesystem::exists(folder / "report.html.json"));

  // Of another step, of averaged weights, of other data, nested too deeply: made anew or named.
  const auto warned = [&](const json& other, const std::string& part) {
    put(audit, other.dump());
    const json now = report();
    CHECK(contains(now["warnings"][0].get<std::string>(), part));
    return now["runs"][0]["audit"];
  };
  wrong = written;
  wrong["step"] = 13;
  CHECK(warned(wrong, "is of step 13")["step"] == 12);
  wrong = written;
  wrong["weights"] = "ema";
  CHECK(warned(wrong, "weights \"ema\"")["weights"] == "last");
  wrong = written;
  wrong["data"] = "shapes:size=32";
  CHECK(warned(wrong, "the images shown are of")["data"] == "shapes:size=32");
  std::string deep = written.dump();
  deep.back() = ',';
  deep += "\"x\":" + std::string(100000, '[') + std::string(100000, ']') + "}";
  put(audit, deep);
  CHECK(report()["runs"][0]["audit"]["layers"] == written["layers"]);

  // Of an older program.
  for (json& layer : written["layers"]) layer.erase("class_expert");
  put(audit, written.dump());
  const json again = report();
  CHECK(contains(again["warnings"][0].get<std::string>(), "older version"));
  CHECK(again["runs"][0]["audit"]["layers"][0]["class_expert"].size() == 40);
}

TEST_CASE("report: metrics that are cut, many experts, names with HTML in them") {
  const TempFolder folder;
  const std::string evil = "<script>alert(1)<!--";
  for (const std::string& name : {evil, std::string("class & \"2\"")}) {
    for (const char* split : {"train/", "test/"}) {
      std::filesystem::create_directories(folder / split + name);
      for (int i = 0; i < 3; ++i) {
        data::ImageU8 image;
        image.reshape(16, 16, 3);
        for (size_t k = 0; k < image.pixels.size(); ++k) {
          image.pixels[k] = static_cast<uint8_t>(k * k / 7 + static_cast<size_t>(50 * i));
        }
        const auto png = data::encode_png(image);
        put(folder / split + name + "/<b>" + std::to_string(i) + ".png", {png.begin(), png.end()});
      }
    }
  }
  make_run(folder / "run", {"moe.experts=40", "moe.top_k=1", "model.image_size=16"},
           evil + "\nclass & \"2\"\n", "image-folder:" + folder.path());
  put(folder / "run/metrics.jsonl", R"({"kind": "train", "step": 5, "loss": 2.5})"
                                    "\n"
                                    R"({"kind": "train", "st)");
  const Result result = run(report_of(folder, "--json " + (folder / "r.json") + " 2>&1"));
  CAPTURE(result.out);
  CHECK(result.status == 0);
  CHECK(contains(result.out, "no whole JSON objects and were left out: 1"));
  const std::string page = content_of(folder / "report.html");
  CHECK_FALSE(contains(page, "<script>alert"));
  CHECK(contains(page, "\\u003cscript>alert(1)\\u003c!--"));
  const json one = json::parse(content_of(folder / "r.json"))["runs"][0];
  const std::vector<std::string> names = one["class_names"];
  CHECK(std::ranges::count(names, evil) == 1);
  CHECK(one["history"]["train"]["loss"] == json{2.5});
  CHECK(one["layers"][0]["experts"] == 40);
}

TEST_CASE("report: two runs, their names and their common images") {
  const TempFolder folder;
  make_run(folder / "a/run");
  make_run(folder / "b/run", {"moe.experts=3", "moe.layers=1"});
  const Result result = run("report --run " + (folder / "a/run") + "/ --run " + (folder / "b/run") +
                            " --out " + (folder / "r.html") + " --images 4 --json - 2>/dev/null");
  CHECK(result.status == 0);
  const json report = json::parse(result.out);
  REQUIRE(report["runs"].size() == 2);
  CHECK(report["runs"][0]["label"] == "a/run");
  CHECK(report["runs"][1]["label"] == "b/run");
  CHECK(report["runs"][1]["layers"].size() == 1);
  for (size_t i = 0; i < 4; ++i) {
    for (const char* key : {"index", "name", "label", "noise_key", "picture"}) {
      CHECK_MESSAGE(report["runs"][0]["images"][i][key] == report["runs"][1]["images"][i][key],
                    key);
    }
  }
}

TEST_CASE("report: what is wrong is said in one line") {
  const TempFolder folder;
  make_run(folder / "run");
  make_run(folder / "dense", {"moe.layers=none"});
  std::filesystem::create_directories(folder / "empty");
  const std::string out = " --out " + (folder / "r.html");
  check_fails("report" + out, 2, {"--run"});
  check_fails("report --run x", 2, {"--out"});
  check_fails("report --run a --run b --run c" + out, 2, {"one run or two", "3 times"});
  for (const auto& [option, part] : {std::pair{"--sigma 0", "--sigma"},
                                     {"--images 0", "--images"},
                                     {"--seed -1", "--seed"},
                                     {"--image 3", "--tty"},
                                     {"--split nowhere", "--split"}}) {
    check_fails(report_of(folder, option), 2, {part});
  }
  check_fails("report --tty --run " + (folder / "run") + out, 2, {"--tty"});
  check_fails("report --run " + (folder / "nowhere") + out, 1, {"nowhere"});
  check_fails("report --run " + (folder / "empty") + out, 1, {"config.toml", "--data"});
  check_fails("report --data shapes: --run " + (folder / "empty") + out, 1, {"no checkpoint"});
  check_fails("report --run " + (folder / "dense") + out, 1, {"no MoE layers"});
  check_fails("report --data shapes:train=0 --run " + (folder / "run") + out, 1, {"shapes"});
  check_fails(report_of(folder, "--json " + (folder / "report.html")), 1, {"same file"});
  for (const char* file : {"audit.json", "eval.json", "path.json", "metrics.jsonl"}) {
    check_fails(report_of(folder, "--json " + (folder / "run/") + file), 1, {file});
  }
  check_fails("report --run " + (folder / "run") + " --out -", 2, {"--out"});
  make_run(folder / "soft", {"moe.chooser=soft"});
  check_fails("report --run " + (folder / "soft") + out, 1, {"chooses no experts"});
  check_fails("report --tty --run " + (folder / "soft"), 1, {"chooses no experts"});
  check_fails("report --run " + (folder / "run") + " --out " +
                  (folder / "run/checkpoints/step-000000012/model.safetensors"),
              1, {"would overwrite"});
  check_fails("report --run " + (folder / "run") + " --out " + (folder / "no/such/r.html"), 1,
              {"cannot write"});
}

TEST_CASE("report: the patches of an image in the terminal") {
  const TempFolder folder;
  make_run(folder / "run");
  const Result result = run("report --tty --image 3 --run " + (folder / "run"));
  CHECK(result.status == 0);
  CHECK(contains(result.out, "block 0, 4 experts\n"));
  CHECK(contains(result.out, "block 1, 4 experts\n"));
  CHECK_FALSE(contains(result.out, "\x1b"));  // this is no terminal
  CHECK(std::count(result.out.begin(), result.out.end(), '\n') == 11);
  check_fails("report --tty --image 30 --run " + (folder / "run"), 2, {"--image"});

  train::Prediction p;
  p.layers.push_back(
      {2, 12, {}, {{{11}, {0.5f}}, {{}, {}}, {{3, 1}, {0.4f, 0.2f}}, {{0}, {1.0f}}}});
  data::ImageU8 image;
  image.reshape(4, 4, 3);
  for (int64_t i = 0; i < 24; ++i) image.pixels[static_cast<size_t>(i)] = 200;  // upper half
  CHECK(tools::patch_grid(p, image, 2, false) == "block 2, 12 experts\n11  -\n 3  0\n");
  const std::string coloured = tools::patch_grid(p, image, 2, true);
  CHECK(contains(coloured, "\x1b[48;2;200;200;200m\x1b[30m11\x1b[0m"));  // black on bright
  CHECK(contains(coloured, "\x1b[48;2;0;0;0m\x1b[97m 3\x1b[0m"));        // white on dark
}
