#include <Eigen/Core>

#include <sstream>

#include "data/codec/decode_jpeg.h"
#include "engine/config.h"
#include "tools/commands/command.h"

namespace tools {
namespace {

constexpr const char* kInstructions =
#if defined(__AVX512F__)
    "AVX-512";
#elif defined(__AVX2__)
    "AVX2";
#else
    "baseline";
#endif

}  // namespace

std::string cuda_of_build() {
#if defined(ROBUSTMOE_CUDA_EMULATED)
  return "emulated";
#else
  return engine::kCudaEnabled ? "nvcc" : "none";
#endif
}

std::string build_facts() {
  std::ostringstream text;
#if defined(__clang__)
  text << "compiler      clang " << __clang_version__;
#else
  text << "compiler      g++ " << __VERSION__;
#endif
  text << ", " << ROBUSTMOE_BUILD_TYPE << ", OpenMP " << _OPENMP << "\n"
       << "instructions  -march=" << ROBUSTMOE_MARCH << " (" << kInstructions << ")\n"
       << "libraries     Eigen " << EIGEN_WORLD_VERSION << "." << EIGEN_MAJOR_VERSION << "."
       << EIGEN_MINOR_VERSION << ", zlib " << ROBUSTMOE_ZLIB << ", JPEG by " << data::jpeg_decoder()
       << ", PNG by stb_image\n"
       << "devices       cpu"
       << (cuda_of_build() == "none"       ? ""
           : cuda_of_build() == "emulated" ? ", cuda (emulated on the CPU, for tests)"
                                           : ", cuda")
       << "\n";
  return text.str();
}

}  // namespace tools
