#include "train/audit/content.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/train/audit_dump.h"
#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"
#include "train/audit/audit.h"
#include "train/audit/information.h"

using doctest::Approx;
using train::ContentCounter;
using train::test::Dump;
using train::test::SmallModel;
using train::test::TempFolder;

TEST_CASE("information: tables that are not square") {
  // Rows say the column: ln 2. Both columns alike in every row: 0.
  CHECK(train::mutual_information(std::vector<int64_t>{2, 0, 0, 2, 4, 0, 0, 4}, 2) ==
        Approx(std::log(2)));
  CHECK(std::abs(train::mutual_information(std::vector<int64_t>{1, 1, 3, 3, 5, 5}, 2)) < 1e-15);
  CHECK(train::mutual_information(std::vector<int64_t>{}, 3) == 0);
}

TEST_CASE("content: a patch is what all its pixels are, else edge") {
  // 4 x 4 pixels in patches of 2: all background, all shape, a mix of both, edge.
  const std::vector<uint8_t> pixels = {0, 0, 2, 2,  //
                                       0, 0, 2, 2,  //
                                       0, 2, 1, 1,  //
                                       0, 0, 1, 1};
  CHECK(train::parts_of_patches(pixels, 4, 2) ==
        std::vector<uint8_t>{ContentCounter::kBackground, ContentCounter::kShape,
                             ContentCounter::kEdge, ContentCounter::kEdge});
}

TEST_CASE("content: class and part of every patch of the dump, counted again") {
  const TempFolder folder;
  const SmallModel small("shapes:size=16,train=20,test=40", {});
  const train::AuditOptions options{.seed = 3, .dump_path = folder / "dump.safetensors"};
  const train::AuditResult result =
      train::audit_model(*small.model.network, small.config, *small.test, options);
  const Dump dump(options.dump_path);
  const auto &top1 = dump.columns.at("sweep.top1"), &flat = dump.columns.at("sweep.flat");
  const size_t patches = 16, images = dump.columns.at("sweep.image").size();
  REQUIRE(images == 40);
  for (size_t l = 0; l < result.layers.size(); ++l) {
    std::vector<double> classes(10 * 4), parts(3 * 4);
    for (size_t i = 0; i < images * patches; ++i) {
      if (flat[i] != 0) continue;
      const auto image = static_cast<int64_t>(i / patches), p = static_cast<int64_t>(i % patches);
      const int32_t expert = top1[l * images * patches + i];
      ++classes[small.test->label(image) * 4 + expert];
      std::vector<uint8_t> pixels;
      REQUIRE(small.test->parts(image, pixels));
      int sum = 0, least = 2, most = 0;
      for (int64_t k = 0; k < 16; ++k) {
        const int part = pixels[(p / 4 * 4 + k / 4) * 16 + p % 4 * 4 + k % 4];
        sum += part, least = std::min(least, part), most = std::max(most, part);
      }
      ++parts[(least == most ? least : 1) * 4 + expert];
    }
    CHECK(result.layers[l].class_expert == classes);
    CHECK(result.layers[l].part_expert == parts);
    CHECK(result.layers[l].class_information > 0);
    CHECK(result.layers[l].part_information > 0);
  }
}

TEST_CASE("content: without parts, or seen in another size, there are none") {
  for (const char* setting : {"model.image_size=32", "eval.shorter=24"}) {
    const SmallModel small("shapes:size=16,train=20,test=20", {setting});
    const train::AuditResult result =
        train::audit_model(*small.model.network, small.config, *small.test, {.seed = 3});
    CHECK(result.layers[0].part_expert.empty());
    CHECK(result.layers[0].part_information == 0);
    CHECK(result.layers[0].class_expert.size() == 40);
  }
}
