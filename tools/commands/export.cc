#include <iostream>

#include "tools/commands/checkpoint_input.h"
#include "tools/commands/command.h"
#include "tools/commands/options.h"
#include "train/init/timm_names.h"
#include "train/init/torchvision_names.h"
#include "train/model.h"
#include "train/safetensors.h"

namespace tools {

int run_export(int argc, char** argv) {
  Options options("export",
                  "Write a plain vision transformer's weights under timm's names, or a "
                  "residual network's as torchvision has them.");
  options.add_value("checkpoint", "run directory (its latest), step directory or .safetensors", "",
                    "PATH");
  options.add_flag("ema", "take the averaged weights");
  options.add_flag("allow-nonfinite", "read weights that are not finite, too");
  options.add_value("out", "the file to write", "", "FILE.safetensors");
  if (!options.parse(argc, argv)) return 0;
  const std::string checkpoint = options.required("checkpoint"), out = options.required("out");
  check_apart(out, checkpoint);
  check_writable(out);
  const train::LoadedModel loaded =
      train::load_model(checkpoint, options.has("ema"), options.has("allow-nonfinite"));
  train::SourceTensors ours;
  const engine::ParamStore& params = loaded.model->params;
  for (const auto& entry : params.entries()) {
    const engine::Tensor values = params.view(entry, engine::Slab::kValue);
    const auto* begin = values.data<const float>();
    ours[entry.path] = {entry.shape, {begin, begin + values.numel()}};
  }
  const bool vit = train::is_vit(loaded.config);
  train::SourceTensors theirs =
      vit ? train::to_timm(ours, loaded.config) : train::to_torchvision(ours);
  std::vector<train::NamedTensor> tensors;
  for (auto& [name, tensor] : theirs) {
    tensors.push_back({name, engine::Tensor(tensor.values.data(), tensor.shape, engine::Dtype::kF32,
                                            engine::Device::kCpu)});
  }
  train::write_safetensors(out, tensors, {{"format", "pt"}});
  std::cout << out << ": " << tensors.size() << " tensors\n";
  if (!vit) return 0;
  if (loaded.config.model.gelu != "erf") {
    std::cerr << "robustmoe: warning: this model's GELU is the tanh approximation; give timm "
                 "act_layer=\"gelu_tanh\"\n";
  }
  if (loaded.config.model.pool == "mean") {
    std::cerr << "robustmoe: warning: this model averages patches; give timm global_pool=\"avg\", "
                 "class_token=False, fc_norm=False\n";
  }
  return 0;
}

}  // namespace tools
