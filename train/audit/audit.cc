#include "train/audit/audit.h"

#include <optional>

#include "data/loader.h"
#include "engine/core/error.h"
#include "train/audit/content.h"
#include "train/audit/dump.h"
#include "train/audit/pairs.h"
#include "train/evaluate.h"
#include "train/model.h"
#include "train/network.h"

namespace train {

using engine::check;
using engine::ErrorKind;

namespace {

// Over two views of every image. Returns the number of images.
int64_t audit_pairs(Inference& inference, const Config& config, data::Loader& loader,
                    std::vector<LayerAudit>& layers, AuditDump* dump) {
  int64_t images = 0;
  std::vector<uint8_t> flat;
  std::vector<AuditPair> pairs;
  while (const data::Batch* batch = loader.next()) {
    const engine::Tensor pixels = pixels_of(*batch, config);
    find_flat_patches(pixels, routed_patch(config), flat);
    const moe::ModelOutput& out = inference.run(pixels);
    find_pairs(match_of(*batch), flat, out.routings[0].tokens, pairs);
    for (size_t l = 0; l < out.routings.size(); ++l) {
      if (layers.size() == l) layers.emplace_back(out.routings[l]);
      layers[l].add(out.routings[l], pairs, batch->sources);
      if (dump != nullptr) dump->add_views(*batch, out.routings[l], pairs, flat);
    }
    images += batch->sources;
  }
  return images;
}

}  // namespace

AuditResult audit_model(const Network& network, const Config& config, const data::Dataset& dataset,
                        const AuditOptions& options) {
  check(
      network.has_experts(), ErrorKind::kValue,
      "audit: this model has no MoE layers (moe.layers is none), so there is no routing to audit");
  NoiseSweep sweep(config, options.seed, options.noise_sigmas);
  std::optional<AuditDump> dump;
  if (!options.dump_path.empty()) dump.emplace();

  Inference inference(network);
  AuditResult result;
  std::vector<LayerAudit> layers;
  {
    data::Loader loader = data::Loader::evaluation(dataset, audit_loader(config, options.seed));
    result.n_images = audit_pairs(inference, config, loader, layers, dump ? &*dump : nullptr);
  }
  for (const LayerAudit& layer : layers) result.layers.push_back(layer.figures());
  check(result.layers[0].n_pairs > 0, ErrorKind::kValue, "audit: among ", result.n_images,
        " images no patch of one view has a partner in the other with more than one colour, so "
        "there is nothing to compare; take more images or another augment.crop");

  data::Loader loader = data::Loader::evaluation(dataset, evaluation_loader(config));
  std::optional<NoisePath> path;
  if (options.path_steps > 0) {
    path.emplace(config, options.seed, options.path_steps, options.path_sigma);
  }
  ContentCounter content(config, dataset);
  while (const data::Batch* batch = loader.next()) {
    sweep.add(inference, *batch);
    content.add(*batch, sweep.last_rows());
    if (path) path->add(inference, *batch);
    if (dump) dump->add_sweep(*batch, sweep);
  }
  for (size_t l = 0; l < result.layers.size(); ++l) content.fill(l, result.layers[l]);
  result.noise_sweep = sweep.figures();
  if (path) result.noise_path = path->figures();
  if (dump) dump->write(options.dump_path, sweep);
  return result;
}

}  // namespace train
