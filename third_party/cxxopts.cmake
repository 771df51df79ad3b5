# cxxopts: the command line.
find_path(CXXOPTS_INCLUDE_DIR NAMES cxxopts.hpp)
mark_as_advanced(CXXOPTS_INCLUDE_DIR)
if(NOT CXXOPTS_INCLUDE_DIR)
  message(FATAL_ERROR "cxxopts is missing: install libcxxopts-dev, or run tools/setup.sh")
endif()

add_library(third_party::cxxopts INTERFACE IMPORTED GLOBAL)
target_include_directories(third_party::cxxopts SYSTEM INTERFACE "${CXXOPTS_INCLUDE_DIR}")
