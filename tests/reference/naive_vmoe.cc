#include "tests/reference/naive_vmoe.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "tests/reference/naive_layers.h"

// Order of the file: routing; the losses on routing; the MoE layer; the model. What does not know
// of experts is in naive_layers.h.
namespace naive {

static int64_t patches_of(const Config& c) { return (c.image / c.patch) * (c.image / c.patch); }
static bool has_class_token(const Config& c) { return c.pool == Pool::kToken; }
static int64_t tokens_of(const Config& c) { return patches_of(c) + (has_class_token(c) ? 1 : 0); }
static bool is_moe(const Config& c, int64_t block) {
  return std::count(c.moe_layers.begin(), c.moe_layers.end(), block) > 0;
}

void top_k(const double* row, int64_t n, int64_t k, int64_t* index) {
  for (int64_t j = 0; j < k; ++j) {
    int64_t best = -1;
    for (int64_t i = 0; i < n; ++i) {
      const bool taken = std::find(index, index + j, i) != index + j;
      // ">" and not ">=": of equal entries the first, the one of lower index, stays.
      if (!taken && (best < 0 || row[i] > row[best])) best = i;
    }
    index[j] = best;
  }
}

int64_t capacity(int64_t tokens, int64_t experts, int64_t top_k, double factor, int64_t multiple) {
  const double places = static_cast<double>(tokens * top_k) * factor / static_cast<double>(experts);
  const auto c = static_cast<int64_t>(std::ceil(places));
  return (c + multiple - 1) / multiple * multiple;
}

void route(const double* gates, int64_t tokens, int64_t experts, int64_t k, int64_t places,
           Priority priority, int64_t* expert, double* weight) {
  Vec largest(tokens);
  for (int64_t t = 0; t < tokens; ++t) {
    top_k(gates + t * experts, experts, k, expert + t * k);
    largest[t] = gates[t * experts + expert[t * k]];
  }
  Indices order(tokens);
  std::iota(order.begin(), order.end(), 0);
  if (priority == Priority::kBatch) {
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return largest[a] > largest[b]; });
  }
  // Every request counts, also a rejected one. A dropped choice is not replaced by another expert.
  Indices requests(experts, 0);
  for (int64_t j = 0; j < k; ++j) {
    for (const int64_t t : order) {
      int64_t& e = expert[t * k + j];
      const bool kept = requests[e]++ < places;
      weight[t * k + j] = kept ? gates[t * experts + e] : 0;
      if (!kept) e = -1;
    }
  }
}

// (E): sum over the rows of (rows, E).
static Vec column_sums(const Vec& x, int64_t columns) {
  Vec sums(columns, 0);
  for (int64_t i = 0; i < length(x); ++i) sums[i % columns] += x[i];
  return sums;
}

double cv_squared(const Vec& v) {
  const auto [mean, variance] = moments(v);
  return variance / (mean * mean);
}

// d Var / d v_i = (2/E)(v_i - m) and d m / d v_i = 1/E, hence
// d(Var / m^2) / d v_i = (2/E)(v_i - m) / m^2 - 2 Var / (E m^3): 0, not NaN, where v is constant.
Vec cv_squared_grad(const Vec& v) {
  const auto [mean, variance] = moments(v);
  const auto n = static_cast<double>(v.size());
  Vec grad;
  for (const double x : v) {
    grad.push_back(2 / n * (x - mean) / (mean * mean) - 2 * variance / (n * std::pow(mean, 3)));
  }
  return grad;
}

// I_e = sum_t g_te of the clean softmax: how much probability every expert gets.
double importance_loss(const Vec& clean, int64_t tokens, int64_t experts) {
  require(length(clean) == tokens * experts, "importance: (S, E)");
  return cv_squared(column_sums(clean, experts));
}

Vec importance_loss_grad(const Vec& clean, int64_t tokens, int64_t experts) {
  const Vec dsums = cv_squared_grad(column_sums(clean, experts));
  Vec dclean(tokens * experts);
  for (int64_t i = 0; i < tokens * experts; ++i) dclean[i] = dsums[i % experts];
  return dclean;
}

