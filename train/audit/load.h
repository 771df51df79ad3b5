#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "moe/routing.h"
#include "train/audit/clustered_share.h"
#include "train/audit/information.h"
#include "train/audit/pairs.h"

namespace train {

// Who gets the work. Every token has K choices; load_e is expert e's share of all choices
// counted, against a fair share of 1 / E. Choices count as the router made them; those that
// found no slot in their expert are the dropped share. Where experts choose tokens, load_e is e's
// share of what all experts took, and tokens that none took are the dropped share.
class LoadCounter {
 public:
  explicit LoadCounter(int64_t experts) : counts_(static_cast<size_t>(experts)) {}

  // Both tokens of every pair; a token of several pairs counts as often.
  void add_pairs(const moe::Routing& routing, std::span<const AuditPair> pairs);
  // All tokens of the batch's first `sources` pairs of views: class tokens and patches of one
  // colour too. What balance losses and expert capacity see.
  void add_all(const moe::Routing& routing, int64_t sources);

  std::vector<double> load() const;
  // exp of the load's entropy, 1 ... E
  double effective_experts() const { return effective_number(counts_); }
  const ClusteredShare& dropped() const { return dropped_; }

 private:
  // Returns how many of the token's choices_per_token() were dropped.
  int64_t count_token(const moe::Routing& routing, int64_t token);

  std::vector<int64_t> counts_;
  ClusteredShare dropped_;
};

}  // namespace train
