#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/codec/decode_image.h"
#include "data/codec/encode_image.h"
#include "tests/tools/program.h"
#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"
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

// A run directory with a small model, and a picture of the size it wants.
struct Scene {
  Scene() {
    SmallModel small("shapes:size=16,train=20,test=20", {});
    train::CheckpointState state;
    state.step = 3;
    train::save_checkpoint(folder / "run", small.model.params, state,
                           {{"config", train::to_toml(small.config, false)},
                            {"class_names", "ant\nbee\ncat\ndog\neel\nfox\ngnu\nhen\nibis\njay\n"}},
                           1);
    data::ImageU8 image;
    small.test->read(5, image);
    const auto png = data::encode_png(image);
    put(folder / "p.png", {png.begin(), png.end()});
  }
  std::string on(const std::string& more = "") const {
    return "predict " + (folder / "p.png") + " --checkpoint " + (folder / "run") + " " + more;
  }
  TempFolder folder;
};

}  // namespace

TEST_CASE("predict: text, JSON, noise, drawing and trace") {
  const Scene scene;
  const Result text = run(scene.on("--noise 0.3 --trace 1:4 --routes " + (scene.folder / "r.png") +
                                   " --json " + (scene.folder / "p.json")));
  CHECK(text.status == 0);
  for (const char* part : {"p.png", " %  ", "with noise of 0.3", "another first expert in",
                           "block 1, patch 4 (token 5)", "margin to the next flip", "drawn in"}) {
    CHECK_MESSAGE(contains(text.out, part), part);
  }
  const json result = json::parse(content_of(scene.folder / "p.json"))["images"][0];
  REQUIRE(result["top"].size() == 5);
  const std::string name = result["top"][0]["name"];
  CHECK(contains(text.out, name + "\n"));
  CHECK(result["top"][0]["probability"] >= result["top"][1]["probability"]);
  REQUIRE(result["layers"].size() == 2);
  CHECK(result["layers"][1]["patches"].size() == 16);
  CHECK(result["layers"][1]["patches"][3]["experts"].size() == 2);
  CHECK(result["noise"]["layers"][0].contains("changed_share"));
  const std::string png = content_of(scene.folder / "r.png");
  data::ImageU8 drawn;
  data::decode_image({reinterpret_cast<const uint8_t*>(png.data()), png.size()}, "r.png", drawn);
  CHECK(drawn.width == 2 * 160 + 3 * 8);  // 4 x 4 patches, without and with noise
  CHECK(drawn.height == 2 * 160 + 3 * 8);

  // Repeatable; another seed is other noise; several pictures at once.
  const std::string noisy = scene.on("--noise 0.3 --json -");
  CHECK(run(noisy).out == run(noisy + " --threads 1").out);
  CHECK(run(noisy).out != run(noisy + " --seed 2").out);
  const json two =
      json::parse(run("predict " + (scene.folder / "p.png") + " " + (scene.folder / "p.png") +
                      " --checkpoint " + (scene.folder / "run") + " --top 2 --json -")
                      .out)["images"];
  REQUIRE(two.size() == 2);
  CHECK(two[0]["top"].size() == 2);
  CHECK(two[0]["layers"] == two[1]["layers"]);
}

TEST_CASE("predict: what cannot work is one line") {
  const Scene scene;
  check_fails("predict --checkpoint " + (scene.folder / "run"), 2, {"needs pictures"});
  check_fails("predict " + (scene.folder / "p.png"), 2, {"--checkpoint is required"});
  for (const char* trace : {"5", "x:1", "1:x", "1:-2", "1:2x"}) {
    check_fails(scene.on(std::string("--trace ") + trace), 2, {"--trace is", "LAYER:PATCH"});
  }
  check_fails(scene.on("--trace 5:1"), 1, {"block 5 has no experts"});
  check_fails(scene.on("--noise -1"), 2, {"--noise is -1"});
  check_fails("predict a.png b.png --routes x.png --checkpoint r", 2, {"--routes draws one"});
  check_fails(scene.on("--routes " + (scene.folder / "no/x.png")), 1, {"x.png"});
  const std::string picture = content_of(scene.folder / "p.png");
  check_fails(scene.on("--routes " + (scene.folder / "p.png")), 1, {"are the same file"});
  check_fails(scene.on("--json " + (scene.folder / "./p.png")), 1, {"are the same file"});
  CHECK(content_of(scene.folder / "p.png") == picture);
  put(scene.folder / "text.png", "not a picture");
  check_fails("predict " + (scene.folder / "text.png") + " --checkpoint " + (scene.folder / "run"),
              1, {"text.png: neither a JPEG nor a PNG"});
  check_fails("predict " + (scene.folder / "none.png") + " --checkpoint " + (scene.folder / "run"),
              1, {"none.png"});
}