ExpectedLoad expected_load(const Vec& clean, const Vec& noisy, int64_t S, int64_t E, int64_t K,
                           double sigma) {
  require(length(clean) == S * E && noisy.size() == clean.size(), "load: (S, E)");
  ExpectedLoad load{Vec(E, 0), Vec(S * E), {}};
  Indices best(K);
  for (int64_t i = 0; i < S * E; ++i) {
    if (i % E == 0) {
      top_k(&noisy[i], E, K, best.data());
      load.threshold.push_back(i + best[K - 1]);
    }
    load.z[i] = (noisy[load.threshold.back()] - clean[i]) / sigma;
    load.P[i % E] += normal_tail(load.z[i]) / static_cast<double>(S);
  }
  return load;
}

double load_loss(const Vec& clean_logits, const Vec& noisy_logits, int64_t tokens, int64_t experts,
                 int64_t top_k, double sigma) {
  return cv_squared(expected_load(clean_logits, noisy_logits, tokens, experts, top_k, sigma).P);
}

// dp/dl = phi(z) / sigma and dp/dtau = -phi(z) / sigma. tau is the clean logit of the K-th expert
// plus a constant, so both end in gradients of clean logits.
Vec load_loss_grad(const Vec& clean_logits, const Vec& noisy_logits, int64_t tokens,
                   int64_t experts, int64_t top_k, double sigma) {
  const ExpectedLoad load =
      expected_load(clean_logits, noisy_logits, tokens, experts, top_k, sigma);
  const Vec dP = cv_squared_grad(load.P);
  Vec dlogits(tokens * experts, 0);
  for (int64_t i = 0; i < tokens * experts; ++i) {
    const double dp = dP[i % experts] / static_cast<double>(tokens);
    const double g = dp * normal_density(load.z[i]) / sigma;
    dlogits[i] += g;
    dlogits[load.threshold[i / experts]] -= g;
  }
  return dlogits;
}

double gshard_loss(const Vec& noisy_gates, int64_t tokens, int64_t experts) {
  Vec first(experts, 0);  // tokens whose first choice is e
  for (int64_t t = 0; t < tokens; ++t) {
    int64_t e = 0;
    top_k(&noisy_gates[t * experts], experts, 1, &e);
    first[e] += 1;
  }
  const Vec gates = column_sums(noisy_gates, experts);
  const auto S = static_cast<double>(tokens);
  double loss = 0;  // E^2 times a mean over E is E times a sum
  for (int64_t e = 0; e < experts; ++e) {
    loss += static_cast<double>(experts) * first[e] / S * gates[e] / S;
  }
  return loss;
}

// dS and dD of lambda_diag * diag + lambda_off * off, for prc(). The diagonal term is
//   paper: mean_e (1 - S_ee)^2          fork: mean_{x,e} (D_xe - 1)^2, with S_ee = sum_x D_xe
// and the off-diagonal one, in both, the mean of S_ij^2 over i != j.
static void prc_terms(PrcForm form, Prc& result, int64_t E, int64_t X, double lambda_diag,
                      double lambda_off, Vec& dS, Vec& dD) {
  const auto pairs = static_cast<double>(std::max<int64_t>(E * (E - 1), 1));
  for (int64_t i = 0; i < E; ++i) {
    for (int64_t j = 0; j < E; ++j) {
      const double s = result.S[i * E + j];
      if (i != j) {
        result.off += s * s / pairs;
        dS[i * E + j] = 2 * lambda_off * s / pairs;
      } else if (form == PrcForm::kPaper) {
        result.diag += (1 - s) * (1 - s) / static_cast<double>(E);
        dS[i * E + j] = -2 * lambda_diag * (1 - s) / static_cast<double>(E);
      }
    }
  }
  if (form == PrcForm::kFork) {
    const auto entries = static_cast<double>(X * E);
    for (int64_t i = 0; i < X * E; ++i) {
      result.diag += (result.D[i] - 1) * (result.D[i] - 1) / entries;
      dD[i] = 2 * lambda_diag * (result.D[i] - 1) / entries;
    }
  }
  result.loss = lambda_diag * result.diag + lambda_off * result.off;
}

