# Stands in the place of the CUDA Toolkit in test builds: .cu files are compiled by the host's
# compiler against the headers of tests/cuda_emulator, and their kernels run on the CPU.
file(GLOB emulator_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/cuda_emulator/*.cc)
list(FILTER emulator_sources EXCLUDE REGEX "_test\\.cc$")
add_library(cuda_emulator STATIC ${emulator_sources})
target_link_libraries(cuda_emulator PRIVATE robustmoe_flags)
target_include_directories(cuda_emulator SYSTEM INTERFACE ${CMAKE_SOURCE_DIR}/tests/cuda_emulator)
add_library(third_party::cuda ALIAS cuda_emulator)

# CUDA's keywords mean nothing to the host's compiler, except that shared memory is one per block,
# and blocks run one after the other.
function(robustmoe_emulate)
  set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS
    "-x;c++;-D__global__=;-D__device__=;-D__host__=;-D__forceinline__=inline;-D__launch_bounds__(...)=;-D__shared__=static;-D__align__(n)=alignas(n);-Wno-unknown-pragmas;-include;${CMAKE_SOURCE_DIR}/tests/cuda_emulator/cuda_runtime.h")
endfunction()
