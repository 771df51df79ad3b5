#include "data/dataset.h"

#include "data/cifar.h"
#include "data/idx.h"
#include "data/names.h"
#include "data/shapes.h"
#include "engine/core/error.h"

namespace data {
namespace {

struct Kind {
  const char* name;
  std::unique_ptr<Dataset> (*open)(const std::string& path, Split split);
};

// Every kind of data set there is.
constexpr Kind kKinds[] = {
    {"cifar10", &open_cifar10},
    {"cifar100", &open_cifar100},
    {"idx", &open_idx},
    {"shapes", &open_shapes},
};

}  // namespace

const char* split_name(Split split) { return split == Split::kTrain ? "train" : "test"; }

std::unique_ptr<Dataset> open_dataset(const std::string& spec, Split split) {
  const size_t colon = spec.find(':');
  const std::string name = spec.substr(0, colon);
  const std::string path = colon == std::string::npos ? "" : spec.substr(colon + 1);
  std::vector<std::string> names;
  for (const Kind& kind : kKinds) {
    if (name == kind.name) return kind.open(path, split);
    names.push_back(kind.name);
  }
  engine::fail(engine::ErrorKind::kValue, "data: unknown kind \"", name, "\" in \"", spec,
               "\", expected KIND:PATH; did you mean \"", nearest_name(name, names),
               ":\"? Kinds: ", join(names));
}

}  // namespace data