// S = (E/N) sum_n r1_n r2_n^T, n over the corresponding pairs of tokens; D_xe = (E/N) sum over the
// pairs n that come from slot x of r1_ne r2_ne.
Prc prc(PrcForm form, const Vec& probs, int64_t images, int64_t tokens, int64_t experts,
        const Indices& match, double lambda_diag, double lambda_off) {
  const int64_t E = experts, pairs = images / 2;
  require(images > 0 && images % 2 == 0, "prc: an even number of images");
  const int64_t X = static_cast<int64_t>(match.size()) / pairs;
  require(static_cast<int64_t>(match.size()) == pairs * X && X <= tokens, "prc: match (B/2, X)");
  Prc result;
  result.S.assign(E * E, 0);
  result.D.assign(X * E, 0);
  result.dprobs.assign(probs.size(), 0);
  for (const int64_t m : match) {
    require(m >= -1 && m < tokens, "prc: match is a token or -1");
    result.n += m >= 0 ? 1 : 0;
  }
  if (form == PrcForm::kNone || result.n == 0) return result;
  const double scale = static_cast<double>(E) / static_cast<double>(result.n);

  // Calls body(x, start of r1, start of r2) for every valid pair of tokens.
  const auto for_each_pair = [&](auto body) {
    for (int64_t b = 0; b < pairs; ++b) {
      for (int64_t x = 0; x < X; ++x) {
        const int64_t m = match[b * X + x];
        if (m >= 0) body(x, (2 * b * tokens + tokens - X + x) * E, ((2 * b + 1) * tokens + m) * E);
      }
    }
  };
  for_each_pair([&](int64_t x, int64_t r1, int64_t r2) {
    for (int64_t i = 0; i < E; ++i) {
      for (int64_t j = 0; j < E; ++j) {
        result.S[i * E + j] += scale * probs[r1 + i] * probs[r2 + j];
      }
      result.D[x * E + i] += scale * probs[r1 + i] * probs[r2 + i];
    }
  });

  // dr1 = (E/N) (dS + diag(dD_x)) r2  and  dr2 = (E/N) (dS + diag(dD_x))^T r1.
  Vec dS(E * E, 0), dD(X * E, 0);
  prc_terms(form, result, E, X, lambda_diag, lambda_off, dS, dD);
  for_each_pair([&](int64_t x, int64_t r1, int64_t r2) {
    for (int64_t i = 0; i < E; ++i) {
      for (int64_t j = 0; j < E; ++j) {
        const double g = scale * (dS[i * E + j] + (i == j ? dD[x * E + i] : 0));
        result.dprobs[r1 + i] += g * probs[r2 + j];
        result.dprobs[r2 + j] += g * probs[r1 + i];
      }
    }
  });
  return result;
}

// y_n = sum_j weight_nj mask_nj MLP_e(x_n), e = expert_nj. A choice is numbered c = n K + j.
struct Moe {
  const Config& config;
  Linear router;
  std::vector<Mlp> experts = {};
  int64_t S = 0;  // tokens of a routing group
  LayerTrace trace = {};
  std::vector<Indices> served = {};  // (E): the choices of each expert
  Vec mask = {}, outputs = {};       // (N K, W): mask MLP_e(x_n) of every choice that was kept
  Vec dclean = {}, dlogits = {};     // (N, E): gradients of the losses on routing

