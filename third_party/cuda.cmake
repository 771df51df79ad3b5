# CUDA Toolkit and cuBLAS; include it only in a CUDA build.
find_package(CUDAToolkit 12.0 QUIET)
if(NOT TARGET CUDA::cudart OR NOT TARGET CUDA::cublas OR NOT TARGET CUDA::cublasLt)
  message(FATAL_ERROR
          "CUDA Toolkit 12 or newer with cuBLAS is missing: install cuda-toolkit of NVIDIA's package "
          "repository (tools/setup.sh does not, and Debian 12's own nvidia-cuda-toolkit is too old), "
          "or configure with -DROBUSTMOE_CUDA=OFF")
endif()

# CMake 3.25 (Debian 12) does not know nvcc's flag for C++20.
if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()

# cuBLAS is linked as a shared library; with CMake's default of a static runtime for .cu files the
# program would carry two CUDA runtimes.
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)

add_library(third_party::cuda INTERFACE IMPORTED GLOBAL)
target_include_directories(third_party::cuda SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS})
target_link_libraries(third_party::cuda INTERFACE CUDA::cudart CUDA::cublas CUDA::cublasLt)
