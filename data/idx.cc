#include "data/idx.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "data/input_file.h"
#include "data/memory_dataset.h"
#include "data/names.h"
#include "engine/core/error.h"

namespace data {
namespace {

using engine::check;
using engine::ErrorKind;
using engine::fail;

constexpr int64_t kClasses = 10;
constexpr int64_t kMaxSide = 4096;

// CRC-32 of Fashion-MNIST's 60,000 and 10,000 label bytes.
constexpr uint32_t kFashionTrain = 0x2ed6e46a, kFashionTest = 0x242bc73f;

std::string find_file(const std::string& folder, const std::string& name) {
  std::error_code ignored;
  check(std::filesystem::is_directory(folder, ignored), ErrorKind::kIo, "idx: no folder \"", folder,
        "\", expected one that holds ", name, "[.gz]");
  for (const char* ending : {"", ".gz"}) {
    std::string path = (std::filesystem::path(folder) / (name + ending)).string();
    if (std::filesystem::exists(path, ignored)) return path;
  }
  fail(ErrorKind::kIo, "idx: neither ", name, " nor ", name, ".gz is in ", folder,
       "; name the folder that holds the four IDX files");
}

// Reads the magic number and the `rank` sizes after it.
std::array<int64_t, 3> read_header(InputFile& file, int rank) {
  std::array<uint8_t, 4> word{};
  file.read_exactly(word.data(), 4, "the magic number");
  const std::array<uint8_t, 4> magic{0, 0, 8, static_cast<uint8_t>(rank)};
  check(word == magic, ErrorKind::kFormat, file.at(0), ": magic number ", int{word[0]}, " ",
        int{word[1]}, " ", int{word[2]}, " ", int{word[3]}, ", expected 0 0 8 ", rank,
        " (IDX, unsigned bytes, ", rank, rank == 1 ? " axis); " : " axes); ",
        "it is not the file its name says");
  std::array<int64_t, 3> sizes{1, 1, 1};
  for (int axis = 0; axis < rank; ++axis) {
    file.read_exactly(word.data(), 4, "the header");
    sizes[axis] = int64_t{word[0]} << 24 | int64_t{word[1]} << 16 | int64_t{word[2]} << 8 | word[3];
    const int64_t most = axis == 0 ? INT32_MAX : kMaxSide;
    check(sizes[axis] > 0 && sizes[axis] <= most, ErrorKind::kFormat, file.at(file.offset() - 4),
          ": size ", sizes[axis], " on axis ", axis, ", expected 1 to ", most);
  }
  const int64_t bytes = sizes[0] * sizes[1] * sizes[2];
  check(bytes <= file.most_bytes(), ErrorKind::kFormat, file.at(4), ": the header promises ", bytes,
        " bytes, the file cannot hold more than ", file.most_bytes(),
        "; it is truncated, download it again");
  return sizes;
}

struct Images {
  int64_t n, height, width;
  std::vector<uint8_t> pixels;
};

Images read_images(const std::string& path) {
  InputFile file(path);
  const auto sizes = read_header(file, 3);
  Images images{sizes[0], sizes[1], sizes[2], {}};
  const int64_t each = images.height * images.width;
  images.pixels.resize(static_cast<size_t>(images.n * each));
  const int64_t got = file.read(images.pixels.data(), images.n * each);
  check(got == images.n * each, ErrorKind::kFormat, file.at(file.offset()),
        ": the file ends inside image ", got / each, " of ", images.n, ", expected ",
        16 + images.n * each, " bytes; it is truncated, download it again");
  file.expect_end("image " + std::to_string(images.n - 1));
  return images;
}

std::vector<uint8_t> read_labels(const std::string& path) {
  InputFile file(path);
  const int64_t n = read_header(file, 1)[0];
  std::vector<uint8_t> labels(static_cast<size_t>(n));
  file.read_exactly(labels.data(), n, "labels");
  file.expect_end("label " + std::to_string(n - 1));
  const auto bad =
      std::find_if(labels.begin(), labels.end(), [](uint8_t label) { return label >= kClasses; });
  check(bad == labels.end(), ErrorKind::kFormat, file.at(8 + (bad - labels.begin())), ": label ",
        bad == labels.end() ? 0 : int{*bad}, ", expected 0 to ", kClasses - 1,
        "; the file is damaged or has more classes than this format is used for here");
  return labels;
}

std::vector<std::string> class_names(const std::vector<uint8_t>& labels) {
  const auto crc =
      static_cast<uint32_t>(crc32_z(0, labels.data(), static_cast<z_size_t>(labels.size())));
  if (crc != kFashionTrain && crc != kFashionTest) return number_names(kClasses);
  return {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
          "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};
}

}  // namespace

std::unique_ptr<Dataset> open_idx(const std::string& path, Split split) {
  check(!path.empty(), ErrorKind::kValue, "idx: no folder given, expected idx:FOLDER");
  const std::string prefix = split == Split::kTrain ? "train" : "t10k";
  const std::string image_path = find_file(path, prefix + "-images-idx3-ubyte");
  const std::string label_path = find_file(path, prefix + "-labels-idx1-ubyte");
  Images images = read_images(image_path);
  const std::vector<uint8_t> labels = read_labels(label_path);
  check(images.n == static_cast<int64_t>(labels.size()), ErrorKind::kFormat, label_path,
        ": byte 4: ", labels.size(), " labels, expected ", images.n, ", one for each image of ",
        image_path, "; the two files are not of the same set");
  Info info{"idx", 1, images.height, images.width, kClasses, class_names(labels)};
  return std::make_unique<MemoryDataset>(std::move(info), std::move(images.pixels),
                                         std::vector<int32_t>(labels.begin(), labels.end()));
}

}  // namespace data
