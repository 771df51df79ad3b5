#include "tools/commands/session.h"

#include <omp.h>

#include <iostream>

#include "engine/core/cpu_limits.h"
#include "engine/core/error.h"
#include "train/device.h"
#include "train/model.h"

namespace tools {

std::string one_line(const std::string& message) {
  constexpr size_t kLongestMessage = 20000;
  std::string line;
  for (const char c : message) {
    if (c == '\n')
      line += "\\n";
    else
      line += static_cast<unsigned char>(c) < ' ' || c == 127 ? ' ' : c;
  }
  if (line.size() <= kLongestMessage) return line;
  const size_t half = kLongestMessage / 2;
  return line.substr(0, half) + " [...] " + line.substr(line.size() - half);
}

std::string shell_word(const std::string& text) {
  const char* plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+=:,@%";
  if (!text.empty() && text.find_first_not_of(plain) == std::string::npos) return text;
  std::string word = "'";
  for (const char c : text) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return word + "'";
}

volatile std::sig_atomic_t stop_requested = 0;

void note_stop_signals() {
  const auto note = [](int) { stop_requested = 1; };
  std::signal(SIGINT, note);
  std::signal(SIGTERM, note);
}

void use_threads(int64_t threads) {
  omp_set_dynamic(0);
  omp_set_num_threads(static_cast<int>(threads > 0 ? threads : engine::cpu_limits().threads()));
}

std::unique_ptr<data::Dataset> open_data(const std::string& spec, const data::SplitPart& part,
                                         const train::Config& config,
                                         const std::vector<std::string>& classes) {
  std::vector<std::string> skipped;
  data::OpenOptions options;
  options.jpeg = train::jpeg_dialect(config);
  options.skip_bad = config.data.skip_bad_images;
  options.skipped = &skipped;
  options.classes = classes;
  auto dataset = data::open_dataset(spec, part, options);
  for (const std::string& line : skipped)
    std::cerr << "robustmoe: skipped: " << one_line(line) << "\n";
  if (options.skip_bad) {
    std::cerr << "robustmoe: " << part.text << ": " << skipped.size() << " bad images skipped, "
              << dataset->size() << " left\n";
  }
  return dataset;
}

void add_device_option(Options& options) {
  options.add_value("device", "where the model runs: cpu, cuda or cuda:N", "", "DEVICE");
}

engine::Device device_from(const Options& options) {
  if (!options.has("device")) return engine::Device::kCpu;
  try {
    return train::open_device(options.get("device"));
  } catch (const engine::Error& error) {
    if (error.kind() != engine::ErrorKind::kValue) throw;
    throw UsageError("--device: " + error.message());
  }
}

void set_train_value(train::Config& config, const Options& options, const std::string& name) {
  if (!options.has(name)) return;
  try {
    train::set_value(config, "train." + name + "=" + options.get(name), "--" + name);
  } catch (const engine::Error& error) {
    throw UsageError(error.message());
  }
}

}  // namespace tools
