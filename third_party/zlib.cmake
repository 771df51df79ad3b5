# zlib: gzipped IDX files, MAT files, PNG.
find_package(ZLIB QUIET)
if(NOT TARGET ZLIB::ZLIB)
  message(FATAL_ERROR "zlib is missing: install zlib1g-dev, or run tools/setup.sh")
endif()

add_library(third_party::zlib INTERFACE IMPORTED GLOBAL)
target_include_directories(third_party::zlib SYSTEM INTERFACE ${ZLIB_INCLUDE_DIRS})
target_link_libraries(third_party::zlib INTERFACE ZLIB::ZLIB)
