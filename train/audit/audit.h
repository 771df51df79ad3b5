#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "train/audit/layer_audit.h"
#include "train/audit/noise_path.h"
#include "train/audit/noise_sweep.h"
#include "train/config.h"
#include "train/metrics.h"
#include "train/network.h"

namespace train {

struct AuditOptions {
  uint64_t seed = 0;                      // of views and noise
  std::vector<double> noise_sigmas = {};  // 0 is always measured
  int64_t path_steps = 0;                 // of a way into noise (noise_path.h), 0: none
  double path_sigma = 0.2;                // where it ends
  std::string dump_path = {};             // empty: no dump (dump.h)
};

struct AuditResult {
  int64_t n_images = 0;
  std::vector<LayerFigures> layers;     // a MoE layer, in block order
  std::vector<NoiseLevel> noise_sweep;  // the first is without noise
  std::optional<NoisePathFigures> noise_path;
};

// What happens inside the MoE layers of a model, on the images of a data set in order
// (config.eval.limit of them, or all; config.eval.batch views at a time): two passes, over two
// augmented views of every image (audit_loader) and over plain ones with and without noise.
// Reads logits and Routing, nothing else. The same bits for any number of threads and workers,
// and for any batch unless predictions depend on neighbours.
//
// Error(kValue): a model without MoE layers, no pair of patches that could be compared, numbers
// that are not finite.
AuditResult audit_model(const Network& network, const Config& config, const data::Dataset& dataset,
                        const AuditOptions& options);

// One JSON object on one line: `head`, accuracy of the plain views, n_images, `layers` with the
// fields of LayerFigures by name, `noise_sweep` with those of NoiseLevel, and `noise_path`, where
// there was one, with those of NoisePathFigures.
std::string audit_json(const AuditResult& result, const Fields& head);

// The same as tables for a person.
std::string audit_text(const AuditResult& result);

}  // namespace train
