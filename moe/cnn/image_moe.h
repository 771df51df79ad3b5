#pragma once

#include <memory>
#include <string>
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
  // Each of grid x grid patches of a picture is routed by itself, with as many pixels of its
  // neighbours around it as the layer's stride, so that one expert for all patches of a 3x3 or 1x1
  // convolution makes what it makes of the whole. 1: whole pictures.
  int64_t grid = 1;
  // Error(kValue) for sizes that make no sense.
  void check() const;
};

// A mixture in the place of a block or a convolution (spec 2.1, 2.4): y_b = sum over the chosen
// experts of weight_be expert_e(x_b). An expert runs on the images that chose it alone, and not at
// all if none did; its batch norms see no others. The router sees the tensor that the experts see.
// Follows f.orders (moe/routing.h). With a grid, "image" reads "patch".
class ImageMoe final : public nn::Layer {
 public:
  // Of every expert: channels in and out, how many times fewer pixels each way, rounded up, and
  // whether it has batch norms.
  struct Sizes {
    int64_t in, out, stride;
    bool norms;
  };
  // `number`: of the layer among the model's MoE layers. `path`: for messages.
  ImageMoe(int64_t number, std::string path, const Sizes& sizes, const ImageMoeConfig& config,
           std::vector<std::unique_ptr<nn::Layer>> experts);
  // f.reports must be a ModelOutput with room for this layer (Error(kInternal)). Error(kShape) for
  // a picture that the grid and the stride do not divide.
  engine::Tensor forward(nn::Forward& f, const engine::Tensor& x) const override;
  void visit(nn::ParamVisitor& v) override;
  // Error(kValue) for pictures that it cannot work on: not divided by the grid and the stride, too
  // small for the router's kernel, or of a single pixel where an expert's norms may see one image.
  void add_cost(nn::PictureSize& size, nn::Cost& cost) const override;

 private:
  void choose(nn::Forward& f, const engine::Tensor& x, Routing& r) const;
  // Of the pictures or patches x.
  engine::Tensor mix(nn::Forward& f, const engine::Tensor& x, ModelOutput& out) const;

  void check_picture(nn::PictureSize size) const;

  int64_t number_;
  std::string path_;
  Sizes sizes_;
  ImageMoeConfig config_;
  ImageRouter router_;
  std::vector<std::unique_ptr<nn::Layer>> experts_;
};

}  // namespace moe
