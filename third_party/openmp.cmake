# OpenMP: the threads of the CPU backend.
find_package(OpenMP QUIET COMPONENTS CXX)
if(NOT TARGET OpenMP::OpenMP_CXX)
  if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    set(openmp_package libomp-dev)
    set(openmp_option " --check")
  else()
    set(openmp_package g++)
    set(openmp_option "")
  endif()
  message(FATAL_ERROR
          "OpenMP is missing: install ${openmp_package}, or run tools/setup.sh${openmp_option}")
endif()

add_library(third_party::openmp INTERFACE IMPORTED GLOBAL)
target_link_libraries(third_party::openmp INTERFACE OpenMP::OpenMP_CXX)
