#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset.h"
#include "data/loader.h"
#include "train/audit/layer_audit.h"
#include "train/audit/noise_sweep.h"
#include "train/config.h"

namespace train {

// What experts are chosen for: the first choices of patches of plain images, counted by the image's
// class and, where the data set knows its images' parts (data::Dataset::parts) and the model sees
// them in their own size, by the patch's part. Patches of one colour are left out.
class ContentCounter {
 public:
  // A patch is background or shape where all its pixels are, edge otherwise.
  enum Part : uint8_t { kBackground, kEdge, kShape, kParts };

  ContentCounter(const Config& config, const data::Dataset& dataset);

  // A batch of single views and what the sweep found on it; those without noise count.
  void add(const data::Batch& batch, const NoiseSweep::Rows& rows);
  // class_expert and class_information of MoE layer `index`, in block order; part_expert is empty
  // and part_information 0 where parts are not known.
  void fill(size_t index, LayerFigures& figures) const;

 private:
  const data::Dataset& dataset_;
  int64_t classes_, experts_, size_, patch_;
  std::vector<uint8_t> pixels_;  // parts of the image at hand
  bool knows_parts_;
  std::vector<std::vector<int64_t>> class_expert_, part_expert_;  // an MoE layer
};

// Whether plain views of such a set are its images as they are, so that parts lie where they lay.
bool sees_parts(const Config& config, const data::Info& info);
// The part of each patch of a (size, size) map of parts, row by row.
std::vector<uint8_t> parts_of_patches(const std::vector<uint8_t>& pixels, int64_t size,
                                      int64_t patch);

}  // namespace train
