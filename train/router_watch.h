#pragma once

#include <string>
#include <vector>

#include "train/train_step.h"

namespace train {

// Watches how tokens spread over experts between two log lines. Fair share is 1/E of a layer's
// served choices.
//   dead       an expert that served nothing
//   starved    an expert below a tenth of its fair share
//   collapsed  the effective number of experts, exp(entropy of the load), below top_k + 0.5:
//              nearly all tokens go to the same few
class RouterWatch {
 public:
  RouterWatch(int64_t experts, int64_t top_k) : experts_(experts), top_k_(top_k) {}

  void add(const StepResult& step);
  struct Summary {
    int64_t layer;
    std::string name;
    std::vector<double> load;                     // share of served choices, sums to 1
    double effective_experts, busiest, emptiest;  // the last two in fair shares
    double dropped_share;
    std::vector<int64_t> dead, starved;
    bool collapsed;
  };
  // What was seen since the last call; then starts anew.
  std::vector<Summary> take();
  // One line for each thing that is wrong, empty when all is well.
  static std::vector<std::string> warnings(const std::vector<Summary>& layers);

 private:
  int64_t experts_, top_k_;
  std::vector<LayerLoad> seen_;
};

}  // namespace train
