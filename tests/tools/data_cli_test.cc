#include <doctest/doctest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/picture_files.h"
#include "tests/tools/program.h"
#include "tests/train/temp_folder.h"

using data::test::pixels_of;
using nlohmann::json;
using tools::test::check_fails;
using tools::test::Result;
using tools::test::run;
using train::test::contains;
using train::test::put;
using train::test::TempFolder;

namespace {

std::string jpeg(int height) {
  const auto bytes = data::test::jpeg_of(pixels_of(height, 9, 3), height, 9, 3);
  return {bytes.begin(), bytes.end()};
}

// Two classes, five pictures.
void fill(const TempFolder& folder) {
  for (const char* path : {"train/ape", "train/cat", "val/cat"}) {
    std::filesystem::create_directories(folder / path);
  }
  put(folder / "train/ape/a.jpg", jpeg(8));
  put(folder / "train/ape/b.jpg", jpeg(9));
  put(folder / "train/cat/c.jpg", jpeg(10));
  put(folder / "train/cat/d.jpg", jpeg(11));
  put(folder / "val/cat/e.jpg", jpeg(12));
}

}  // namespace

TEST_CASE("data info: splits, classes, sizes") {
  const Result shapes = run("data info --data shapes:size=16,train=40,test=20");
  CHECK(shapes.status == 0);
  CHECK(contains(shapes.out, "shapes: 10 classes, "));
  CHECK(contains(shapes.out, "16x16 pixels"));
  CHECK(contains(shapes.out, "train: 40 images of 10 classes, of each 4\n"));
  CHECK(contains(shapes.out, "test: 20 images of 10 classes, of each 2\n"));
  const TempFolder folder;
  fill(folder);
  const json info = json::parse(run("data info --json - --data image-folder:" + folder.path()).out);
  CHECK(info["class_names"] == json({"ape", "cat"}));
  CHECK(info["splits"]["train"]["images"] == 4);
  CHECK(info["splits"]["test"]["classes"] == 1);
}

TEST_CASE("data check: whole sets pass, damage is listed and exits 1") {
  const TempFolder folder;
  const TempFolder set;
  fill(set);
  const std::string check = "data check --data image-folder:" + set.path(), list = folder / "list";
  const Result good = run(check + " --save " + list);
  CHECK(good.status == 0);
  CHECK(contains(good.out, "train: 4 images, "));
  CHECK(contains(good.out, "height 8 to 11, median 10, width 9, 0 of one channel"));
  CHECK(contains(good.out, "nothing wrong\n"));
  CHECK(run(check + " --threads 1").out == good.out);
  CHECK(run(check + " --against " + list).status == 0);
  put(set / "train/ape/a.jpg", "hello");
  put(set / "train/cat/c.jpg", jpeg(13));
  put(set / "train/ape/x.jpg", jpeg(11));
  const Result bad = run(check + " --against " + list);
  CHECK(bad.status == 1);
  for (const char* line :
       {"train train/ape/a.jpg: other content than before",
        "train/ape/a.jpg: neither a JPEG nor a PNG file", "train train/ape/x.jpg: new",
        "train train/cat/c.jpg: other content than before", "one picture under several classes",
        "5 things are wrong\n"}) {
    CHECK_MESSAGE(contains(bad.out, line), line);
  }
  const json found = json::parse(run(check + " --json -").out);
  CHECK(found["unreadable"].size() == 1);
  CHECK(found["mislabelled"].size() == 1);
  CHECK(found["splits"]["train"]["images"] == 5);
  CHECK(found["hash"].get<std::string>() !=
        json::parse(run("data check --json - --data shapes:size=16,train=20,test=10").out)["hash"]
            .get<std::string>());
}

TEST_CASE("data pack: one file a split, which is a data set again") {
  const TempFolder folder;
  const TempFolder out;
  fill(folder);
  const std::string pack = "data pack --size 6 --out " + (out / "p") + " --data image-folder:";
  const Result packed = run(pack + folder.path());
  CHECK(packed.status == 0);
  CHECK(contains(packed.out, "p/train.pack: 4 images, "));
  CHECK(contains(packed.out, "use it as --data packed:" + (out / "p")));
  const json info = json::parse(run("data info --json - --data packed:" + (out / "p")).out);
  CHECK(info["class_names"] == json({"ape", "cat"}));
  CHECK(info["splits"]["test"]["images"] == 1);
  CHECK(run("data check --data packed:" + (out / "p")).status == 0);
  check_fails(pack + "/none", 1, {"no folder"});
  check_fails("data pack --data image-folder:" + folder.path(), 2, {"--out"});
  check_fails(pack + folder.path() + " --quality 101", 2,
              {"--quality is 101, expected an integer"});
  CHECK(run(pack + folder.path() + " --quality 0").status == 0);  // pixels
  CHECK(run("data check --data packed:" + (out / "p")).status == 0);
}

