#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "train/model.h"

// What the router report (tools/inspector) shows of one run: only Routing, the run's metrics file
// and its audit go in.
namespace train {

struct RunReportOptions {
  std::string run_dir, label;   // `label`: what the page calls the run
  std::string program_version;  // of the program that makes the report
  std::vector<int64_t> images;  // places in the data set
  uint64_t seed = 0;            // of views and noise
  int64_t levels = 21;          // of noise
  double sigma = 0.2;           // the last level's deviation
};

// tools/inspector/README.md describes the result. `audit` is the object that audit --json writes.
// Arrays of numbers are base64 of their little-endian bytes. Error(kValue) as follow_noise.
nlohmann::json describe_run(const LoadedModel& loaded, const data::Dataset& dataset,
                            const nlohmann::json& audit, const RunReportOptions& options,
                            std::vector<std::string>& warnings);

}  // namespace train
