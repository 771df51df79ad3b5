#include "data/dataset.h"

#include <zlib.h>

#include <algorithm>
#include <array>

#include "data/cifar.h"
#include "data/idx.h"
#include "data/names.h"
#include "data/packed/packed.h"
#include "data/pictures/flowers.h"
#include "data/pictures/image_folder.h"
#include "data/pictures/imagenet.h"
#include "data/relabelled.h"
#include "data/shapes.h"
#include "engine/core/error.h"

namespace data {
namespace {

struct Kind {
  const char* name;
  std::unique_ptr<Dataset> (*open)(const std::string& path, Split split,
                                   const OpenOptions& options);
};

// For kinds that have no bad pictures to skip: their files are whole or refused.
template <std::unique_ptr<Dataset> (*kOpen)(const std::string&, Split)>
std::unique_ptr<Dataset> whole(const std::string& path, Split split, const OpenOptions&) {
  return kOpen(path, split);
}

// Every kind of data set there is.
constexpr Kind kKinds[] = {
    {"cifar10", &whole<open_cifar10>},
    {"cifar100", &whole<open_cifar100>},
    {"flowers102", &open_flowers},
    {"idx", &whole<open_idx>},
    {"image-folder", &open_image_folder},
    {"imagenet", &open_imagenet},
    {"packed", &open_packed},
    {"tiny-imagenet", &open_tiny_imagenet},
    {"shapes", &whole<open_shapes>},
};

}  // namespace

const char* split_name(Split split) { return split == Split::kTrain ? "train" : "test"; }

std::unique_ptr<Dataset> open_dataset(const std::string& spec, Split split,
                                      const OpenOptions& options) {
  const size_t colon = spec.find(':');
  const std::string name = spec.substr(0, colon);
  const std::string path = colon == std::string::npos ? "" : spec.substr(colon + 1);
  std::vector<std::string> names;
  for (const Kind& kind : kKinds) {
    if (name == kind.name) return with_classes(kind.open(path, split, options), options.classes);
    names.push_back(kind.name);
  }
  engine::fail(engine::ErrorKind::kValue, "data: unknown kind \"", name, "\" in \"", spec,
               "\", expected KIND:PATH; did you mean \"", nearest_name(name, names),
               ":\"? Kinds: ", join(names));
}

uint32_t sample_crc32(const Dataset& dataset, int64_t images) {
  const int64_t count = std::min<int64_t>(64, images);
  ImageU8 image;
  uLong crc = crc32_z(0, nullptr, 0);
  const auto add = [&](const void* data, size_t bytes) {
    crc = crc32_z(crc, static_cast<const Bytef*>(data), bytes);
  };
  for (int64_t k = 0; k < count; ++k) {
    const int64_t i = k * images / count;
    dataset.read(i, image);
    const std::array<int64_t, 4> head = {image.height, image.width, image.channels,
                                         dataset.label(i)};
    add(head.data(), sizeof head);
    add(image.pixels.data(), image.pixels.size());
  }
  return static_cast<uint32_t>(crc);
}

}  // namespace data
