#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/codec/decode_image.h"
#include "data/codec/decode_jpeg.h"
#include "data/codec/encode_image.h"
#include "engine/config.h"
#include "engine/core/buffer.h"
#include "engine/core/cpu_features.h"
#include "engine/core/cuda_devices.h"
#include "engine/core/machine_rates.h"
#include "engine/core/op_times.h"
#include "engine/core/parallel.h"
#include "engine/gemm/gemm.h"
#include "tools/commands/bench_config.h"
#include "tools/commands/checkpoint_input.h"
#include "tools/commands/command.h"
#include "tools/commands/doctor_advice.h"
#include "tools/commands/made_up_picture.h"
#include "tools/commands/options.h"
#include "tools/commands/session.h"
#include "tools/commands/synthetic_batch.h"
#include "train/memory_plan.h"
#include "train/model.h"
#include "train/train_step.h"

namespace tools {
namespace {

using engine::OpTimes;
using engine::Precision;

double product_gflops(Precision precision, double seconds) {
  constexpr int64_t kRows = 1024, kWidth = 768;
  const auto numbers = [](int64_t count) {
    engine::Buffer buffer(engine::Shape{count}, engine::Dtype::kF32);
    for (int64_t i = 0; i < count; ++i) {
      buffer.data<float>()[i] = static_cast<float>(i % 17) - 8.0f;
    }
    return buffer;
  };
  const engine::Buffer a = numbers(kRows * kWidth), b = numbers(kWidth * kWidth),
                       c = numbers(kRows * kWidth);
  constexpr double kWork = 2e-9 * kRows * kWidth * kWidth;
  return engine::best_rate(seconds, kWork, [&] {
    engine::kernels::gemm<float>(engine::Cpu{}, engine::kernels::Trans::kNo,
                                 engine::kernels::Trans::kNo, {kRows, kWidth, kWidth},
                                 a.data<float>(), kWidth, b.data<float>(), kWidth, c.data<float>(),
                                 kWidth, engine::GradWrite::kOverwrite, {}, precision);
  });
}

double pictures_per_s(const train::Config& config, double seconds) {
  const std::vector<uint8_t> jpeg =
      data::encode_jpeg(made_up_picture(500, 375, engine::RngKey(1, engine::Purpose::kTest)), 90);
  data::ImageU8 image;
  return engine::best_rate(seconds, 1, [&] {
    data::decode_image(jpeg, "a picture of doctor's own", image, train::jpeg_dialect(config));
  });
}

// A file of 64 MiB in `folder`, written until the disk has it, and gone again.
double disk_mb_per_s(const std::string& folder) {
  constexpr int64_t kBytes = int64_t{64} << 20, kPiece = int64_t{1} << 20;
  std::string path = folder + "/robustmoe-doctor-XXXXXX";
  const int file = mkstemp(path.data());
  engine::check(file >= 0, engine::ErrorKind::kIo, folder,
                ": cannot write a file there: ", std::strerror(errno),
                "; --out names another folder");
  unlink(path.c_str());  // it is gone with the process, however that ends
  const std::string piece(static_cast<size_t>(kPiece), 'x');
  const double start = OpTimes::now_s();
  int64_t written = 0;
  bool fine = true;
  while (fine && written < kBytes) {
    const ssize_t n = write(file, piece.data(), piece.size());
    fine = n > 0;
    written += std::max<ssize_t>(n, 0);
  }
  fine = fine && fsync(file) == 0;
  const int reason = errno;
  const double seconds = OpTimes::now_s() - start;
  close(file);
  engine::check(fine, engine::ErrorKind::kIo, folder,
                ": cannot write 64 MiB there: ", std::strerror(reason),
                "; --out names another folder");
  return 1e-6 * static_cast<double>(kBytes) / seconds;
}

// The GPUs that this program could use; none without a CUDA backend.
std::vector<engine::CudaDevice> gpus() {
  if constexpr (engine::kCudaEnabled) return engine::cuda_devices();
  return {};
}

// A line a GPU, or why there is none.
std::string gpu_text(const std::vector<engine::CudaDevice>& all) {
  const std::string head = "gpu        ", build = cuda_of_build();
  if (build == "none") return head + "not looked for: this build has no CUDA backend\n";
  if (all.empty()) return head + "none: there is no usable device, or no driver for it\n";
  std::string text;
  for (size_t i = 0; i < all.size(); ++i) {
    const engine::CudaDevice& gpu = all[i];
    text += head + "cuda:" + std::to_string(i) + " " + gpu.name + ", " + gib(gpu.bytes) +
            ", compute capability " + std::to_string(gpu.major) + "." + std::to_string(gpu.minor);
    if (!gpu.has_code) {
      text += "; this build has no code for it: configure with -DCMAKE_CUDA_ARCHITECTURES=native";
    } else {
      text += gpu.trouble.empty() ? "; this build has code for it"
                                  : "; cannot be used: " + one_line(gpu.trouble);
    }
    text += build == "emulated" ? "; the emulated backend, for tests: no GPU\n" : "\n";
  }
  return text;
}

nlohmann::json gpu_json(const std::vector<engine::CudaDevice>& all) {
  nlohmann::json list = nlohmann::json::array();
  for (const engine::CudaDevice& gpu : all) {
    list.push_back(
        {{"name", gpu.name},
         {"memory_bytes", gpu.bytes},
         {"compute_capability", std::to_string(gpu.major) + "." + std::to_string(gpu.minor)},
         {"has_code", gpu.has_code},
         {"trouble", gpu.trouble}});
  }
  return list;
}

// Steps of at most about 32 views, whose time is taken to grow with their number.
Forecast forecast(const train::Config& recipe) {
  Forecast all;
  train::Config config = recipe;
  const int64_t group = std::max<int64_t>(1, config.moe.group_images);
  config.train.batch = std::min(config.train.batch, std::max<int64_t>(1, 32 / group) * group);
  config.train.micro_batch = 0;
  train::validate(config);
  train::Model model(config, true);
  const int64_t parameters = model.params.count();
  all.needs = train::plan_memory(recipe, parameters).total();
  all.available = train::available_memory();
  train::check_fits(train::plan_memory(config, parameters), all.available);
  train::TrainStep step(config, model, recipe.train.steps);
  const data::Batch batch = synthetic_batch(config);
  for (int64_t i = 0; i < 2; ++i) step.run(batch, i);
  double best = INFINITY;
  for (int64_t i = 2; i < 5; ++i) {
    const double begin = OpTimes::now_s();
    step.run(batch, i);
    best = std::min(best, OpTimes::now_s() - begin);
  }
  all.step_s =
      best * static_cast<double>(recipe.train.batch) / static_cast<double>(config.train.batch);
  return all;
}

std::string duration(double seconds) {
  if (seconds < 120) return number(seconds, seconds < 10 ? 2 : 0) + " s";
  if (seconds < 7200) return number(seconds / 60) + " min";
  return seconds < 48 * 3600 ? number(seconds / 3600, 1) + " h"
                             : number(seconds / 86400, 1) + " days";
}

std::string describe(const train::Config& config, const Machine& m, const Forecast& f,
                     int64_t images, const std::string& out) {
  const double rate = static_cast<double>(config.train.batch) / f.step_s;
  const int64_t steps = config.train.steps;
  std::string text = "cores      " + std::to_string(m.limits.cores);
  if (std::isfinite(m.limits.quota)) {
    text += ", of which the control group grants " + number(m.limits.quota, 1);
  }
  text += "; " + std::to_string(engine::num_threads()) +
          (engine::num_threads() == 1 ? " thread\n" : " threads\n");
  text += "products   f32 " + number(m.f32) + " GFLOP/s; bf16 " + number(m.bf16) + " GFLOP/s, " +
          std::string(engine::kernels::bf16_method()) + "\n";
  text += "memory     " + number(m.memory, 1) + " GB/s\n";
  text += "pictures   " + number(m.pictures) +
          " JPEG files of 500x375 decoded a second on one thread, by " + data::jpeg_decoder() +
          "\n";
  text += "disk       " + number(m.disk) + " MB/s written to " + out + "\n";
  text += config.recipe + ": about " + duration(f.step_s) + " a step of " +
          std::to_string(config.train.batch) + " views, " + number(rate) + " views/s, " +
          config.train.precision + "; " + std::to_string(steps) + " steps in " +
          duration(f.step_s * static_cast<double>(steps)) + ", an epoch of " +
          std::to_string(images) + " images in " +
          duration(f.step_s * static_cast<double>(images) / images_of_step(config)) + "\n";
  text += "needs      " + gib(f.needs);
  if (f.available > 0) text += " of " + gib(f.available) + " that are free";
  return text + "\n";
}

}  // namespace

int run_doctor(int argc, char** argv) {
  Options options("doctor", "measure what this machine gives, and forecast a recipe on it");
  options.add_value("recipe", "recipe name or TOML file", "cifar10-small-prc", "NAME|FILE");
  options.add_value("set", "set one config value; may be repeated", "", "KEY=VALUE");
  options.add_value("precision", "f32 or bf16: as train's", "", "NAME");
  options.add_value("threads", "threads (default: all that this process may use)", "", "N");
  options.add_value("images", "images of an epoch", "50000", "N");
  options.add_value("out", "folder on the disk to be measured", ".", "DIR");
  options.add_value("seconds", "about how long each rate is measured", "1", "S");
  options.add_value("json", "write the figures as one JSON object; - for standard output", "",
                    "FILE|-");
  if (!options.parse(argc, argv)) return 0;
  const double seconds = options.number("seconds");
  if (!(seconds > 0 && seconds <= 600)) {
    throw UsageError("doctor: --seconds is " + options.get("seconds") + ", expected up to 600");
  }
  const int64_t images = options.integer("images", 1, int64_t{1} << 40);
  if (!options.get("json").empty() && options.get("json") != "-") {
    check_writable(options.get("json"));
  }
  train::Config config = bench_config(options);
  set_train_value(config, options, "threads");
  set_train_value(config, options, "precision");
  use_threads(config.train.threads);

  Machine m;
  m.limits = engine::cpu_limits();
  m.disk = disk_mb_per_s(options.get("out"));
  m.f32 = product_gflops(Precision::kF32, seconds);
  m.bf16 = product_gflops(Precision::kBf16, seconds);
  m.memory = engine::measure_memory_gbs(seconds);
  m.pictures = pictures_per_s(config, seconds);
  const Forecast f = forecast(config);
  const char* isa = std::getenv("ROBUSTMOE_ISA");
  const std::vector<std::string> helps =
      advice(config, m, f, engine::num_threads(), isa == nullptr ? "" : isa);

  const std::vector<engine::CudaDevice> devices = gpus();
  std::string text = describe(config, m, f, images, options.get("out")) + gpu_text(devices);
  for (const std::string& line : helps) text += "try        " + line + "\n";
  if (helps.empty()) text += "try        nothing: no setting is seen that would be faster\n";
  const nlohmann::json json = {{"recipe", config.recipe},
                               {"precision", config.train.precision},
                               {"cores", m.limits.cores},
                               {"threads", engine::num_threads()},
                               {"isa", engine::name_of(engine::usable_isa())},
                               {"f32_gflops", m.f32},
                               {"bf16_gflops", m.bf16},
                               {"memory_gb_s", m.memory},
                               {"jpeg_per_s", m.pictures},
                               {"disk_mb_s", m.disk},
                               {"step_s", f.step_s},
                               {"views_per_s", static_cast<double>(config.train.batch) / f.step_s},
                               {"needs_bytes", f.needs},
                               {"available_bytes", f.available},
                               {"cuda", cuda_of_build()},
                               {"gpus", gpu_json(devices)},
                               {"advice", helps}};
  write_result(options, text, json.dump());
  return 0;
}

}  // namespace tools
