#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

// What a run measured, for programs to read: metrics.jsonl and summary.csv (train/FORMATS.md).
namespace train {

using Value = std::variant<double, int64_t, std::string, std::vector<double>>;
using Fields = std::vector<std::pair<std::string, Value>>;

// Appends to RUN/metrics.jsonl. Error(kIo) where the disk refuses; a line that did not fit is
// taken back, so that the file always ends with a whole one.
class Metrics {
 public:
  // Makes the run directory if need be. Without resume_step a run begins: a metrics.jsonl that
  // has lines already is Error(kValue). With it the run continues after that step: lines of
  // later steps, half a line at the end and lines that are no JSON objects are dropped.
  Metrics(const std::string& run_dir, std::optional<int64_t> resume_step);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // One line, handed to the system at once, so that a kill loses none. Keys keep their order;
  // what is not finite becomes null. A key twice or none is Error(kInternal).
  void write(const Fields& fields);
  // Replaces RUN/summary.csv, one "key,value" line a field, atomically. What is not finite is
  // left empty, a list is joined by spaces.
  void write_summary(const Fields& fields) const;
  // Returns when all lines are on the disk; call it before a checkpoint is saved.
  void flush();

  // The step of the last evaluation in the file when it was opened; -1: none.
  int64_t last_evaluation() const { return last_evaluation_; }
  // Lines the constructor dropped.
  int64_t dropped() const { return dropped_; }

 private:
  void drop_after(int64_t step);

  std::string run_dir_, path_;
  int file_ = -1;
  int64_t bytes_ = 0;
  int64_t dropped_ = 0;
  int64_t last_evaluation_ = -1;
};

// The fields as one JSON object on one line, without the line's end.
std::string json_line(const Fields& fields);

}  // namespace train
