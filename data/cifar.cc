#include "data/cifar.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <utility>

#include "data/input_file.h"
#include "data/memory_dataset.h"
#include "data/names.h"
#include "engine/core/error.h"

namespace data {
namespace {

using engine::check;
using engine::ErrorKind;

constexpr int64_t kSide = 32, kChannels = 3, kPlane = kSide * kSide;

// What tells the two sets apart.
struct Layout {
  const char* kind;
  const char* folder;  // as unpacked from the published archive
  const char* names;
  int64_t classes;
  std::vector<int64_t> label_limits;  // one for each label byte; the last is the class
  std::vector<std::string> files;
  int64_t records_per_file;  // as published

  int64_t record_bytes() const {
    return static_cast<int64_t>(label_limits.size()) + kChannels * kPlane;
  }
};

Layout cifar10(Split split) {
  Layout layout{"cifar10", "cifar-10-batches-bin", "batches.meta.txt", 10, {10}, {}, 10000};
  if (split == Split::kTest) {
    layout.files = {"test_batch.bin"};
  } else {
    for (int i = 1; i <= 5; ++i) layout.files.push_back("data_batch_" + std::to_string(i) + ".bin");
  }
  return layout;
}

Layout cifar100(Split split) {
  const bool train = split == Split::kTrain;
  return {"cifar100",
          "cifar-100-binary",
          "fine_label_names.txt",
          100,
          {20, 100},
          {train ? "train.bin" : "test.bin"},
          train ? 50000 : 10000};
}

std::filesystem::path find_folder(const Layout& layout, const std::string& path) {
  check(!path.empty(), ErrorKind::kValue, layout.kind, ": no folder given, expected ", layout.kind,
        ":FOLDER");
  std::error_code ignored;
  check(std::filesystem::is_directory(path, ignored), ErrorKind::kIo, layout.kind, ": no folder \"",
        path, "\", expected one that holds ", layout.folder, " or ", join(layout.files));
  const std::filesystem::path inner = std::filesystem::path(path) / layout.folder;
  const std::filesystem::path folder =
      std::filesystem::is_directory(inner, ignored) ? inner : std::filesystem::path(path);
  for (const std::string& file : layout.files) {
    check(std::filesystem::exists(folder / file, ignored), ErrorKind::kIo, layout.kind, ": ",
          (folder / file).string(), " is missing, expected the folder ", layout.folder, " or ",
          join(layout.files), " in ", path);
  }
  return folder;
}

std::vector<std::string> read_names(const Layout& layout, const std::filesystem::path& folder) {
  std::ifstream file(folder / layout.names);
  if (!file) return number_names(layout.classes);
  std::vector<std::string> names;
  for (std::string line; std::getline(file, line);) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (!line.empty()) names.push_back(line);
  }
  check(static_cast<int64_t>(names.size()) == layout.classes, ErrorKind::kFormat,
        (folder / layout.names).string(), ": ", names.size(), " class names, expected ",
        layout.classes, ", one a line; repair or remove the file");
  return names;
}

// Adds the pictures of one file, planes interleaved.
void read_records(const Layout& layout, const std::string& path, std::vector<uint8_t>& pixels,
                  std::vector<int32_t>& labels) {
  InputFile file(path);
  std::vector<uint8_t> record(static_cast<size_t>(layout.record_bytes()));
  std::array<uint8_t, kChannels * kPlane> picture;
  int64_t n = 0;
  for (;; ++n) {
    const int64_t start = file.offset();
    const int64_t got = file.read(record.data(), layout.record_bytes());
    if (got == 0) break;
    check(got == layout.record_bytes(), ErrorKind::kFormat, file.at(start), ": record ", n, " has ",
          got, " bytes, expected ", layout.record_bytes(),
          "; the file is truncated or damaged, download it again");
    check(n < layout.records_per_file, ErrorKind::kFormat, file.at(start),
          ": the file goes on after ", n, " records, where it should end; it is not of ",
          layout.kind);
    for (size_t l = 0; l < layout.label_limits.size(); ++l) {
      check(record[l] < layout.label_limits[l], ErrorKind::kFormat,
            file.at(start + static_cast<int64_t>(l)), ": label ", int{record[l]},
            ", expected 0 to ", layout.label_limits[l] - 1, "; the file is damaged or not of ",
            layout.kind);
    }
    labels.push_back(record[layout.label_limits.size() - 1]);
    const uint8_t* planes = record.data() + layout.label_limits.size();
    for (int64_t p = 0; p < kPlane; ++p) {
      for (int64_t c = 0; c < kChannels; ++c) picture[kChannels * p + c] = planes[c * kPlane + p];
    }
    pixels.insert(pixels.end(), picture.begin(), picture.end());
  }
  check(n > 0, ErrorKind::kFormat, file.at(0), ": the file is empty, expected records of ",
        layout.record_bytes(), " bytes; download it again");
}

// Bytes of all its files, 0 where that is not known: what to reserve, since growing would copy
// everything again and again.
size_t bytes_of_files(const Layout& layout, const std::filesystem::path& folder) {
  size_t bytes = 0;
  for (const std::string& name : layout.files) {
    std::error_code failed;
    const uintmax_t size = std::filesystem::file_size(folder / name, failed);
    const auto most = static_cast<uintmax_t>(layout.records_per_file * layout.record_bytes());
    if (!failed) bytes += static_cast<size_t>(std::min(size, most));
  }
  return bytes;
}

std::unique_ptr<Dataset> open_cifar(const Layout& layout, const std::string& path) {
  const std::filesystem::path folder = find_folder(layout, path);
  Info info{layout.kind, kChannels, kSide, kSide, layout.classes, read_names(layout, folder)};
  std::vector<uint8_t> pixels;
  std::vector<int32_t> labels;
  pixels.reserve(bytes_of_files(layout, folder));
  for (const std::string& name : layout.files) {
    read_records(layout, (folder / name).string(), pixels, labels);
  }
  return std::make_unique<MemoryDataset>(std::move(info), std::move(pixels), std::move(labels));
}

}  // namespace

std::unique_ptr<Dataset> open_cifar10(const std::string& path, Split split) {
  return open_cifar(cifar10(split), path);
}

std::unique_ptr<Dataset> open_cifar100(const std::string& path, Split split) {
  return open_cifar(cifar100(split), path);
}

}  // namespace data
