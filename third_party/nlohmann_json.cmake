# nlohmann-json: metadata of model files, metrics, --json.
find_path(NLOHMANN_JSON_INCLUDE_DIR NAMES nlohmann/json.hpp)
mark_as_advanced(NLOHMANN_JSON_INCLUDE_DIR)
if(NOT NLOHMANN_JSON_INCLUDE_DIR)
  message(FATAL_ERROR "nlohmann-json is missing: install nlohmann-json3-dev, or run tools/setup.sh")
endif()

add_library(third_party::nlohmann_json INTERFACE IMPORTED GLOBAL)
target_include_directories(third_party::nlohmann_json SYSTEM
                           INTERFACE "${NLOHMANN_JSON_INCLUDE_DIR}")
