#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/loader.h"
#include "moe/routing.h"
#include "train/audit/noise_sweep.h"
#include "train/audit/pairs.h"

namespace train {

// The rows behind an audit's figures, so that anyone can count again; a safetensors file.
//
// One row a token, view, MoE layer and image, all tokens included (R rows):
//   image, layer, token, view   (R) i32    index in the data set; block; 0 is the class token
//                                          where there is one; 1 or 2
//   flat                        (R) i32    1: a patch of one colour
//   partner                     (R) i32    row of the token of view 2 that this one of view 1 is
//                                          counted with, or -1
//   experts                     (R, K) i32 chosen, most probable first
//   routed                      (R, K) i32 the same, -1 where dropped by capacity
//   probabilities               (R, E) f32 clean
// The noise sweep over n images, L levels, M MoE layers, P patches:
//   sweep.sigma (L) f64, sweep.image (n), sweep.label (n), sweep.prediction (L, n),
//   sweep.flat (n, P), sweep.top1 (L, M, n, P), all i32
class AuditDump {
 public:
  // One layer of a batch of `sources` pairs of views. Error(kValue) beyond 2^31 rows.
  void add_views(const data::Batch& batch, const moe::Routing& routing,
                 std::span<const AuditPair> pairs, const std::vector<uint8_t>& flat);
  void add_sweep(const data::Batch& batch, const NoiseSweep& sweep);
  // Replaces the file; its folder must exist. Error(kIo).
  void write(const std::string& path, const NoiseSweep& sweep) const;

 private:
  struct Columns {
    std::vector<int32_t> image, layer, token, view, flat, partner, experts, routed;
    std::vector<float> probabilities;
  };
  struct SweepColumns {
    std::vector<int32_t> image, label, flat;
    std::vector<std::vector<int32_t>> predictions, top1;  // as NoiseSweep::Rows
  };
  Columns columns_;
  SweepColumns sweep_;
  int64_t experts_ = 1, top_k_ = 1;
};

}  // namespace train
