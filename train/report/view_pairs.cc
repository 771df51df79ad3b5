#include "train/report/view_pairs.h"

#include "train/audit/pairs.h"
#include "train/model.h"
#include "train/network.h"
#include "train/predict/seen_picture.h"
#include "train/report/chosen_images.h"
#include "train/report/noise_routes.h"

namespace train {

ViewPairs look_at_views(Inference& inference, const Config& config, const data::Dataset& dataset,
                        const std::vector<int64_t>& chosen, uint64_t seed) {
  ViewPairs pairs;
  pairs.images = static_cast<int64_t>(chosen.size());
  std::vector<uint8_t> flat;
  const auto look = [&](int64_t /*k*/, const data::Batch& batch) {
    const engine::Tensor pixels = pixels_of(batch, config);
    find_flat_patches(pixels, routed_patch(config), flat);
    pairs.flat.insert(pairs.flat.end(), flat.begin(), flat.end());
    pairs.match.insert(pairs.match.end(), batch.match.begin(), batch.match.end());
    pairs.patches = static_cast<int64_t>(batch.match.size());
    const int64_t image = pixels.numel() / 2;
    for (int64_t view = 0; view < 2; ++view) {
      pairs.pictures.push_back(data_uri(seen_picture(batch.pixels.data() + view * image, config)));
    }
    const moe::ModelOutput& out = inference.run(pixels);
    for (size_t l = 0; l < out.routings.size(); ++l) {
      const moe::Routing& r = out.routings[l];
      if (pairs.layers.size() == l) pairs.layers.push_back({r.layer, r.experts, {}});
      for (int64_t view = 0; view < 2; ++view) {
        const float* rows =
            r.clean.data<const float>() + (view * r.tokens + (r.class_token ? 1 : 0)) * r.experts;
        std::vector<float>& to = pairs.layers[l].clean;
        to.insert(to.end(), rows, rows + pairs.patches * r.experts);
      }
    }
  };
  for_each_chosen(dataset, audit_loader(config, seed), chosen, look);
  return pairs;
}

}  // namespace train