  Vec forward(const Vec& x, const Vec& noise, const Vec& dropout, const Vec& output_dropout,
              const Indices& slots) {
    const int64_t E = config.experts, K = config.top_k, W = config.width, M = config.mlp;
    const int64_t N = length(x) / W;
    S = config.group_images > 0 ? config.group_images * tokens_of(config) : N;
    const double sigma = noise.empty() ? 0 : config.noise_std / static_cast<double>(E);
    trace = {};
    trace.logits = router.forward(x);
    Vec noisy_logits = trace.logits;
    for (int64_t i = 0; i < N * E && sigma > 0; ++i) noisy_logits[i] += sigma * noise[i];
    trace.clean = softmax(trace.logits, E);
    trace.noisy = softmax(noisy_logits, E);
    choose(N);
    losses(noisy_logits, sigma, slots);

    Vec y(x.size(), 0);
    outputs.assign(N * K * W, 0);
    mask = output_dropout.empty() ? Vec(N * K * W, 1) : output_dropout;
    for (int64_t e = 0; e < E; ++e) {
      Vec inputs, hidden_mask;
      for (const int64_t c : served[e]) {
        inputs.insert(inputs.end(), &x[c / K * W], &x[c / K * W] + W);
        const auto hidden = dropout.begin() + (dropout.empty() ? 0 : c * M);
        if (!dropout.empty()) hidden_mask.insert(hidden_mask.end(), hidden, hidden + M);
      }
      const Vec out = experts[e].forward(inputs, hidden_mask);
      for (int64_t i = 0; i < length(out); ++i) {
        const int64_t c = served[e][i / W];
        outputs[c * W + i % W] = mask[c * W + i % W] * out[i];
        y[c / K * W + i % W] += trace.weight[c] * outputs[c * W + i % W];
      }
    }
    return y;
  }

  void choose(int64_t N) {
    const int64_t E = config.experts, K = config.top_k;
    const int64_t places =
        config.dropless ? S * K
                        : capacity(S, E, K, config.capacity_factor, config.capacity_multiple_of);
    trace.expert.assign(N * K, -1);
    trace.weight.assign(N * K, 0);
    for (int64_t n = 0; n < N; n += S) {
      route(&trace.noisy[n * E], S, E, K, places, config.priority, &trace.expert[n * K],
            &trace.weight[n * K]);
    }
    served.assign(E, {});
    for (int64_t c = 0; c < N * K; ++c) {
      if (trace.expert[c] >= 0) served[trace.expert[c]].push_back(c);
    }
  }

  // Values into trace; gradients of weight * value into dclean and dlogits. A term of weight 0 is
  // skipped and not multiplied by 0, so that it cannot bring a NaN.
  void losses(const Vec& noisy_logits, double sigma, const Indices& slots) {
    const int64_t E = config.experts, K = config.top_k, N = length(noisy_logits) / E;
    dclean.assign(N * E, 0);
    dlogits.assign(N * E, 0);
    const double share = static_cast<double>(S) / static_cast<double>(N);  // 1 / groups
    for (int64_t n = 0; n < N; n += S) {
      const Vec clean = slice(trace.clean, n * E, S * E);
      trace.importance += share * importance_loss(clean, S, E);
      const double wi = share * config.importance_weight;
      if (wi != 0) add(&dclean[n * E], importance_loss_grad(clean, S, E), wi);
      if (sigma == 0) continue;  // without noise there is no load loss
      const Vec l = slice(trace.logits, n * E, S * E), noisy = slice(noisy_logits, n * E, S * E);
      trace.load += share * load_loss(l, noisy, S, E, K, sigma);
      const double wl = share * config.load_weight;
      if (wl != 0) add(&dlogits[n * E], load_loss_grad(l, noisy, S, E, K, sigma), wl);
    }
    if (config.prc == PrcForm::kNone || slots.empty()) return;
    const int64_t T = tokens_of(config);
    Prc p = prc(config.prc, trace.clean, N / T, T, E, slots, config.lambda_diag, config.lambda_off);
    trace.prc = p.loss;
    trace.prc_diag = p.diag;
    trace.prc_off = p.off;
    trace.S = p.S;
    add(dclean, p.dprobs);
  }

  // The choice itself has no gradient; the kept weights do, through the softmax with noise.
  Vec backward(const Vec& dy) {
    const int64_t E = config.experts, K = config.top_k, W = config.width;
    Vec dx(dy.size(), 0), dnoisy(trace.noisy.size(), 0);
    for (int64_t e = 0; e < E; ++e) {
      Vec dout;
      for (const int64_t c : served[e]) {
        for (int64_t i = 0; i < W; ++i) {
          dout.push_back(trace.weight[c] * mask[c * W + i] * dy[c / K * W + i]);
          dnoisy[c / K * E + e] += outputs[c * W + i] * dy[c / K * W + i];
        }
      }
      const Vec dinputs = experts[e].backward(dout);
      for (int64_t i = 0; i < length(dinputs); ++i) {
        dx[served[e][i / W] / K * W + i % W] += dinputs[i];
      }
    }
    Vec dl = dlogits;
    add(dl, softmax_backward(trace.clean, dclean, E));
    add(dl, softmax_backward(trace.noisy, dnoisy, E));  // noisy logit = logit + constant
    add(dx, router.backward(dl));
    return dx;
  }
};