TEST_CASE("data: what cannot work is one line") {
  const TempFolder folder;
  fill(folder);
  const std::string with = " --data image-folder:" + folder.path();
  check_fails("data", 2, {"data does: info, check, pack"});
  check_fails("data mend" + with, 2, {"data does: info, check, pack"});
  check_fails("data info", 2, {"--data"});
  check_fails("data check" + with + " --against /none", 1, {"/none"});
  check_fails("data check" + with + " --against " + (folder / "val/cat/e.jpg"), 1,
              {"does not begin with"});
  check_fails("data check" + with + " --save /none/list", 1, {"/none/list"});
  check_fails("data check --data image-folder:/none", 1, {"no folder"});
}

TEST_CASE("bench ops: every product of a step, beside the machine's own limits") {
  const Result result =
      run("bench ops --recipe quick-prc --seconds 1 --threads 1 --set train.batch=16 --json -");
  CHECK(result.status == 0);
  const json all = json::parse(result.out);
  CHECK(all["threads"] == 1);
  CHECK(all["peak_gflops"] > 1);
  CHECK(all["memory_gb_s"] > 0.1);
  std::vector<std::string> names;
  for (const json& product : all["products"]) {
    names.push_back(product["name"]);
    for (const char* rate : {"forward_gflops", "input_gradient_gflops", "weight_gradient_gflops"}) {
      CHECK(product[rate] > 0);
    }
  }
  CHECK(names == std::vector<std::string>{"patch embedding", "attention qkv", "attention out",
                                          "mlp up", "mlp down", "router", "experts up",
                                          "experts down", "head"});
  // quick-prc: 28 pixels, patches of 7: 16 and a class token.
  CHECK(all["products"][1]["m"] == 16 * 17);
  CHECK(all["products"][6]["m"] == 16 * 17 * 2);
  CHECK(all["attention"]["backward_gflops"] > 0);
  // Two of its four blocks have experts; images have no gradient.
  const std::vector<int> in_step = {1, 4, 4, 2, 2, 2, 2, 2, 1};
  double step_ms = 0;
  for (size_t i = 0; i < in_step.size(); ++i) {
    const json& p = all["products"][i];
    CHECK(p["in_step"] == in_step[i]);
    CHECK(p["input_gradients_in_step"] == (i == 0 ? 0 : in_step[i]));
    const double work = 2e-6 * double{p["m"]} * double{p["n"]} * double{p["k"]};
    step_ms += work * in_step[i] *
               (1 / double{p["forward_gflops"]} + 1 / double{p["weight_gradient_gflops"]});
    if (i > 0) step_ms += work * in_step[i] / double{p["input_gradient_gflops"]};
  }
  CHECK(double{all["products_of_step_ms"]} == doctest::Approx(step_ms));
  CHECK(all["views"] == 16);

  const json& moe = all["moe_beside_dense"];
  CHECK(moe["dense_hidden"] == 2 * 256);
  const double sparse = double{moe["moe_forward_ms"]} + double{moe["moe_backward_ms"]};
  const double dense = double{moe["dense_forward_ms"]} + double{moe["dense_backward_ms"]};
  CHECK(dense > 0);
  CHECK(double{moe["ratio"]} == doctest::Approx(sparse / dense));
  const std::string without =
      "bench ops --recipe quick-prc --seconds 1 --threads 1 --json - "
      "--set train.batch=2 --set moe.layers=";
  CHECK_FALSE(
      json::parse(run(without + "none --set prc.form=none").out).contains("moe_beside_dense"));
  CHECK_FALSE(json::parse(run(without + "3 --set prc.form=none --set moe.chooser=soft").out)
                  .contains("moe_beside_dense"));

  const json rows = json::parse(run("bench ops --recipe quick-prc --seconds 1 --threads 1 "
                                    "--rows 100 --json -")
                                    .out);
  CHECK(rows["products"].size() == 4);
  CHECK(rows["products"][2]["m"] == 100);
  CHECK(rows["products"][2]["n"] == 256);
  CHECK(rows["products"][2]["k"] == 64);
  CHECK_FALSE(rows.contains("attention"));
  CHECK_FALSE(rows.contains("products_of_step_ms"));
  check_fails("bench ops", 2, {"--recipe"});
  check_fails("bench ops --recipe quick-prc --rows 0", 2, {"--rows"});
}

TEST_CASE("bench data: the loader's rate on JPEG files of its own") {
  const std::string bench =
      "bench data --recipe quick-prc --seconds 1 --images 3 --size 64x48 --json - ";
  for (const char* workers : {"0", "2"}) {
    const json result = json::parse(run(bench + "--workers " + workers + " 2>/dev/null").out);
    CHECK(result["images_per_s"].get<double>() > 1);
    CHECK(result["views_per_s"].get<double>() ==
          doctest::Approx(2 * result["images_per_s"].get<double>()));
    CHECK(result["seconds"].get<double>() >= 1);
  }
  for (const char* size : {"64", "x48", "64x", "0x48", "64x48x3", "64x9000", "ax3"}) {
    check_fails("bench data --recipe quick-prc --size " + std::string(size), 2,
                {"expected WIDTHxHEIGHT"});
  }
  check_fails("bench data --recipe quick-prc --workers -1", 2, {"--workers is -1"});
  check_fails("bench data", 2, {"--recipe"});
  check_fails("bench speed --recipe quick-prc", 2, {"bench measures: train, ops, data, experts"});
}
