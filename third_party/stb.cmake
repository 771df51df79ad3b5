# stb_image and stb_image_write: decoding and writing pictures. Headers only: the implementation is
# compiled into the one source file that defines STB_IMAGE_IMPLEMENTATION.
find_path(STB_INCLUDE_DIR NAMES stb_image.h PATH_SUFFIXES stb)
mark_as_advanced(STB_INCLUDE_DIR)
if(NOT STB_INCLUDE_DIR OR NOT EXISTS "${STB_INCLUDE_DIR}/stb_image_write.h")
  message(FATAL_ERROR "stb is missing: install libstb-dev, or run tools/setup.sh")
endif()

add_library(third_party::stb INTERFACE IMPORTED GLOBAL)
target_include_directories(third_party::stb SYSTEM INTERFACE "${STB_INCLUDE_DIR}")