// The rows of image b times factor[b]; no factors: all stay.
static Vec scaled_images(Vec x, const Vec& factor) {
  const int64_t row = factor.empty() ? 0 : length(x) / length(factor);
  for (int64_t i = 0; i < (factor.empty() ? 0 : length(x)); ++i) x[i] *= factor[i / row];
  return x;
}

// x += attention(norm1(x));  x += feed_forward(norm2(x)), an MLP or a mixture of them; with
// stochastic depth each image's sum times a factor.
struct Block {
  LayerNorm norm1;
  Attention attention;
  LayerNorm norm2;
  std::optional<Mlp> mlp = {};
  std::optional<Moe> moe = {};
  Vec first = {}, second = {};  // factors

  Vec forward(Vec x, const Vec& noise, const Vec& dropout, const Vec& output_dropout,
              const Indices& slots) {
    add(x, scaled_images(attention.forward(norm1.forward(x)), first));
    const Vec n = norm2.forward(x);
    const Vec y = moe ? moe->forward(n, noise, dropout, output_dropout, slots) : mlp->forward(n);
    add(x, scaled_images(y, second));
    return x;
  }

  Vec backward(Vec dx) {
    const Vec dy = scaled_images(dx, second);
    add(dx, norm2.backward(moe ? moe->backward(dy) : mlp->backward(dy)));
    add(dx, norm1.backward(attention.backward(scaled_images(dx, first))));
    return dx;
  }
};

// Hands out parameters by name, so that the layers below read like a table of the model.
struct ParamTable {
  const Config& config;
  const Params& values;
  Params grads;

  ParamTable(const Config& c, const Params& v) : config(c), values(v) {
    for (const auto& [name, shape] : parameter_shapes(c)) {
      int64_t size = 1;
      for (const int64_t extent : shape) size *= extent;
      require(v.count(name) == 1 && length(v.at(name)) == size, "parameter " + name);
      grads[name].assign(size, 0);
    }
  }

  Param param(const std::string& name) { return {values.at(name).data(), grads.at(name).data()}; }
  // Entry `e` of a stack of layers.
  Linear linear(const std::string& name, int64_t in, int64_t out, int64_t e = 0) {
    return {param(name + ".weight").at(e * in * out), param(name + ".bias").at(e * out), in, out};
  }
  LayerNorm norm(const std::string& name) {
    return {param(name + ".scale"), param(name + ".bias"), config.width};
  }
  Mlp mlp(const std::string& name, int64_t e = 0) {
    return {linear(name + ".up", config.width, config.mlp, e),
            linear(name + ".down", config.mlp, config.width, e), config.gelu};
  }
  Block block(int64_t i) {
    const std::string name = "blocks." + std::to_string(i);
    const int64_t W = config.width;
    const Linear qkv = linear(name + ".attention.qkv", W, 3 * W);
    const Linear out = linear(name + ".attention.out", W, W);
    Block b{
        norm(name + ".norm1"), {qkv, out, tokens_of(config), config.heads}, norm(name + ".norm2")};
    if (is_moe(config, i)) {
      const Linear router{param(name + ".moe.router.weight"), {}, W, config.experts};
      b.moe.emplace(Moe{config, router});
      for (int64_t e = 0; e < config.experts; ++e) {
        b.moe->experts.push_back(mlp(name + ".moe.experts", e));
      }
    } else {
      b.mlp = mlp(name + ".mlp");
    }
    return b;
  }
};

