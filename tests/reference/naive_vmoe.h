#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

// The whole V-MoE with every loss, forward and backward, in plain f64 loops: no engine, no tape,
// no vector library. It is written from the specification alone, so that it can judge the engine,
// and it is meant to be read from top to bottom by somebody who wants to know what the model does.
//
// Glossary: B images, T tokens of an image, N = B*T tokens, W width, H heads, D = W/H, M hidden
// width of an MLP, E experts, K chosen experts, S tokens of a routing group, X correspondence slots
// of a pair of views. Arrays are row-major; (N, E) is a comment on a flat vector.
namespace naive {

using Vec = std::vector<double>;
using Indices = std::vector<int64_t>;

enum class Gelu { kTanh, kErf };
// kToken: the head reads the class token. kMean: it reads the mean of all tokens, and there is no
// class token.
enum class Pool { kToken, kMean };
enum class XentKind { kSoftmax, kSigmoid };
enum class PrcForm { kNone, kPaper, kFork };
// Who is served first where an expert is short of places: see route().
enum class Priority { kVanilla, kBatch };

struct Config {
  int64_t channels = 3, image = 8, patch = 4, width = 8, mlp = 16, heads = 2, layers = 2;
  int64_t classes = 5;
  Indices moe_layers = {};  // 0-based block indices
  int64_t experts = 4, top_k = 2;
  bool pre_logits = false;
  Gelu gelu = Gelu::kTanh;
  Pool pool = Pool::kToken;
  double noise_std = 0;  // router noise has sigma = noise_std / experts; 0 = none
  bool dropless = true;  // true: the two values after it are not used
  double capacity_factor = 1.05;
  int64_t capacity_multiple_of = 4;
  int64_t group_images = 0;  // images of a routing group; 0 = the whole batch is one group
  // A term of weight 0 is reported where it is defined but is no part of the total.
  double importance_weight = 0, load_weight = 0;
  PrcForm prc = PrcForm::kNone;
  double lambda_diag = 5e-3, lambda_off = 5e-2;
  bool prc_class_token = true;  // the two class tokens are one more corresponding pair
  XentKind xent = XentKind::kSoftmax;
  Priority priority = Priority::kVanilla;
};

// By name, for values and gradients alike; names and shapes are those of parameter_shapes().
using Params = std::map<std::string, Vec>;
std::vector<std::pair<std::string, Indices>> parameter_shapes(const Config& config);

struct Inputs {
  Vec images;      // (B, channels, image, image), normalised
  Indices labels;  // (B)
  // All: one entry an MoE layer, in block order; no entry or an empty one means "none".
  std::vector<Vec> noise = {};    // (N, E) standard normal
  std::vector<Vec> dropout = {};  // (N*K, M) multipliers of the hidden activations, 0 or 1/(1-rate)
  std::vector<Vec> output_dropout = {};  // (N*K, W) the same of what an expert returns
  // (B) what an image's branch is multiplied by: two entries a block, attention and feed-forward.
  std::vector<Vec> depth = {};
  // Two-view training, images interleaved: pair 0 view 1, pair 0 view 2, pair 1 view 1, ...
  // (B/2, patches): for a patch of view 1 the corresponding patch of view 2, or -1.
  Indices match = {};
};

// What one MoE layer did.
struct LayerTrace {
  Vec logits, clean, noisy;  // (N, E): x W, its softmax, and the softmax experts were chosen by
  Vec weight;                // (N, K): combine weight, 0 where dropped
  Indices expert;            // (N, K): -1 where dropped
  double importance = 0, load = 0;            // unweighted; mean over groups
  double prc = 0, prc_diag = 0, prc_off = 0;  // prc is weighted by the lambdas, the others not
  Vec S;                                      // (E, E), empty without PRC
};

struct Result {
  Vec logits;  // (B, classes)
  // Sums over MoE layers; importance and load unweighted, prc weighted by its lambdas.
  double cross_entropy = 0, importance = 0, load = 0, prc = 0, total = 0;
  std::vector<LayerTrace> layers = {};
  Params grads = {};  // of total; empty without gradients
};

// Throws std::invalid_argument where an input does not have its shape.
Result run(const Config& config, const Params& params, const Inputs& inputs,
           bool with_gradients = true);

// The k largest entries of a row, largest first; ties go to the lower index.
void top_k(const double* row, int64_t n, int64_t k, int64_t* index);

// C = ceil(S K factor / E), rounded up to a multiple.
int64_t capacity(int64_t tokens, int64_t experts, int64_t top_k, double factor, int64_t multiple);

// Chooses K experts for each of the S tokens of one group and gives out the `places` of every
// expert: all first choices, then all second ones; within a choice in token order (kVanilla) or by
// decreasing largest gate (kBatch).
//   gates (S, E)   expert (S, K), -1 where dropped   weight (S, K) the raw gate, 0 where dropped
void route(const double* gates, int64_t tokens, int64_t experts, int64_t k, int64_t places,
           Priority priority, int64_t* expert, double* weight);

// CV^2(v) = Var(v) / Mean(v)^2, Var with divisor E.
double cv_squared(const Vec& v);
Vec cv_squared_grad(const Vec& v);

// The balance losses of one group of `tokens`; the gradients have the shape of the first argument.
double importance_loss(const Vec& clean, int64_t tokens, int64_t experts);
Vec importance_loss_grad(const Vec& clean, int64_t tokens, int64_t experts);
// How probably the S tokens choose e if their noise were drawn again while the threshold tau_t, the
// K-th largest noisy logit, stays. With z_te = (tau_t - l_te) / sigma this is p_te = P(Z > z_te),
// and P_e = mean_t p_te.
struct ExpectedLoad {
  Vec P, z;           // (E), (S, E)
  Indices threshold;  // (S): the place of tau_t in the logits
};
ExpectedLoad expected_load(const Vec& clean_logits, const Vec& noisy_logits, int64_t tokens,
                           int64_t experts, int64_t top_k, double sigma);
// CV^2(P), noisy = clean + sigma * noise. The gradient is for clean logits with the noise held
// fixed, so it has both paths: through the clean logit, and through the threshold, which is a noisy
// logit.
double load_loss(const Vec& clean_logits, const Vec& noisy_logits, int64_t tokens, int64_t experts,
                 int64_t top_k, double sigma);
Vec load_loss_grad(const Vec& clean_logits, const Vec& noisy_logits, int64_t tokens,
                   int64_t experts, int64_t top_k, double sigma);
// E^2 mean_e(share of tokens whose first choice is e * mean gate of e). No part of run().
double gshard_loss(const Vec& noisy_gates, int64_t tokens, int64_t experts);

struct Prc {
  double loss = 0, diag = 0, off = 0;  // loss = lambda_diag * diag + lambda_off * off
  int64_t n = 0;                       // valid pairs of tokens
  Vec S;                               // (E, E)
  Vec D;                               // (X, E): the diagonal of S, slot by slot
  Vec dprobs;                          // (B, T, E): the gradient of loss
};

// Pairwise router consistency of one MoE layer.
//   probs (B, T, E), images interleaved as in Inputs
//   match (B/2, X): slot x of view 1 is token T - X + x; the entry is the corresponding token (row
//         of 0..T-1) of view 2, or -1
Prc prc(PrcForm form, const Vec& probs, int64_t images, int64_t tokens, int64_t experts,
        const Indices& match, double lambda_diag, double lambda_off);

}  // namespace naive
