#pragma once

#include <cstdint>
#include <vector>

#include "engine/core/arena.h"
#include "nn/module.h"

namespace moe {

// What one MoE layer did with N = images * tokens tokens in one forward pass: all that losses,
// audit and reports ever read. Tensors live in the step's arena.
struct Routing {
  int64_t layer = 0;               // 0-based block
  int64_t images = 0, tokens = 0;  // tokens of an image, the class token included
  int64_t experts = 0, top_k = 0;
  // Experts chose tokens: top_k = E, `chosen` ranks all experts, `expert` says which of them took
  // the token.
  bool expert_choice = false;
  // Nothing was chosen (moe/soft_moe.h): `gates` are parts of a token's output, `offset` counts
  // slots, slot_of and outputs are undefined.
  bool soft = false;
  bool class_token = true;      // token 0 of every image is the class token
  double sigma = 0;             // standard deviation of the router noise, 0 = none
  engine::Tensor logits;        // (N, E) router logits without noise
  engine::Tensor clean;         // (N, E) their softmax
  engine::Tensor noisy_logits;  // (N, E) with noise; = logits without
  engine::Tensor gates;         // (N, E) softmax of noisy_logits: what experts were chosen by
  engine::Tensor chosen;        // (N, K) i32 the K largest gates, largest first
  engine::Tensor expert;        // (N, K) i32 chosen, or -1 where dropped by capacity
  engine::Tensor weight;        // (N, K) gate of the choice, 0 where dropped
  engine::Tensor offset;        // (E+1) i32: expert e got offset[e+1] - offset[e] tokens
  engine::Tensor slot_of;       // (N, K) i32: row of `outputs` for a choice, -1 where dropped
  // (S, W) what the experts returned, before it is weighted; bf16 where activations are stored so
  engine::Tensor outputs;
  int64_t capacity = 0;  // slots of an expert and group; 0 = dropless
  // Choices without a slot; of expert choice, tokens without one. On CUDA -1: see on_host().
  int64_t dropped = 0;

  // What `dropped` is counted among, for one token.
  int64_t choices_per_token() const { return expert_choice ? 1 : top_k; }
};

// What a forward pass of a model returns; reused from step to step. `routings` has one entry per
// MoE layer, in order, valid while the step's arena is.
struct ModelOutput final : nn::Reports {
  engine::Tensor logits;  // (B, classes)
  std::vector<Routing> routings;
  std::vector<std::vector<engine::Tensor>> parts;  // by layer: memory of moe/cnn/image_moe.h
};

// What a caller wants of an MoE layer in a pass in the place of its own choice. The router is still
// computed and reported, but nothing depends on it.
struct LayerOrder {
  int64_t layer = 0;    // as in Routing
  int64_t expert = -1;  // this one alone takes every token, with weight 1; -1: as chosen
  // (N, K) i32 and (N, K): choices and weights of another pass, constants. No capacity.
  engine::Tensor chosen = {}, weight = {};
};
struct RoutingOrders final : nn::Orders {
  std::vector<LayerOrder> layers;
};

// Fills top_k, chosen and weight of `r`, whose layer, images, tokens and experts are set, as
// f.orders has it for that layer; false if it says nothing of it. Error(kValue) for an expert that
// the layer does not have, Error(kShape) for choices of other tokens.
bool follow_order(nn::Forward& f, Routing& r);

// `routing` with its tensors on the CPU, copied into `host_arena`, bf16 as f32, and `dropped`
// counted; one on the CPU as it is. Waits for the device; the copies are on no tape.
Routing on_host(const Routing& routing, engine::StepArena& host_arena);

// `dropped` of a pass on any device; from a GPU it fetches only what it is counted from.
int64_t dropped_of(const Routing& routing, engine::StepArena& host_arena);

}  // namespace moe
