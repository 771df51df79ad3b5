#include <vector>

#include "train/config_fields.h"

namespace train {
namespace {

// One name of one of kNamedKeys, and what it stands for.
struct Named {
  const char *key, *name;
  std::vector<std::pair<const char*, GivenValue>> values;
};

Named size(const char* name, int64_t width, int64_t layers, int64_t mlp, int64_t heads) {
  return {"model.size",
          name,
          {{"model.width", width},
           {"model.layers", layers},
           {"model.mlp", mlp},
           {"model.heads", heads}}};
}

Named strength(const char* name, int64_t layers, double magnitude, double mixup) {
  return {"augment.strength",
          name,
          {{"augment.randaugment", std::string("vmoe")},
           {"augment.randaugment_layers", layers},
           {"augment.randaugment_magnitude", magnitude},
           {"augment.mixup", mixup}}};
}

const std::vector<Named>& all_named() {
  static const std::vector<Named> named = {
      // vmoe: configs/vmoe_paper/common.py; T is the PRC fork's, in its file of the same name.
      size("T", 384, 8, 1024, 4),
      size("S", 512, 8, 2048, 8),
      size("B", 768, 12, 3072, 12),
      size("L", 1024, 24, 4096, 16),
      size("H", 1280, 32, 5120, 16),
      // vmoe: configs/vmoe_paper/common.py
      strength("light0", 2, 0, 0),
      strength("light1", 2, 10, 0.2),
      strength("medium1", 2, 15, 0.2),
      strength("medium2", 2, 15, 0.5),
      strength("strong1", 2, 20, 0.5),
      strength("strong2", 2, 20, 0.8),
      strength("extreme1", 4, 15, 0.5),
      strength("extreme2", 4, 20, 0.8),
  };
  return named;
}

}  // namespace

void apply_named(Config& config, std::string_view key, Origin origin, bool keep_set) {
  for (const Named& named : all_named()) {
    if (key != named.key) continue;
    const Field chosen = find_field(config, named.key, named.key);
    if (*std::get<std::string*>(chosen.value) != named.name) continue;
    for (const auto& [target, value] : named.values) {
      Source& source = config.sources[target];
      if (keep_set && source.origin == Origin::kSet && source.note.empty()) continue;
      assign(find_field(config, target, target), value, "", named.key);
      source = {origin, std::string(named.key) + " " + named.name};
    }
  }
}

}  // namespace train
