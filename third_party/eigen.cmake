# Eigen: matrix products of the portable backend and vector maths.
find_package(Eigen3 3.4 QUIET NO_MODULE)
if(NOT TARGET Eigen3::Eigen)
  message(FATAL_ERROR "Eigen 3.4 is missing: install libeigen3-dev, or run tools/setup.sh")
endif()

get_target_property(eigen_include Eigen3::Eigen INTERFACE_INCLUDE_DIRECTORIES)
add_library(third_party::eigen INTERFACE IMPORTED GLOBAL)
target_include_directories(third_party::eigen SYSTEM INTERFACE ${eigen_include})
# Threads are handed out by engine/core/parallel alone: Eigen must never open a team of its own.
target_compile_definitions(third_party::eigen INTERFACE EIGEN_DONT_PARALLELIZE)
