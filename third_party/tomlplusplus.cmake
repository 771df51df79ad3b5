# toml++: recipes and config files. Used header-only (its default) and from one source file, so the
# program needs no libtomlplusplus.so where it runs.
find_path(TOMLPLUSPLUS_INCLUDE_DIR NAMES toml++/toml.h)
mark_as_advanced(TOMLPLUSPLUS_INCLUDE_DIR)
if(NOT TOMLPLUSPLUS_INCLUDE_DIR)
  message(FATAL_ERROR "toml++ is missing: install libtomlplusplus-dev, or run tools/setup.sh")
endif()

add_library(third_party::tomlplusplus INTERFACE IMPORTED GLOBAL)
target_include_directories(third_party::tomlplusplus SYSTEM INTERFACE "${TOMLPLUSPLUS_INCLUDE_DIR}")
