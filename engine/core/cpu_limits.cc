#include "engine/core/cpu_limits.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>

namespace engine {
namespace {

namespace fs = std::filesystem;

constexpr double kNone = std::numeric_limits<double>::infinity();

double quota_of(double time, double period) {
  return time > 0 && period > 0 ? time / period : kNone;
}

// One group's own limit; text where a number is wanted ("max") reads as none.
double own_quota(const fs::path& folder, bool version_2) {
  double time = 0, period = 0;
  if (version_2) {
    std::ifstream(folder / "cpu.max") >> time >> period;
  } else {
    std::ifstream(folder / "cpu.cfs_quota_us") >> time;
    std::ifstream(folder / "cpu.cfs_period_us") >> period;
  }
  return quota_of(time, period);
}

// A group and all above it, as far as `top`, which a container sees as its own.
double least_quota(const fs::path& top, const std::string& group, bool version_2) {
  double least = own_quota(top, version_2);
  fs::path folder = top;
  for (const fs::path& part : fs::path(group).relative_path()) {
    folder /= part;
    least = std::min(least, own_quota(folder, version_2));
  }
  return least;
}

}  // namespace

double cgroup_quota(const std::string& groups, const fs::path& root) {
  double least = kNone;
  std::istringstream lines(groups);
  for (std::string line; std::getline(lines, line);) {  // number:controllers:group
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string group = line.substr(second + 1);
    if (controllers == ",,") {
      least = std::min(least, least_quota(root, group, true));
    } else if (controllers.find(",cpu,") != std::string::npos) {
      least = std::min(least, least_quota(root / "cpu", group, false));
    }
  }
  return least;
}

int64_t CpuLimits::threads() const {
  if (quota >= static_cast<double>(cores)) return cores;
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(quota)));
}

CpuLimits cpu_limits() {
  std::ifstream file("/proc/self/cgroup");
  std::ostringstream groups;
  groups << file.rdbuf();
  return {omp_get_num_procs(), cgroup_quota(groups.str(), "/sys/fs/cgroup")};
}

}  // namespace engine
