#include "engine/core/cpu_limits.h"

#include <doctest/doctest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>

using engine::cgroup_quota;
using engine::CpuLimits;

namespace {

namespace fs = std::filesystem;

// Control groups made up, gone with the object.
struct Groups {
  Groups() {
    std::string pattern = (fs::temp_directory_path() / "robustmoe-cgroup-XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    root = pattern;
  }
  ~Groups() { fs::remove_all(root); }
  Groups(const Groups&) = delete;
  Groups& operator=(const Groups&) = delete;
  void put(const fs::path& file, const std::string& text) const {
    fs::create_directories((root / file).parent_path());
    std::ofstream(root / file) << text;
  }
  fs::path root;
};

}  // namespace

TEST_CASE("cpu_limits: version 2, the least of a group and those above it") {
  const Groups groups;
  CHECK(std::isinf(cgroup_quota("0::/a/b\n", groups.root)));
  groups.put("a/b/cpu.max", "max 100000\n");
  CHECK(std::isinf(cgroup_quota("0::/a/b\n", groups.root)));
  groups.put("a/cpu.max", "250000 100000\n");
  CHECK(cgroup_quota("0::/a/b\n", groups.root) == 2.5);
  CHECK(cgroup_quota("0::/a\n", groups.root) == 2.5);
  CHECK(std::isinf(cgroup_quota("0::/c\n", groups.root)));
  groups.put("a/b/cpu.max", "50000 100000\n");
  CHECK(cgroup_quota("0::/a/b\n", groups.root) == 0.5);
  // In a container the group's own folder may be the root, whatever its name is outside.
  groups.put("cpu.max", "30000 100000\n");
  CHECK(cgroup_quota("0::/not/there\n", groups.root) == 0.3);
}

TEST_CASE("cpu_limits: version 1, only the group of the cpu controller") {
  const Groups groups;
  groups.put("cpu/a/cpu.cfs_quota_us", "-1\n");
  groups.put("cpu/a/cpu.cfs_period_us", "100000\n");
  groups.put("cpu/a/b/cpu.cfs_quota_us", "150000\n");
  groups.put("cpu/a/b/cpu.cfs_period_us", "50000\n");
  const std::string other = "3:cpuset:/a/b\n";
  CHECK(std::isinf(cgroup_quota(other + "2:cpu,cpuacct:/a\n", groups.root)));
  CHECK(cgroup_quota(other + "2:cpu,cpuacct:/a/b\n", groups.root) == 3);
  CHECK(std::isinf(cgroup_quota(other, groups.root)));
}

TEST_CASE("cpu_limits: what is no list of groups is no limit") {
  const Groups groups;
  groups.put("cpu.max", "abc\n");
  for (const char* text : {"", "\n", "0", "0::", "::/", "a:b"}) {
    CHECK(std::isinf(cgroup_quota(text, groups.root)));
  }
}

TEST_CASE("cpu_limits: as many threads as the quota fills, at least one") {
  const auto threads = [](int64_t cores, double quota) {
    return CpuLimits{cores, quota}.threads();
  };
  CHECK(threads(8, INFINITY) == 8);
  CHECK(threads(8, 8) == 8);
  CHECK(threads(8, 2) == 2);
  CHECK(threads(8, 2.5) == 3);
  CHECK(threads(8, 0.1) == 1);
  CHECK(threads(2, 7.5) == 2);
}