// The patches of the two views in terms of tokens: behind the class token if there is one, which is
// the first slot of every pair where it takes part.
static Indices slots_of(const Config& c, const Indices& match) {
  const int64_t first = has_class_token(c) ? 1 : 0;
  Indices slots;
  for (size_t i = 0; i < match.size(); ++i) {
    require(match[i] >= -1 && match[i] < patches_of(c), "match is a patch or -1");
    const bool new_pair = i % static_cast<size_t>(patches_of(c)) == 0;
    if (new_pair && first == 1 && c.prc_class_token) slots.push_back(0);
    slots.push_back(match[i] < 0 ? -1 : match[i] + first);
  }
  return slots;
}

// tokens = [class token; patches patch + bias] + position;  blocks;  norm;  the class token or the
// mean of all tokens;  pre_logits and tanh where wanted;  output.
struct Model {
  const Config& config;
  int64_t T, W;
  Param class_token, position;
  Linear patch;
  std::vector<Block> blocks;
  LayerNorm norm;
  std::optional<Linear> pre_logits;
  Linear output;
  Vec feature = {};  // (B, W): what `output` reads

  explicit Model(ParamTable& t)
      : config(t.config),
        T(tokens_of(config)),
        W(config.width),
        position(t.param("stem.position")),
        patch(t.linear("stem.patch", config.patch * config.patch * config.channels, W)),
        norm(t.norm("head.norm")),
        output(t.linear("head.output", W, config.classes)) {
    if (has_class_token(config)) class_token = t.param("stem.class_token");
    for (int64_t i = 0; i < config.layers; ++i) blocks.push_back(t.block(i));
    if (config.pre_logits) pre_logits = t.linear("head.pre_logits", W, W);
  }

  // The share of entry i of (B, T, W) in entry head_of(i) of what the head reads, (B, W).
  double pooled(int64_t i) const {
    if (config.pool == Pool::kMean) return 1 / static_cast<double>(T);
    return i / W % T == 0 ? 1 : 0;
  }
  int64_t head_of(int64_t i) const { return i / (T * W) * W + i % W; }

  Vec forward(const Inputs& in) {
    const int64_t B = static_cast<int64_t>(in.labels.size()), first = T - patches_of(config);
    const Vec patches = patch.forward(patchify(config, in.images));
    Vec x(B * T * W);
    for (int64_t i = 0; i < B * T * W; ++i) {
      const int64_t b = i / (T * W), t = i / W % T, w = i % W;
      const int64_t from = (b * (T - first) + t - first) * W + w;
      x[i] = (t < first ? class_token.value[w] : patches[from]) + position.value[t * W + w];
    }
    const Indices slots = slots_of(config, in.match);
    const auto at = [](const std::vector<Vec>& v, size_t i) { return i < v.size() ? v[i] : Vec{}; };
    size_t moe = 0, branch = 0;
    for (Block& block : blocks) {
      block.first = at(in.depth, branch++);
      block.second = at(in.depth, branch++);
      x = block.forward(x, at(in.noise, moe), at(in.dropout, moe), at(in.output_dropout, moe),
                        slots);
      moe += block.moe ? 1 : 0;
    }
    x = norm.forward(x);
    feature.assign(B * W, 0);
    for (int64_t i = 0; i < B * T * W; ++i) feature[head_of(i)] += pooled(i) * x[i];
    if (pre_logits) {
      feature = pre_logits->forward(feature);
      for (double& f : feature) f = std::tanh(f);
    }
    return output.forward(feature);
  }

  void backward(const Vec& dlogits) {
    const int64_t B = length(feature) / W, first = T - patches_of(config);
    Vec dfeature = output.backward(dlogits);
    if (pre_logits) {
      for (int64_t i = 0; i < B * W; ++i) dfeature[i] *= 1 - feature[i] * feature[i];
      dfeature = pre_logits->backward(dfeature);
    }
    Vec dx(B * T * W), dpatches;
    for (int64_t i = 0; i < B * T * W; ++i) dx[i] = pooled(i) * dfeature[head_of(i)];
    dx = norm.backward(dx);
    for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) dx = block->backward(dx);
    for (int64_t i = 0; i < B * T * W; ++i) {
      position.grad[i % (T * W)] += dx[i];
      if (i / W % T < first) {
        class_token.grad[i % W] += dx[i];
      } else {
        dpatches.push_back(dx[i]);
      }
    }
    patch.backward(dpatches);
  }
};

