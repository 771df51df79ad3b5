#include "train/audit/layer_audit.h"

#include <algorithm>
#include <cmath>

#include "engine/core/error.h"
#include "engine/core/parallel.h"

namespace train {

using engine::check;
using engine::ErrorKind;

LayerAudit::LayerAudit(const moe::Routing& like)
    : layer_(like.layer),
      experts_(like.experts),
      top_k_(like.top_k),
      match_(like.experts),
      consistency_(like.experts),
      load_(like.experts),
      load_all_(like.experts) {}

void LayerAudit::add(const moe::Routing& routing, std::span<const AuditPair> pairs,
                     int64_t sources) {
  check(routing.layer == layer_ && routing.experts == experts_ && routing.top_k == top_k_ &&
            2 * sources <= routing.images,
        ErrorKind::kShape, "audit: routing of layer ", routing.layer, " with ", routing.experts,
        " experts and ", routing.images, " views added to layer ", layer_, " with ", experts_,
        " experts and ", 2 * sources, " views");
  const int64_t rows = 2 * sources * routing.tokens;
  const float* clean = routing.clean.data<const float>();
  check(std::all_of(clean, clean + rows * experts_, [](float p) { return std::isfinite(p); }),
        ErrorKind::kValue, "audit: the router of layer ", layer_,
        " gives probabilities that are not finite: the model's weights have diverged");
  tops_.resize(static_cast<size_t>(rows));
  engine::parallel_for(rows, engine::rows_per_grain(experts_), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) tops_[r] = top_two(clean + r * experts_, experts_);
  });
  match_.add(pairs, tops_);
  confidence_.add(pairs, tops_);
  consistency_.add(pairs, clean);
  load_.add_pairs(routing, pairs);
  load_all_.add_all(routing, sources);
}

LayerFigures LayerAudit::figures() const {
  LayerFigures f;
  f.layer = layer_;
  f.experts = experts_;
  f.top_k = top_k_;
  f.n_pairs = match_.top1.cases();
  f.match_top1 = match_.top1.share();
  f.match_top1_se = match_.top1.error();
  f.match_top1_chance = chance_agreement(match_.joint, experts_);
  f.mutual_information = mutual_information(match_.joint, experts_);
  f.effective_experts = load_.effective_experts();
  f.margin_mean = confidence_.margin();
  f.match_top2 = match_.top2.share();
  f.match_top2_se = match_.top2.error();
  f.match_top2_any_order = match_.top2_any_order.share();
  f.match_top2_any_order_se = match_.top2_any_order.error();
  f.confidence_first = confidence_.first();
  f.confidence_second = confidence_.second();
  f.confidence_rest = confidence_.rest();
  f.margin_histogram.assign(confidence_.margins().begin(), confidence_.margins().end());
  f.s = consistency_.matrix();
  f.s_diagonal_mean = consistency_.diagonal_mean();
  f.s_offdiagonal_mean = consistency_.off_diagonal_mean();
  f.load = load_.load();
  f.dropped_share = load_.dropped().share();
  f.dropped_share_se = load_.dropped().error();
  f.load_all_tokens = load_all_.load();
  f.effective_experts_all_tokens = load_all_.effective_experts();
  f.dropped_share_all_tokens = load_all_.dropped().share();
  f.dropped_share_all_tokens_se = load_all_.dropped().error();
  return f;
}

}  // namespace train
