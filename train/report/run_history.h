#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace train {

// What metrics.jsonl says about a run, for the report:
//   train   an object of columns: a list with an entry a line of that kind, null where a line has
//           no such key; thinned evenly to at most kHistoryLines lines, the last one kept
//   eval    a list of the lines with an accuracy; s: likewise, thinned as above
//   event   a list with an entry for each different event: the first's line, and `times` and
//           `last_step`; at most kHistoryLines of them
//   lines, shown_lines   of kind train: how many there are, and how many of them are in `train`
// Numbers are numbers or null there, lists have `experts` numbers (S its square). A line that is no
// JSON object, such as one cut by a kill, is left out; so is what is of another kind. Both are
// counted in `warnings`; a file that is not there is named there.
inline constexpr int64_t kHistoryLines = 400;
nlohmann::json read_history(const std::string& run_dir, int64_t experts,
                            std::vector<std::string>& warnings);

}  // namespace train
