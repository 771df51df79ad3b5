#pragma once

#include <cstdint>
#include <vector>

#include "engine/core/tensor.h"

// Which tokens of a two-view batch an audit compares.
namespace train {

// Two tokens that show the same place of source image `source`: rows of the (views * tokens, E)
// router output of a batch whose views 2i and 2i+1 are view 1 and view 2 of image i.
struct AuditPair {
  int64_t source = 0;
  int64_t left = 0, right = 0;
};

// Marks the patches of one colour: all P * P pixels of a channel are the same number, in every
// channel. Such a patch tells a router nothing but its place (on Fashion-MNIST the black
// background is such), so matching choices there prove nothing.
//
//   pixels   (B, C, S, S) f32, normalised
//   flat     (B * patches) out, 1 for a patch of one colour; patches row by row
void find_flat_patches(const engine::Tensor& pixels, int64_t patch, std::vector<uint8_t>& flat);

// All pairs of patches that correspond (spec 4.3) and are of one colour in neither view; never
// class tokens. In order of images, within an image of view 1's patches. Several patches of
// view 1 may share one of view 2.
//
//   match    (sources, patches) i32: partner in view 2, or -1
//   flat     (2 * sources * patches), of the batch's views
//   tokens   of an image; patches + 1 if token 0 is the class token
//
// Error(kShape) where these do not fit.
void find_pairs(const engine::Tensor& match, const std::vector<uint8_t>& flat, int64_t tokens,
                std::vector<AuditPair>& pairs);

}  // namespace train
