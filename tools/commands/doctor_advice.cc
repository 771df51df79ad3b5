#include "tools/commands/doctor_advice.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace tools {

std::string number(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}
std::string gib(int64_t bytes) {
  return number(static_cast<double>(bytes) / (1 << 30), 1) + " GiB";
}

double images_of_step(const train::Config& config) {
  return static_cast<double>(config.train.batch) / (config.data.two_view ? 2 : 1);
}

std::vector<std::string> advice(const train::Config& config, const Machine& m, const Forecast& f,
                                int64_t threads, const std::string& isa) {
  std::vector<std::string> all;
  const bool in_bf16 = config.train.precision == "bf16";
  if (!in_bf16 && m.bf16 > 1.3 * m.f32) {
    all.push_back("--precision bf16: products " + number(m.bf16 / m.f32, 1) + " times as fast");
  }
  if (in_bf16 && 1.1 * m.bf16 < m.f32) {
    all.push_back("--precision f32: products " + number(m.f32 / m.bf16, 1) +
                  " times as fast, since this machine has no AMX");
  }
  if (f.available > 0 && f.needs > f.available) {
    all.push_back("--set train.micro_batch=N, N views at a time: the recipe's " + gib(f.needs) +
                  " do not fit");
  }
  const double wanted = images_of_step(config) / f.step_s;  // a second
  const int64_t workers = std::max<int64_t>(1, config.data.workers);
  // Crops, resizing and augmentation take as long again as decoding.
  const double loaded = static_cast<double>(workers) * m.pictures / 2;
  if (config.model.image_size >= 64 && loaded < wanted) {
    all.push_back("--set data.workers=" + number(std::ceil(2 * wanted / m.pictures)) +
                  " where it trains from JPEG files, or `robustmoe data pack`: a step wants " +
                  number(wanted) + " images/s, " + std::to_string(workers) + " worker" +
                  (workers > 1 ? "s" : "") + " load about " + number(loaded));
  }
  const int64_t worth = m.limits.threads();
  if (threads > worth) {
    all.push_back("--threads " + std::to_string(worth) + ": more only wait for each other");
  }
  if (!isa.empty()) {
    all.push_back("unset ROBUSTMOE_ISA: it allows products no more than " + isa);
  }
  return all;
}

}  // namespace tools
