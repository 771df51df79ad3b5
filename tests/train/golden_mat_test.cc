#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "data/codec/mat_file.h"
#include "tests/train/golden_file.h"
#include "tests/train/temp_folder.h"
#include "train/safetensors.h"

// MATLAB files as SciPy writes them (tests/reference/golden_mat.py).
using engine::ErrorKind;
using train::SafetensorsFile;
using train::test::contains;
using train::test::error_of;
using train::test::put;
using train::test::TempFolder;

namespace {

const SafetensorsFile& golden() {
  static const SafetensorsFile file(ROBUSTMOE_SOURCE_DIR "/tests/golden/mat.safetensors");
  return file;
}

std::string file_of(const std::string& variant) {
  const auto* entry = golden().find("file." + variant);
  REQUIRE_MESSAGE(entry != nullptr, variant);
  std::vector<uint8_t> bytes(static_cast<size_t>(entry->shape.numel()));
  golden().read(entry->name, engine::test::view(bytes, entry->shape));
  return {bytes.begin(), bytes.end()};
}

std::string refused(const std::string& path, const std::string& variable = "second") {
  return error_of(ErrorKind::kFormat, [&] { data::read_mat_integers(path, variable); });
}

const char* const kVariants[] = {"double",
                                 "double_compressed",
                                 "uint8",
                                 "uint8_compressed",
                                 "uint16_compressed",
                                 "int32",
                                 "int64_compressed",
                                 "single",
                                 "small"};

}  // namespace

TEST_CASE("golden mat: every number format, compressed or not") {
  const TempFolder folder;
  for (const std::string variant : kVariants) {
    CAPTURE(variant);
    put(folder / "x.mat", file_of(variant));
    for (const std::string name : {"first", "second"}) {
      CAPTURE(name);
      const auto want = train::test::integers(golden(), name + "." + variant);
      CHECK(data::read_mat_integers(folder / "x.mat", name) ==
            std::vector<int64_t>(want.begin(), want.end()));
    }
    CHECK(contains(refused(folder / "x.mat", "third"),
                   "x.mat: has no variable third, but first, second"));
  }
}

TEST_CASE("golden mat: whatever is cut short or damaged is one line, never a crash") {
  const TempFolder folder;
  const std::string path = folder / "x.mat";
  for (const std::string variant : {"double", "uint8_compressed", "small"}) {
    CAPTURE(variant);
    const std::string whole = file_of(variant);
    for (size_t size = 0; size < whole.size(); size += 1 + size / 50) {
      put(path, whole.substr(0, size));
      CHECK(contains(refused(path), path));
    }
    // A flipped bit is an error, or other numbers; it is never more than that.
    for (size_t at = 128; at < whole.size(); at += 1 + at / 100) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << (at % 8)));
      put(path, damaged);
      try {
        data::read_mat_integers(path, "second");
      } catch (const engine::Error& error) {
        CHECK(error.kind() == ErrorKind::kFormat);
        CHECK_FALSE(contains(error.message(), "\n"));
      }
    }
  }
  CHECK(contains(refused(folder / "x.mat"), path));
  put(path, "MATLAB 7.3");
  CHECK(contains(refused(path), "save it again with -v7"));
  CHECK(error_of(ErrorKind::kIo, [&] { data::read_mat_integers("/none.mat", "x"); }).size() > 5);
}
