#pragma once

#include <memory>

#include "moe/cnn/moe_resnet.h"
#include "moe/routing.h"
#include "moe/vmoe.h"
#include "train/config.h"

namespace train {

// A classifier of images, with or without mixtures of experts, as training, evaluation and attacks
// know it.
class Network {
 public:
  Network() = default;
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;
  virtual ~Network() = default;

  // images (B, C, S, S). In training mode f.sample_ids must name the B images.
  virtual void forward(nn::Forward& f, const engine::Tensor& images,
                       moe::ModelOutput& out) const = 0;
  virtual void visit(nn::ParamVisitor& v) = 0;

  // What those who run the model are to put into nn::Forward.
  virtual engine::Precision precision() const = 0;
  virtual bool has_experts() const = 0;
  // Not so in Soft MoE, whose slots are mixtures of all tokens.
  virtual bool chooses_experts() const = 0;
  // Of the MoE layers, in order: "block 5", "layer4.1".
  virtual std::vector<std::string> moe_layer_names() const = 0;
  // Where one image's prediction depends on others, at evaluation: how many images share a routing
  // group, which batches must be a multiple of; 0: none does, or a whole batch is one group.
  virtual int64_t dependent_images() const = 0;
  // Multiply-adds of one forward pass of one image (products only).
  virtual nn::Cost cost_per_image() const = 0;

  // Where its parameters are; the tape of a forward pass must be there, too.
  engine::Device device() const { return device_; }
  void put_on(engine::Device device) { device_ = device; }

 private:
  engine::Device device_ = engine::Device::kCpu;
};

// Whether model.kind is a vision transformer; else it is a residual network.
bool is_vit(const Config& config);

// Side in pixels of what has a route of its own: a patch, or of a residual network the image or a
// part of it (image_moe.grid).
int64_t routed_patch(const Config& config);

// Error(kValue) for the other kind.
moe::VmoeConfig vmoe_config(const Config& config);
nn::ResnetConfig resnet_config(const Config& config);
moe::ImageMoeConfig image_moe_config(const Config& config);
moe::ImageMoePlaces image_moe_places(const Config& config);
// The residual network; also before data says how many channels and classes it has.
moe::MoeResnet build_resnet(const Config& config);

// The network that a config describes, without memory for its parameters.
std::unique_ptr<Network> build_network(const Config& config);

}  // namespace train
