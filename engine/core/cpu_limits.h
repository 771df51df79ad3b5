#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace engine {

// How much of the machine's processors this process may use.
struct CpuLimits {
  int64_t cores;  // that it may run on: its affinity
  double quota;   // of their time that its control group grants, in cores; infinite where no limit
  // Threads worth having: more than the quota would only wait for each other.
  int64_t threads() const;
};
CpuLimits cpu_limits();

// The quota, in cores, of a control group of Linux: the least along the way from the group up.
// `groups` is the text of /proc/self/cgroup, `root` where control groups are mounted; version 2
// (cpu.max) or 1 (cpu/cpu.cfs_quota_us, cpu.cfs_period_us). What cannot be read is no limit.
double cgroup_quota(const std::string& groups, const std::filesystem::path& root);

}  // namespace engine
