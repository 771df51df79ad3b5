#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "moe/routing.h"
#include "train/audit/confidence.h"
#include "train/audit/consistency.h"
#include "train/audit/load.h"
#include "train/audit/match.h"

namespace train {

// What an audit says about one MoE layer, over pairs of corresponding patches of two views,
// class tokens and patches of one colour left out (pairs.h). Formulas stand where each is
// counted: match.h, information.h, load.h, confidence.h, consistency.h. `_se` is the standard
// error over source images (clustered_share.h).
struct LayerFigures {
  int64_t layer = 0;  // 0-based block
  int64_t experts = 0, top_k = 0, n_pairs = 0;
  double match_top1 = 0, match_top1_se = 0;  // paper Table 4
  double match_top1_chance = 0;              // sum of products of the two marginals
  double mutual_information = 0;             // nats, of corresponding top-1 choices
  double effective_experts = 0;              // exp of the load's entropy
  double margin_mean = 0;                    // first minus second probability
  double match_top2 = 0, match_top2_se = 0;  // in order, Table 4
  double match_top2_any_order = 0, match_top2_any_order_se = 0;
  double confidence_first = 0, confidence_second = 0, confidence_rest = 0;  // Table 5
  std::vector<double> margin_histogram;                // counts of margins (confidence.h)
  double s_diagonal_mean = 0, s_offdiagonal_mean = 0;  // of PRC's S
  std::vector<double> s;                               // (E, E), S itself
  std::vector<double> load;                            // (E) shares of the pairs' choices
  double dropped_share = 0, dropped_share_se = 0;
  // The same of all tokens of all views: class tokens, patches of one colour and patches
  // without a partner too.
  std::vector<double> load_all_tokens;
  double effective_experts_all_tokens = 0;
  double dropped_share_all_tokens = 0, dropped_share_all_tokens_se = 0;
  // Of the patches of plain images (content.h): counts (classes, E) and, where the data set knows
  // the parts of its images, (3, E); what they say about each other, in nats.
  std::vector<double> class_expert, part_expert;
  double class_information = 0, part_information = 0;
};

// Counts batch after batch of one layer. Everything is counted in integers or summed in f64 in
// the order of images and tokens, so the figures have the same bits for any number of threads.
class LayerAudit {
 public:
  explicit LayerAudit(const moe::Routing& like);

  // A batch of two views each of `sources` images (pairs.h). Rows of the routing beyond them
  // are ignored. Error(kValue) for probabilities that are not finite.
  void add(const moe::Routing& routing, std::span<const AuditPair> pairs, int64_t sources);
  LayerFigures figures() const;

 private:
  int64_t layer_, experts_, top_k_;
  MatchCounter match_;
  ConfidenceMeans confidence_;
  ConsistencyMatrix consistency_;
  LoadCounter load_, load_all_;
  std::vector<TopTwo> tops_;  // of the batch at hand
};

}  // namespace train
