#pragma once

#include <memory>
#include <vector>

#include "moe/cnn/image_gate.h"
#include "moe/cnn/image_router.h"
#include "moe/routing.h"
#include "nn/layer.h"

namespace moe {

struct ImageMoeConfig {
  int64_t experts = 4, top_k = 1;
  ImageRouterKind router = ImageRouterKind::kGapFc;
  GateWeight weight = GateWeight::kStraightThrough;
  // In training: select by noisy scores; ceil(T top_k capacity_factor / N) images an expert, 0:
  // all.
  bool noisy_selection = false;
  double capacity_factor = 0;
  // Error(kValue) for sizes that make no sense.
  void check() const;
};

// What a model passes to its layers by way of nn::Forward, and what they report. Reused from pass
// to pass.
struct ImageMoePass final : nn::Reports {
  std::vector<Routing> routings;       // one entry a layer, by its number; one token an image
  std::vector<int64_t> fixed_experts;  // by layer: this expert alone, unweighted; -1: routing
  std::vector<std::vector<engine::Tensor>> parts;  // by layer: memory for the experts' outputs

  explicit ImageMoePass(int64_t layers)
      : routings(static_cast<size_t>(layers)),
        fixed_experts(static_cast<size_t>(layers), -1),
        parts(static_cast<size_t>(layers)) {}
};

// A mixture in the place of a block or a convolution (spec 2.1, 2.4): y_b = sum over the chosen
// experts of weight_be expert_e(x_b). An expert runs on the images that chose it alone, and not at
// all if none did; its batch norms see no others. The router sees the tensor that the experts see.
class ImageMoe final : public nn::Layer {
 public:
  // `number`: of the layer among the model's MoE layers. All experts make the same shape.
  ImageMoe(int64_t number, int64_t channels, const ImageMoeConfig& config,
           std::vector<std::unique_ptr<nn::Layer>> experts);
  // f.reports must be an ImageMoePass with room for this layer (Error(kInternal)).
  engine::Tensor forward(nn::Forward& f, const engine::Tensor& x) const override;
  void visit(nn::ParamVisitor& v) override;
  void add_cost(nn::PictureSize& size, nn::Cost& cost) const override;

 private:
  void choose(nn::Forward& f, const engine::Tensor& x, Routing& r) const;

  int64_t number_;
  ImageMoeConfig config_;
  ImageRouter router_;
  std::vector<std::unique_ptr<nn::Layer>> experts_;
};

}  // namespace moe
