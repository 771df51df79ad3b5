#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "train/model.h"

namespace tools {

struct RunAuditOptions {
  std::string data, split, weights;
  int64_t images = 1000;  // of an audit made here; 0: all
  uint64_t seed = 0;      // of its views
};

// What RUN/audit.json says, if it is of the loaded checkpoint. Where there is none, where it is of
// another step or of the other of last and averaged weights, or where it was written before reports
// were, the audit is made now and `warnings` says so. They also say where it is of other data than
// `options`.
//
// Error(kFormat) where the file is no audit or its figures are not numbers; Error(kValue) where it
// is of another model: with other MoE layers, or of other weights at the same step.
nlohmann::json run_audit_of(const std::string& run_dir, const train::LoadedModel& loaded,
                            const data::Dataset& dataset, const RunAuditOptions& options,
                            std::vector<std::string>& warnings);

}  // namespace tools
