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

// What RUN/audit.json says, if it is of the loaded checkpoint. Where there is none, or it was
// written before reports were, the audit is made now and `warnings` says so.
//
// Error(kFormat) where the file is no audit; Error(kValue) where it is of another model: of other
// weights, of another step, or with other MoE layers.
nlohmann::json run_audit_of(const std::string& run_dir, const train::LoadedModel& loaded,
                            const data::Dataset& dataset, const RunAuditOptions& options,
                            std::vector<std::string>& warnings);

}  // namespace tools
