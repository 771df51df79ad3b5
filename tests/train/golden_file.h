#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "tests/support/tensors.h"
#include "train/config.h"
#include "train/safetensors.h"

// Files of tests/golden: what independent implementations say (tests/reference/golden_*.py).
namespace train::test {

// Paths of the files whose names begin so, sorted.
inline std::vector<std::string> golden_files(const std::string& prefix) {
  std::vector<std::string> paths;
  for (const auto& entry :
       std::filesystem::directory_iterator(ROBUSTMOE_SOURCE_DIR "/tests/golden")) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(prefix)) paths.push_back(entry.path().string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

// A tensor's numbers.
inline std::vector<double> numbers(const SafetensorsFile& file, const std::string& name) {
  const auto* entry = file.find(name);
  REQUIRE_MESSAGE(entry != nullptr, file.path(), " has no ", name);
  std::vector<double> v(static_cast<size_t>(entry->shape.numel()));
  file.read(name, engine::test::view(v, entry->shape));
  return v;
}

inline std::vector<int32_t> integers(const SafetensorsFile& file, const std::string& name) {
  const auto* entry = file.find(name);
  REQUIRE_MESSAGE(entry != nullptr, file.path(), " has no ", name);
  std::vector<int32_t> v(static_cast<size_t>(entry->shape.numel()));
  file.read(name, engine::test::view(v, entry->shape));
  return v;
}

// A picture of bytes, (height, width, channels).
inline data::ImageU8 picture(const SafetensorsFile& file, const std::string& name) {
  const auto* entry = file.find(name);
  REQUIRE_MESSAGE(entry != nullptr, file.path(), " has no ", name);
  data::ImageU8 image;
  image.reshape(entry->shape[0], entry->shape[1], entry->shape[2]);
  file.read(name, engine::test::view(image.pixels, entry->shape));
  return image;
}

// The settings in a file's metadata, and one more.
inline Config config_of(const SafetensorsFile& file, const std::string& more = "") {
  Config config;
  std::istringstream lines(file.metadata().at("set"));
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty()) train::set_value(config, line);
  }
  if (!more.empty()) train::set_value(config, more);
  if (config.train.steps == 0) config.train.steps = 1;  // of a model that is not trained
  train::validate(config);
  return config;
}

}  // namespace train::test
