#include "tools/commands/bench_data.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "data/codec/decode_jpeg.h"
#include "data/codec/encode_image.h"
#include "data/packed/packed.h"
#include "data/pictures/picture_files.h"
#include "engine/core/op_times.h"
#include "engine/core/rng.h"
#include "tools/commands/bench_config.h"
#include "tools/commands/checkpoint_input.h"
#include "tools/commands/made_up_picture.h"
#include "tools/commands/session.h"
#include "train/file_io.h"
#include "train/metrics.h"
#include "train/model.h"

namespace tools {
namespace {

namespace fs = std::filesystem;

struct Size {
  int64_t width = 0, height = 0;
};

Size size_from(const std::string& text) {
  Size size;
  const char *end = text.data() + text.size(),
             *x = text.data() + std::min(text.find('x'), text.size());
  const auto width = std::from_chars(text.data(), x, size.width);
  const auto height = std::from_chars(std::min(x + 1, end), end, size.height);
  if (width.ec != std::errc() || width.ptr != x || height.ec != std::errc() || height.ptr != end ||
      size.width < 1 || size.height < 1 || size.width > 8192 || size.height > 8192) {
    throw UsageError("bench: --size is " + text + ", expected WIDTHxHEIGHT up to 8192, as 500x375");
  }
  return size;
}

// A new folder that is there as long as the object.
class Folder {
 public:
  Folder() {
    std::error_code trouble;
    const fs::path where = fs::temp_directory_path(trouble);
    engine::check(!trouble, engine::ErrorKind::kIo,
                  "TMPDIR names no folder to make pictures in; set it to one that can be written");
    std::string pattern = (where / "robustmoe-bench-XXXXXX").string();
    engine::check(mkdtemp(pattern.data()) != nullptr, engine::ErrorKind::kIo, pattern,
                  ": cannot make a folder for pictures; set TMPDIR to a place that can be written");
    path_ = pattern;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// JPEG files in a folder of their own.
class Pictures {
 public:
  Pictures(int64_t count, const Size& size, int quality) {
    constexpr int64_t kDifferent = 32;  // drawing them takes longer than measuring
    for (int64_t i = 0; i < count; ++i) {
      const engine::RngKey key(static_cast<uint64_t>(i), engine::Purpose::kTest);
      if (i < kDifferent)
        jpegs_.push_back(data::encode_jpeg(made_up_picture(size.width, size.height, key), quality));
      const std::vector<uint8_t>& jpeg = jpegs_[static_cast<size_t>(i % kDifferent)];
      const std::string path = (folder_.path() / (std::to_string(i) + ".jpg")).string();
      train::write_file(path, {reinterpret_cast<const char*>(jpeg.data()), jpeg.size()});
      paths.push_back(path);
      bytes += static_cast<int64_t>(jpeg.size());
    }
  }
  // The files, or, at 256 pixels, a packed one.
  std::unique_ptr<data::Dataset> open(const train::Config& config, bool packed, int quality) const {
    auto plain = std::make_unique<data::PictureFiles>(paths, 3, train::jpeg_dialect(config));
    if (!packed) return plain;
    data::PackWriter writer((folder_.path() / "train.pack").string(), "bench", {"0"});
    data::PackOptions packing;
    packing.quality = quality;
    data::pack_set(*plain, packing, writer);
    writer.finish();
    data::OpenOptions options;
    if (quality > 0) options.jpeg = train::jpeg_dialect(config);
    return data::open_packed(folder_.path().string(), data::Split::kTrain, options);
  }

  std::vector<std::string> paths;
  int64_t bytes = 0;

 private:
  Folder folder_;
  std::vector<std::vector<uint8_t>> jpegs_;
};

std::string packed_as(int64_t quality) {
  return quality == 0 ? "packed at 256 px as pixels from "
                      : "packed at 256 px with quality " + std::to_string(quality) + " from ";
}

}  // namespace

int bench_data(const Options& options) {
  const std::string json = options.get("json");
  if (!json.empty() && json != "-") check_writable(json);
  const int64_t workers = options.integer("workers", 0, 1024),
                seconds = options.integer("seconds", 1, 3600),
                images = options.integer("images", 1, 100000),
                quality = options.integer("quality", 1, 100),
                pack_quality = options.integer("pack-quality", 0, 100);
  const Size size = size_from(options.get("size"));
  train::Config config = bench_config(options);
  engine::check(config.model.channels == 3, engine::ErrorKind::kValue,
                "bench data: model.channels is ", config.model.channels,
                ", but its pictures have 3");

  const Pictures files(images, size, static_cast<int>(quality));
  const std::unique_ptr<data::Dataset> set =
      files.open(config, options.has("packed"), static_cast<int>(pack_quality));
  data::LoaderOptions loading = train::training_loader(config);
  loading.workers = workers;
  loading.batch = 16;
  loading.limit = 0;
  data::Loader loader(*set, loading);
  for (int64_t i = 0; i <= loading.prefetch; ++i) loader.next();
  const double start = engine::OpTimes::now_s();
  double passed = 0;
  int64_t sources = 0, views = 0;
  while (passed < static_cast<double>(seconds)) {
    const data::Batch* batch = loader.next();
    sources += batch->sources;
    views += batch->views;
    passed = engine::OpTimes::now_s() - start;
  }
  const double rate = static_cast<double>(sources) / passed;
  std::ostream& text = json == "-" ? std::cerr : std::cout;
  text << config.recipe << ": " << rate << " images/s into " << views / sources << " view"
       << (views > sources ? "s" : "") << " of " << config.model.image_size << " px each, "
       << workers << " workers; " << (options.has("packed") ? packed_as(pack_quality) : "")
       << "JPEG files of " << size.width << "x" << size.height << ", "
       << files.bytes / images / 1024 << " KiB each, by " << data::jpeg_decoder() << "\n";
  const train::Fields fields{{"recipe", config.recipe},
                             {"images_per_s", rate},
                             {"views_per_s", static_cast<double>(views) / passed},
                             {"workers", workers},
                             {"images", sources},
                             {"seconds", passed},
                             {"packed", static_cast<int64_t>(options.has("packed"))},
                             {"pack_quality", pack_quality},
                             {"file_bytes", files.bytes / images},
                             {"decoder", std::string(data::jpeg_decoder())}};
  if (json == "-") {
    std::cout << train::json_line(fields) << "\n";
  } else if (!json.empty()) {
    train::write_file(json, train::json_line(fields) + "\n");
  }
  return 0;
}

}  // namespace tools
