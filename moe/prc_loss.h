#pragma once

#include <cstdint>

#include "engine/core/rng.h"
#include "engine/core/tape.h"

namespace moe {

// kPaper: paper section III-B, Eq. 4. kFork: the published code's diagonal term, which is
// squared per patch slot before the sum (spec 4.2). kNone: no PRC.
enum class PrcForm : uint8_t { kNone, kPaper, kFork };

// N pairs of corresponding tokens of a two-view batch. Images are interleaved: pair 0 view 1,
// pair 0 view 2, pair 1 view 1, ... All i32, the first N entries; on the device of the arena that
// they live in. On a GPU what follows them is -1, so that kernels need not be started for another
// number of pairs in every step.
struct TokenPairs {
  engine::Tensor left, right;  // rows of the (images*tokens, E) router output
  engine::Tensor slot;         // x: which slot of view 1 the pair came from
  engine::Tensor number;       // (1) i32: N, where the others are
  int64_t count = 0;           // N, known to the host
  int64_t slots = 0;           // X: patches, plus one for the class token
};

// Pairs of all patches that correspond, and of the class tokens if asked for.
//
//   match  (P, patches) i32: patch of view 2 for every patch of view 1, or -1; always in host
//          memory, also where the tape is on a GPU
//   tokens of an image, the class token (token 0) included if class_token
//
// shuffle: a control that must not help. The right members are permuted at random, patches
// among patches and class tokens among class tokens, so the margins stay and the
// correspondence goes. Arrays live in the arena. Error(kShape, kValue, kDevice).
TokenPairs make_pairs(engine::StepArena& arena, const engine::Tensor& match, int64_t tokens,
                      bool class_token, bool pair_class_tokens, const engine::RngKey* shuffle);

// What PRC looked at, for logs and reports; f64, in the tape's arena, on the loss's device.
struct PrcStats {
  engine::Tensor s;      // (E, E)
  engine::Tensor terms;  // (2): the diagonal term and the other one, without lambda
};

// Pairwise Router Consistency of one MoE layer (spec 4.1, 4.2): over N pairs of router
// outputs r1_n, r2_n,
//   S = (E/N) sum_n r1_n r2_n^T
//   off   = sum_{i != j} S_ij^2 / (E (E-1))
//   paper = sum_i (1 - S_ii)^2 / E
//   fork  = sum_{x,e} (D_xe - 1)^2 / (X E),  D_xe = (E/N) sum over the pairs of slot x of r1_e r2_e
//   loss  = lambda_diag * (paper or fork) + lambda_off * off
//
//   clean    (images*tokens, E)  softmax of the router logits without noise
//   returns  (1); 0 if there are no pairs
//
// Gradient to both members of every pair: dr1_n = (E/N) M r2_n, dr2_n = (E/N) M^T r1_n with
// M = dloss/dS (fork: the diagonal of M is that of the pair's slot). Sums in f64 over fixed
// chunks. Error(kShape, kValue).
engine::Tensor prc_loss(const engine::Tensor& clean, const TokenPairs& pairs, PrcForm form,
                        double lambda_diag, double lambda_off, PrcStats* stats = nullptr);

}  // namespace moe