std::vector<std::pair<std::string, Indices>> parameter_shapes(const Config& c) {
  std::vector<std::pair<std::string, Indices>> shapes;
  const auto put = [&](const std::string& name, const Indices& s) { shapes.push_back({name, s}); };
  // A bias has the shape of its weight without the axis that is summed over, the last but one.
  const auto linear = [&](const std::string& name, Indices shape) {
    put(name + ".weight", shape);
    shape.erase(shape.end() - 2);
    put(name + ".bias", shape);
  };
  const auto norm = [&](const std::string& name) {
    put(name + ".scale", {c.width});
    put(name + ".bias", {c.width});
  };
  linear("stem.patch", {c.patch * c.patch * c.channels, c.width});
  if (has_class_token(c)) put("stem.class_token", {c.width});
  put("stem.position", {tokens_of(c), c.width});
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string block = "blocks." + std::to_string(i);
    norm(block + ".norm1");
    linear(block + ".attention.qkv", {c.width, 3 * c.width});
    linear(block + ".attention.out", {c.width, c.width});
    norm(block + ".norm2");
    if (is_moe(c, i)) {
      put(block + ".moe.router.weight", {c.width, c.experts});
      linear(block + ".moe.experts.up", {c.experts, c.width, c.mlp});
      linear(block + ".moe.experts.down", {c.experts, c.mlp, c.width});
    } else {
      linear(block + ".mlp.up", {c.width, c.mlp});
      linear(block + ".mlp.down", {c.mlp, c.width});
    }
  }
  norm("head.norm");
  if (c.pre_logits) linear("head.pre_logits", {c.width, c.width});
  linear("head.output", {c.width, c.classes});
  return shapes;
}

static void check_inputs(const Config& c, const Inputs& in) {
  const auto B = static_cast<int64_t>(in.labels.size());
  const int64_t N = B * tokens_of(c);
  require(B > 0 && length(in.images) == B * c.channels * c.image * c.image, "images (B, C, H, W)");
  require(c.image % c.patch == 0 && c.width % c.heads == 0, "patch and heads divide image, width");
  require(c.top_k >= 1 && c.top_k <= c.experts, "1 <= K <= E");
  require(c.group_images <= 0 || B % c.group_images == 0, "groups divide the batch");
  for (const Vec& v : in.noise) require(v.empty() || length(v) == N * c.experts, "noise (N, E)");
  for (const Vec& v : in.dropout) {
    require(v.empty() || length(v) == N * c.top_k * c.mlp, "dropout (N K, M)");
  }
  for (const Vec& v : in.output_dropout) {
    require(v.empty() || length(v) == N * c.top_k * c.width, "output_dropout (N K, W)");
  }
  for (const Vec& v : in.depth) require(v.empty() || length(v) == B, "depth (B)");
  require(in.match.empty() ||
              (B % 2 == 0 && static_cast<int64_t>(in.match.size()) == B / 2 * patches_of(c)),
          "match (B/2, patches)");
}

Result run(const Config& config, const Params& params, const Inputs& inputs, bool with_gradients) {
  check_inputs(config, inputs);
  ParamTable table(config, params);
  Model model(table);
  Result result;
  result.logits = model.forward(inputs);
  const Loss loss = cross_entropy(config.xent, result.logits, inputs.labels, config.classes);
  result.cross_entropy = loss.value;
  for (const Block& block : model.blocks) {
    if (!block.moe) continue;
    const LayerTrace& trace = block.moe->trace;
    result.layers.push_back(trace);
    result.importance += trace.importance;
    result.load += trace.load;
    result.prc += trace.prc;
  }
  result.total = result.cross_entropy + result.prc;
  if (config.importance_weight != 0) result.total += config.importance_weight * result.importance;
  if (config.load_weight != 0) result.total += config.load_weight * result.load;
  if (with_gradients) {
    model.backward(loss.dlogits);
    result.grads = table.grads;
  }
  return result;
}

}  // namespace naive
