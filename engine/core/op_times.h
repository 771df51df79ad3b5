#pragma once

#include <array>
#include <chrono>
#include <string_view>

namespace engine {

// Seconds spent in each op, summed over calls. Fixed memory, so that measuring allocates
// nothing. A forward time is what passed since the previous op was recorded, so the rows add
// up to the whole pass; work between ops is counted to the op that follows it.
class OpTimes {
 public:
  struct Row {
    std::string_view name;
    double forward_s = 0, backward_s = 0;
    int64_t calls = 0;
  };
  static double now_s() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  void add(std::string_view name, double forward_s, double backward_s) {
    for (Row& row : rows_) {
      if (row.name.empty()) row.name = name;
      if (row.name != name) continue;
      row.forward_s += forward_s;
      row.backward_s += backward_s;
      row.calls += backward_s == 0 ? 1 : 0;
      return;
    }
  }
  // Rows in the order of first use; unused ones have an empty name.
  const std::array<Row, 48>& rows() const { return rows_; }

 private:
  std::array<Row, 48> rows_;
};

}  // namespace engine
