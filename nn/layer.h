#pragma once

#include "nn/module.h"

namespace nn {

// Height and width of a picture on its way through a network.
struct PictureSize {
  int64_t h, w;
  int64_t pixels() const { return h * w; }
};

// Multiply-adds of products for one image.
struct Cost {
  int64_t active = 0;   // what one image goes through, routers not counted
  int64_t all = 0;      // if it went through every expert
  int64_t routers = 0;  // spent on choosing
  int64_t kept = 0;     // not multiply-adds: numbers that backward needs, in training

  int64_t done() const { return active + routers; }  // for one image
};

// A layer that a network holds without knowing which: of convolutions and blocks of convolutional
// networks some are single layers and some mixtures of experts. Pictures are (B, H, W, C).
class Layer {
 public:
  Layer() = default;
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;
  virtual ~Layer() = default;

  virtual engine::Tensor forward(Forward& f, const engine::Tensor& x) const = 0;
  virtual void visit(ParamVisitor& v) = 0;
  // Adds what the layer costs for a picture of `size`, and makes `size` that of its output.
  virtual void add_cost(PictureSize& size, Cost& cost) const = 0;
};

}  // namespace nn
