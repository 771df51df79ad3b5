# doctest: the tests.
find_path(DOCTEST_INCLUDE_DIR NAMES doctest/doctest.h)
mark_as_advanced(DOCTEST_INCLUDE_DIR)
if(NOT DOCTEST_INCLUDE_DIR)
  message(FATAL_ERROR "doctest is missing: install doctest-dev, or run tools/setup.sh")
endif()

add_library(third_party::doctest INTERFACE IMPORTED GLOBAL)
target_include_directories(third_party::doctest SYSTEM INTERFACE "${DOCTEST_INCLUDE_DIR}")
