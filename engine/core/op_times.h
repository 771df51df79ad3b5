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
  void add_forward(std::string_view name, double seconds) {
    Row& row = row_of(name);
    row.forward_s += seconds;
    ++row.calls;
  }
  void add_backward(std::string_view name, double seconds) { row_of(name).backward_s += seconds; }
  // Rows in the order of first use; unused ones have an empty name.
  const std::array<Row, 48>& rows() const { return rows_; }

 private:
  // The last row takes all names for which there is no row left.
  Row& row_of(std::string_view name) {
    for (size_t i = 0; i + 1 < rows_.size(); ++i) {
      if (rows_[i].name.empty()) rows_[i].name = name;
      if (rows_[i].name == name) return rows_[i];
    }
    rows_.back().name = "others";
    return rows_.back();
  }

  std::array<Row, 48> rows_;
};

}  // namespace engine
