#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "train/audit/clustered_share.h"
#include "train/audit/pairs.h"
#include "train/audit/top_two.h"

namespace train {

// How often the experts of corresponding patches agree (paper Table 4, spec 4.7). With
// (a1, a2) the two most probable experts of a patch in view 1, (b1, b2) those of its partner:
//
//   top1            share of pairs with a1 = b1
//   top2            share with a1 = b1 and a2 = b2
//   top2_any_order  share with {a1, a2} = {b1, b2}
//   joint           (E, E) how many pairs have a1 = i, b1 = j
struct MatchCounter {
  explicit MatchCounter(int64_t experts)
      : joint(static_cast<size_t>(experts * experts)), experts_(experts) {}

  // The pairs of a batch, those of an image together; tops has an entry a token of the batch.
  void add(std::span<const AuditPair> pairs, std::span<const TopTwo> tops) {
    for (size_t begin = 0, end = 0; begin < pairs.size(); begin = end) {
      int64_t same1 = 0, same2 = 0, same_set = 0;
      for (; end < pairs.size() && pairs[end].source == pairs[begin].source; ++end) {
        const TopTwo &a = tops[pairs[end].left], &b = tops[pairs[end].right];
        const bool first = a.first == b.first, second = a.second == b.second;
        ++joint[a.first * experts_ + b.first];
        same1 += first ? 1 : 0;
        same2 += first && second ? 1 : 0;
        same_set += (first && second) || (a.first == b.second && a.second == b.first) ? 1 : 0;
      }
      const auto cases = static_cast<int64_t>(end - begin);
      top1.add(same1, cases);
      top2.add(same2, cases);
      top2_any_order.add(same_set, cases);
    }
  }

  std::vector<int64_t> joint;
  ClusteredShare top1, top2, top2_any_order;

 private:
  int64_t experts_;
};

}  // namespace train
