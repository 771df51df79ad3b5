#include "train/attacks/attack.h"

#include <map>

#include "tools/commands/attack_options.h"
#include "tools/commands/checkpoint_input.h"
#include "tools/commands/command.h"
#include "tools/commands/options.h"
#include "train/safetensors.h"

namespace tools {
namespace {

Options attack_command_options() {
  Options options("attack",
                  "Accuracy under attack: images changed so little that people hardly see it.");
  add_checkpoint_options(options);
  add_attack_options(options, "pgd");
  options.add_value("save", "write the images before and after each attack", "",
                    "FILE.safetensors");
  return options;
}

// "images", "labels" and "right", and "NAME.images" and "NAME.broken" of each attack; of a name
// that is there twice the second is "NAME.2".
void save_images(const std::string& path, train::AttackImages& images, const train::Config& config,
                 const std::vector<train::AttackPlan>& plans) {
  const auto n = static_cast<int64_t>(images.labels.size());
  const engine::Shape shape{n, config.model.channels, config.model.image_size,
                            config.model.image_size};
  std::vector<train::NamedTensor> tensors;
  const auto add = [&]<class T>(const std::string& name, std::vector<T>& v,
                                const engine::Shape& as) {
    tensors.push_back(
        {name, engine::Tensor(v.data(), as, engine::dtype_of<T>(), engine::Device::kCpu)});
  };
  add("images", images.clean, shape);
  add("labels", images.labels, {n});
  add("right", images.right, {n});
  std::map<std::string, int> seen;
  for (size_t a = 0; a < plans.size(); ++a) {
    std::string name = plans[a].name();
    const int before = seen[name]++;
    if (before > 0) name += "." + std::to_string(before + 1);
    add(name + ".images", images.attacks[a].adversarial, shape);
    add(name + ".broken", images.attacks[a].broken, {n});
  }
  train::write_safetensors(path, tensors);
}

}  // namespace

int run_attack(int argc, char** argv) {
  Options options = attack_command_options();
  if (!options.parse(argc, argv)) return 0;
  std::vector<train::AttackPlan> plans = attack_plans(options);
  if (plans.empty()) throw UsageError("--attack names none; expected pgd, for one");
  const std::string save = options.get("save");
  if (!save.empty()) {
    check_apart(save, options.required("checkpoint"));
    check_writable(save);
  }
  const CheckpointInput input = open_checkpoint_input(options);
  const std::vector<float> starts = attack_starts(options, input.loaded.config);
  for (train::AttackPlan& plan : plans) plan.pgd.starts = starts;
  train::AttackImages images;
  const train::AttackResult result =
      train::attack_model(*input.loaded.model->network, input.loaded.config, *input.dataset, plans,
                          save.empty() ? nullptr : &images);
  if (!save.empty()) save_images(save, images, input.loaded.config, plans);
  train::Fields head = describe(input, options);
  for (const auto& field : attack_fields(options)) head.push_back(field);
  write_result(options,
               headline(input, options) + neighbour_warning(input.loaded.config) +
                   attack_headline(options) + train::attack_text(result),
               train::attack_json(result, head));
  return 0;
}

}  // namespace tools
