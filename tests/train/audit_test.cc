#include "train/audit/audit.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "tests/support/bits.h"
#include "tests/train/audit_dump.h"
#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"
#include "train/audit/information.h"
#include "train/audit/pairs.h"
#include "train/evaluate.h"
#include "train/model.h"
#include "train/safetensors.h"

using doctest::Approx;
using engine::ErrorKind;
using engine::test::view;
using train::AuditPair;
using train::LayerFigures;
using train::test::Dump;
using train::test::error_of;
using train::test::SmallModel;
using train::test::TempFolder;

namespace {

// A Routing by hand: clean probabilities of all tokens; the K largest are chosen.
struct HandRouting {
  HandRouting(std::vector<float> probabilities, int64_t experts, int64_t k, int64_t images,
              int64_t tokens)
      : clean(std::move(probabilities)) {
    const auto rows = static_cast<int64_t>(clean.size()) / experts;
    for (int64_t r = 0; r < rows; ++r) {
      const float* p = clean.data() + r * experts;
      std::vector<int32_t> order(static_cast<size_t>(experts));
      for (int32_t e = 0; e < experts; ++e) order[e] = e;
      std::stable_sort(order.begin(), order.end(), [p](int a, int b) { return p[a] > p[b]; });
      chosen.insert(chosen.end(), order.begin(), order.begin() + k);
    }
    expert = chosen;
    routing.layer = 1;
    routing.images = images;
    routing.tokens = tokens;
    routing.experts = experts;
    routing.top_k = k;
    routing.clean = view(clean, {rows, experts});
    routing.chosen = view(chosen, {rows, k});
    routing.expert = view(expert, {rows, k});
  }
  HandRouting(const HandRouting&) = delete;

  std::vector<float> clean;
  std::vector<int32_t> chosen, expert;
  moe::Routing routing;
};

LayerFigures figures_of(const HandRouting& hand, const std::vector<AuditPair>& pairs) {
  train::LayerAudit audit(hand.routing);
  audit.add(hand.routing, pairs, hand.routing.images / 2);
  return audit.figures();
}

// One image, two views of a class token and two patches, three experts.
const std::vector<float> kProbabilities = {
    0.1f, 0.1f, 0.8f,  // view 1, class token
    0.7f, 0.2f, 0.1f,  // patch 0: experts 0, 1
    0.2f, 0.5f, 0.3f,  // patch 1: experts 1, 2
    0.8f, 0.1f, 0.1f,  // view 2, class token
    0.6f, 0.1f, 0.3f,  // patch 0: experts 0, 2
    0.1f, 0.3f, 0.6f,  // patch 1: experts 2, 1
};
const std::vector<AuditPair> kPairs = {{0, 1, 4}, {0, 2, 5}};

}  // namespace

TEST_CASE("information: entropy and effective number by hand") {
  CHECK(train::entropy(std::vector<int64_t>{}) == 0);
  CHECK(train::entropy(std::vector<int64_t>{5, 0, 0}) == 0);
  CHECK(train::entropy(std::vector<int64_t>{3, 3, 3, 3}) == Approx(std::log(4)).epsilon(1e-15));
  CHECK(train::effective_number(std::vector<int64_t>{7, 7, 7}) == Approx(3).epsilon(1e-14));
  CHECK(train::effective_number(std::vector<int64_t>{0, 9, 0}) == 1);
  // 1/2, 1/4, 1/4: H = 1.5 ln 2
  CHECK(train::entropy(std::vector<int64_t>{2, 1, 1}) == Approx(1.5 * std::log(2)).epsilon(1e-15));
}

TEST_CASE("information: mutual information of known tables") {
  const std::vector<int64_t> a = {4, 2, 2}, b = {1, 5, 2};
  std::vector<int64_t> product, same(16), collapsed(9), shifted(16);
  for (const int64_t x : a)
    for (const int64_t y : b) product.push_back(x * y);
  for (int e = 0; e < 4; ++e) same[e * 4 + e] = 11, shifted[e * 4 + (e + 1) % 4] = 11;
  collapsed[4] = 100;
  CHECK(std::abs(train::mutual_information(product, 3)) < 1e-15);
  CHECK(train::mutual_information(same, 4) == Approx(std::log(4)).epsilon(1e-15));
  CHECK(train::mutual_information(shifted, 4) == Approx(std::log(4)).epsilon(1e-15));
  CHECK(train::mutual_information(collapsed, 3) == 0);
  // {{3, 1}, {1, 3}} / 8: 2 (3/8 ln(3/2) + 1/8 ln(1/2))
  CHECK(train::mutual_information(std::vector<int64_t>{3, 1, 1, 3}, 2) ==
        Approx(0.75 * std::log(1.5) + 0.25 * std::log(0.5)).epsilon(1e-14));
  CHECK(train::chance_agreement(same, 4) == 0.25);
  CHECK(train::chance_agreement(shifted, 4) == 0.25);
  CHECK(train::chance_agreement(collapsed, 3) == 1);
  CHECK(train::chance_agreement(product, 3) == Approx((4 * 1 + 2 * 5 + 2 * 2) / 64.0));
  CHECK(error_of(ErrorKind::kShape, [&] { train::mutual_information(same, 3); }) != "no error");
}

TEST_CASE("audit: the error of a share over clusters") {
  train::ClusteredShare share;
  share.add(2, 4);
  CHECK(share.error() == 0);  // one image says nothing about others
  share.add(0, 0);            // an image without cases is none
  CHECK(share.error() == 0);
  share.add(0, 2);
  CHECK(share.share() == Approx(1 / 3.0));
  CHECK(share.error() == Approx(2 / 9.0));  // residuals 2/3, -2/3: sqrt(2 * 8/9) / 6
  train::ClusteredShare all, single;
  for (int i = 0; i < 100; ++i) all.add(3, 3), single.add(i % 4 == 0 ? 1 : 0, 1);
  CHECK(all.error() == 0);
  // One case a cluster: the binomial error, with n - 1.
  CHECK(single.error() == Approx(std::sqrt(0.25 * 0.75 / 99)));
}

TEST_CASE("audit: the two most probable experts") {
  const auto top = [](const std::vector<float>& p) {
    return train::top_two(p.data(), static_cast<int64_t>(p.size()));
  };
  CHECK(top({0.2f, 0.5f, 0.3f}).first == 1);
  CHECK(top({0.2f, 0.5f, 0.3f}).second == 2);
  CHECK(top({0.25f, 0.25f, 0.25f, 0.25f}).first == 0);
  CHECK(top({0.25f, 0.25f, 0.25f, 0.25f}).second == 1);
  CHECK(top({0.25f, 0.25f, 0.25f, 0.25f}).p_rest == 0.5);
  CHECK(top({0.25f, 0.5f, 0.25f}).second == 0);
  CHECK(top({1.0f}).second == -1);
  CHECK(top({1.0f}).p_second == 0);
}

TEST_CASE("audit: patches of one colour and pairs") {
  // Two views of one image, 2 channels of 4 x 4 pixels in patches of 2.
  std::vector<float> pixels(2 * 2 * 16, 0.5f);
  pixels[0 * 16 + 5] = 0.25f;        // view 1, channel 0, (1, 1): patch 0
  pixels[(2 + 1) * 16 + 15] = 0.6f;  // view 2, channel 1, (3, 3): patch 3
  for (int i = 0; i < 4; ++i) pixels[16 + 8 + i] = 0.1f * static_cast<float>(i);  // patches 2, 3
  std::vector<uint8_t> flat;
  train::find_flat_patches(view(pixels, {2, 2, 4, 4}), 2, flat);
  CHECK(flat == std::vector<uint8_t>{0, 1, 0, 0, 1, 1, 1, 0});

  std::vector<AuditPair> pairs;
  const std::vector<int32_t> match = {3, 3, -1, 2, 0, 1, 2, 3};
  const std::vector<uint8_t> marks = {0, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0};
  train::find_pairs(view(match, {2, 4}), marks, 5, pairs);
  // Image 0: 0->3 stays; 1 is flat; 2 has no partner; 3->2 is flat there. Image 1: 2 is flat there.
  REQUIRE(pairs.size() == 4);
  CHECK(pairs[0].source == 0);
  CHECK(pairs[0].left == 1);
  CHECK(pairs[0].right == 5 + 1 + 3);
  CHECK(pairs[1].source == 1);
  CHECK(pairs[1].left == 10 + 1);
  CHECK(pairs[3].right == 15 + 1 + 3);
  train::find_pairs(view(match, {2, 4}), marks, 4, pairs);  // no class token
  CHECK(pairs[0].left == 0);
  CHECK(error_of(ErrorKind::kShape, [&] {
          train::find_pairs(view(match, {2, 4}), marks, 6, pairs);
        }) != "no error");
}

TEST_CASE("audit: every figure of a layer by hand") {
  HandRouting hand(kProbabilities, 3, 2, 2, 3);
  hand.expert[2 * 2 + 1] = -1;  // view 1, patch 1: the second choice is dropped
  hand.expert[0] = -1;          // class token
  const LayerFigures f = figures_of(hand, kPairs);
  CHECK(f.layer == 1);
  CHECK(f.n_pairs == 2);
  CHECK(f.match_top1 == 0.5);
  CHECK(f.match_top1_chance == Approx(0.25));  // (1/2, 1/2, 0) and (1/2, 0, 1/2)
  CHECK(f.mutual_information == Approx(std::log(2)));
  CHECK(f.match_top2 == 0);
  CHECK(f.match_top2_any_order == 0.5);  // {1, 2} and {2, 1}
  CHECK(f.confidence_first == Approx((0.7 + 0.5 + 0.6 + 0.6) / 4));
  CHECK(f.confidence_second == Approx((0.2 + 0.3 + 0.3 + 0.3) / 4));
  CHECK(f.confidence_rest == Approx((0.1 + 0.2 + 0.1 + 0.1) / 4));
  CHECK(f.margin_mean == Approx((0.5 + 0.2 + 0.3 + 0.3) / 4));
  // S = 3/2 (r1 r2^T + r1' r2'^T)
  CHECK(f.s_diagonal_mean == Approx(0.5 * (0.42 + 0.02 + 0.03 + 0.02 + 0.15 + 0.18)));
  CHECK(f.s_offdiagonal_mean == Approx(1.5 * (2 - 0.82) / 6));
  REQUIRE(f.load.size() == 3);  // choices 0 1, 1 2, 0 2, 2 1
  CHECK(f.load[0] == 0.25);
  CHECK(f.load[1] == 0.375);
  CHECK(f.effective_experts == Approx(std::exp(-0.25 * std::log(0.25) - 0.75 * std::log(0.375))));
  CHECK(f.dropped_share == 0.125);
  CHECK(f.load_all_tokens[0] == Approx(4 / 12.0));  // class tokens choose 2 0 and 0 1
  CHECK(f.dropped_share_all_tokens == Approx(2 / 12.0));
}

TEST_CASE("audit: a collapsed router matches always and knows nothing") {
  std::vector<float> p;
  for (int token = 0; token < 12; ++token) p.insert(p.end(), {0.05f, 0.85f, 0.1f});
  const HandRouting hand(p, 3, 1, 4, 3);
  const LayerFigures f = figures_of(hand, {{0, 1, 4}, {0, 2, 5}, {1, 7, 10}});
  CHECK(f.match_top1 == 1);
  CHECK(f.match_top1_se == 0);
  CHECK(f.match_top1_chance == 1);
  CHECK(f.mutual_information == 0);
  CHECK(f.effective_experts == 1);
  CHECK(f.match_top2 == 1);
  CHECK(f.load == std::vector<double>{0, 1, 0});
}

TEST_CASE("audit: renumbered experts give the same figures") {
  const std::vector<int> to = {2, 0, 1};
  std::vector<float> permuted(kProbabilities.size());
  for (size_t i = 0; i < permuted.size(); ++i) permuted[i / 3 * 3 + to[i % 3]] = kProbabilities[i];
  const LayerFigures a = figures_of(HandRouting(kProbabilities, 3, 2, 2, 3), kPairs);
  const LayerFigures b = figures_of(HandRouting(permuted, 3, 2, 2, 3), kPairs);
  CHECK(a.match_top1 == b.match_top1);
  CHECK(a.match_top1_chance == Approx(b.match_top1_chance));
  CHECK(a.mutual_information == Approx(b.mutual_information));
  CHECK(a.effective_experts == Approx(b.effective_experts));
  CHECK(a.match_top2_any_order == b.match_top2_any_order);
  CHECK(a.confidence_rest == Approx(b.confidence_rest));
  CHECK(a.s_diagonal_mean == Approx(b.s_diagonal_mean));
  CHECK(a.s_offdiagonal_mean == Approx(b.s_offdiagonal_mean));
  for (size_t e = 0; e < 3; ++e) CHECK(a.load[e] == b.load[to[e]]);
}

TEST_CASE("audit: a router that is not finite ends it") {
  std::vector<float> p = kProbabilities;
  p[4] = NAN;
  CHECK(train::test::contains(
      error_of(ErrorKind::kValue, [&] { figures_of(HandRouting(p, 3, 2, 2, 3), kPairs); }),
      "the router of layer 1"));
}

namespace {

constexpr const char* kData = "shapes:size=16,train=30,test=30";

// A whole audit of a small random model as its JSON: every figure, to the last bit.
std::string whole_audit(const std::vector<std::string>& settings, const std::string& dump = "") {
  const SmallModel small(kData, settings);
  const train::AuditResult result =
      train::audit_model(*small.model.network, small.config, *small.test,
                         {.seed = 3, .noise_sigmas = {0.05, 0.5}, .dump_path = dump});
  return train::audit_json(result, {}) + train::audit_text(result);
}

}  // namespace

TEST_CASE("audit: same bits for any threads, workers and batch") {
  const std::string once = whole_audit({});
  CHECK(engine::test::same_bits_for_threads([] {
    const std::string text = whole_audit({});
    return std::vector<char>(text.begin(), text.end());
  }));
  CHECK(whole_audit({"data.workers=0"}) == once);
  CHECK(whole_audit({"data.workers=3"}) == once);
  CHECK(whole_audit({"eval.batch=7"}) == once);
  CHECK(whole_audit({"eval.limit=29"}) != once);
}

TEST_CASE("audit: without MoE layers or without anything to compare it says so") {
  CHECK(train::test::contains(error_of(ErrorKind::kValue, [] { whole_audit({"moe.layers=none"}); }),
                              "no MoE layers"));
  CHECK(train::test::contains(error_of(ErrorKind::kValue,
                                       [] {
                                         const SmallModel small(kData, {});
                                         train::audit_model(*small.model.network, small.config,
                                                            *small.test, {.noise_sigmas = {-1}});
                                       }),
                              "noise level -1"));
}

TEST_CASE("audit: equal views match always, and their information is the entropy of the choice") {
  const SmallModel small(kData, {"augment.crop=none", "augment.flip=false", "moe.top_k=1"});
  const train::AuditResult result =
      train::audit_model(*small.model.network, small.config, *small.test, {});
  for (const LayerFigures& f : result.layers) {
    CHECK(f.n_pairs > 400);
    CHECK(f.match_top1 == 1);
    CHECK(f.match_top2 == 1);
    CHECK(f.match_top1_chance < 1);
    CHECK(f.effective_experts > 1.1);
    CHECK(std::exp(f.mutual_information) == Approx(f.effective_experts));  // K = 1
  }
}

TEST_CASE("audit: one expert, mean pooling, capacity") {
  for (const std::vector<std::string>& settings :
       {std::vector<std::string>{"moe.experts=1", "moe.top_k=1"},
        std::vector<std::string>{"model.pool=mean"},
        std::vector<std::string>{"moe.dispatch=capacity", "moe.eval_capacity_factor=0.5",
                                 "moe.capacity_multiple_of=1", "moe.group_images=8"}}) {
    const SmallModel small(kData, settings);
    const train::AuditResult result =
        train::audit_model(*small.model.network, small.config, *small.test, {});
    REQUIRE(result.layers.size() == 2);
    CHECK(result.n_images == 30);
    const LayerFigures& f = result.layers[1];
    CHECK(f.n_pairs > 100);
    if (f.experts == 1) {
      CHECK(f.match_top1 == 1);
      CHECK(f.match_top2 == 1);
      CHECK(f.s_diagonal_mean == 1);
      CHECK(f.effective_experts == 1);
    }
    const bool capacity = small.config.moe.dispatch == "capacity";
    CHECK((f.dropped_share_all_tokens > 0) == capacity);
    CHECK((f.dropped_share > 0) == capacity);
  }
}

namespace {

// Another set's pictures with their left half black: some patches are of one colour.
class HalfBlack final : public data::Dataset {
 public:
  explicit HalfBlack(const data::Dataset& base) : base_(base) {}
  const data::Info& info() const override { return base_.info(); }
  int64_t size() const override { return base_.size(); }
  int64_t label(int64_t i) const override { return base_.label(i); }
  void read(int64_t i, data::ImageU8& out) const override {
    base_.read(i, out);
    for (int64_t y = 0; y < out.height; ++y) {
      std::fill_n(out.at(y, 0), out.width / 2 * out.channels, uint8_t{0});
    }
  }

 private:
  const data::Dataset& base_;
};

// How often which first experts met.
struct Joint {
  double information(double n) {
    double sum = 0;
    for (const auto& entry : both) {
      const double independent = left[entry.first.first] * right[entry.first.second];
      sum += entry.second / n * std::log(entry.second * n / independent);
    }
    return sum;
  }
  double chance(double n) {
    double sum = 0;
    for (const auto& entry : left) sum += entry.second / n * right[entry.first] / n;
    return sum;
  }
  std::map<std::pair<int, int>, double> both;
  std::map<int, double> left, right;
};

void check_layer(const Dump& dump, const LayerFigures& f) {
  double n = 0, top1 = 0, top2 = 0, any = 0, first = 0, second = 0, rest = 0, dropped = 0;
  Joint joint;
  std::vector<double> margins(20);
  std::vector<double> load(static_cast<size_t>(f.experts));
  std::vector<double> s(static_cast<size_t>(f.experts * f.experts));
  const auto& partner = dump.columns.at("partner");
  for (size_t row = 0; row < partner.size(); ++row) {
    if (dump.columns.at("layer")[row] != f.layer || partner[row] < 0) continue;
    const int64_t left = static_cast<int64_t>(row), right = partner[row];
    CHECK(dump.columns.at("image")[left] == dump.columns.at("image")[right]);
    CHECK(dump.columns.at("view")[left] * 10 + dump.columns.at("view")[right] == 12);
    CHECK(dump.columns.at("flat")[left] + dump.columns.at("flat")[right] == 0);
    CHECK(std::min(dump.columns.at("token")[left], dump.columns.at("token")[right]) > 0);
    const std::vector<int> a = dump.sorted(left), b = dump.sorted(right);
    ++n;
    top1 += a[0] == b[0];
    top2 += a[0] == b[0] && a[1] == b[1];
    any += std::set<int>{a[0], a[1]} == std::set<int>{b[0], b[1]};
    ++joint.both[{a[0], b[0]}], ++joint.left[a[0]], ++joint.right[b[0]];
    for (const int64_t member : {left, right}) {
      const std::vector<int> order = dump.sorted(member);
      first += dump.p(member, order[0]);
      second += dump.p(member, order[1]);
      for (int64_t e = 2; e < f.experts; ++e) rest += dump.p(member, order[e]);
      const double margin = dump.p(member, order[0]) - dump.p(member, order[1]);
      ++margins[std::min(19, static_cast<int>(20 * margin))];
      for (int64_t j = 0; j < dump.top_k; ++j) {
        CHECK(dump.columns.at("experts")[member * dump.top_k + j] == order[j]);
        ++load[order[j]];
        dropped += dump.columns.at("routed")[member * dump.top_k + j] < 0;
      }
    }
    for (int64_t i = 0; i < f.experts * f.experts; ++i) {
      s[i] += dump.p(left, i / f.experts) * dump.p(right, i % f.experts);
    }
  }
  double diagonal = 0, off = 0;
  const double e = static_cast<double>(f.experts);
  for (int64_t i = 0; i < f.experts * f.experts; ++i) {
    (i / f.experts == i % f.experts ? diagonal : off) += e / n * s[i];
    CHECK(f.s[i] == Approx(e / n * s[i]));
  }
  const double choices = 2 * n * static_cast<double>(dump.top_k);
  double entropy = 0;
  for (size_t i = 0; i < load.size(); ++i) {
    CHECK(f.load[i] == Approx(load[i] / choices));
    if (load[i] > 0) entropy -= load[i] / choices * std::log(load[i] / choices);
  }
  CHECK(static_cast<double>(f.n_pairs) == n);
  CHECK(f.match_top1 == Approx(top1 / n));
  CHECK(f.match_top1_chance == Approx(joint.chance(n)));
  CHECK(f.mutual_information == Approx(joint.information(n)));
  CHECK(f.match_top2 == Approx(top2 / n));
  CHECK(f.match_top2_any_order == Approx(any / n));
  CHECK(f.confidence_first == Approx(first / (2 * n)));
  CHECK(f.confidence_second == Approx(second / (2 * n)));
  CHECK(f.confidence_rest == Approx(rest / (2 * n)));
  CHECK(f.margin_mean == Approx((first - second) / (2 * n)));
  CHECK(f.margin_histogram == margins);
  CHECK(f.s_diagonal_mean == Approx(diagonal / e));
  CHECK(f.s_offdiagonal_mean == Approx(off / (e * (e - 1))));
  CHECK(f.effective_experts == Approx(std::exp(entropy)));
  CHECK(f.dropped_share == Approx(dropped / choices));
}

void check_sweep(const Dump& dump, const train::AuditResult& result) {
  const auto& label = dump.columns.at("sweep.label");
  const auto& flat = dump.columns.at("sweep.flat");
  const auto& prediction = dump.columns.at("sweep.prediction");
  const auto& top1 = dump.columns.at("sweep.top1");
  const std::vector<double> sigma = dump.read<double>("sweep.sigma");
  const size_t n = label.size(), layers = result.layers.size();
  REQUIRE(n == static_cast<size_t>(result.n_images));
  REQUIRE(sigma.size() == result.noise_sweep.size());
  for (size_t level = 0; level < sigma.size(); ++level) {
    const train::NoiseLevel& figures = result.noise_sweep[level];
    CHECK(figures.sigma == sigma[level]);
    double right = 0, changed = 0;
    for (size_t i = 0; i < n; ++i) {
      right += prediction[level * n + i] == label[i];
      changed += prediction[level * n + i] != prediction[i];
    }
    CHECK(figures.accuracy == Approx(right / static_cast<double>(n)));
    CHECK(figures.changed_predictions == Approx(changed / static_cast<double>(n)));
    for (size_t l = 0; l < layers; ++l) {
      double flips = 0, cases = 0;
      for (size_t i = 0; i < flat.size(); ++i) {
        if (flat[i] != 0) continue;
        ++cases;
        flips += top1[(level * layers + l) * flat.size() + i] != top1[l * flat.size() + i];
      }
      CHECK(std::accumulate(result.layers[l].class_expert.begin(),
                            result.layers[l].class_expert.end(), 0.0) == cases);
      CHECK(figures.top1_flips[l] == Approx(flips / cases));
    }
  }
}

}  // namespace

TEST_CASE("audit: the dump gives the same figures again") {
  const TempFolder folder;
  for (const std::vector<std::string>& settings :
       {std::vector<std::string>{},
        std::vector<std::string>{"moe.dispatch=capacity", "moe.eval_capacity_factor=0.5",
                                 "moe.capacity_multiple_of=1", "moe.group_images=8"}}) {
    const SmallModel small(kData, settings);
    const train::AuditOptions options{
        .seed = 3, .noise_sigmas = {0.1, 1}, .dump_path = folder / "dump.safetensors"};
    const HalfBlack images(*small.test);
    const train::AuditResult result =
        train::audit_model(*small.model.network, small.config, images, options);
    const Dump dump(options.dump_path);
    const auto& flat = dump.columns.at("sweep.flat");
    CHECK(std::count(flat.begin(), flat.end(), 1) == 30 * 8);  // the data exercise what is checked
    for (const LayerFigures& f : result.layers) {
      CHECK(f.match_top1 < 1);
      CHECK(f.mutual_information > 0);
      check_layer(dump, f);
    }
    CHECK(result.noise_sweep[0].changed_predictions == 0);
    CHECK(result.noise_sweep[0].top1_flips == std::vector<double>{0, 0});
    CHECK(result.noise_sweep[2].top1_flips[0] > result.noise_sweep[1].top1_flips[0]);
    CHECK(result.noise_sweep[1].top1_flips[0] > 0);
    check_sweep(dump, result);
  }
}

TEST_CASE("noise sweep: what the model sees is x + sigma w z with one z an image") {
  for (const std::vector<std::string>& settings :
       {std::vector<std::string>{"augment.low=-1", "augment.high=3"},
        std::vector<std::string>{"augment.mean=0.5,0.4,0.3", "augment.stddev=0.5,0.25,0.2"}}) {
    const SmallModel small(kData, settings);
    const bool statistics = !small.config.augment.stddev.empty();
    data::Loader loader =
        data::Loader::evaluation(*small.test, train::evaluation_loader(small.config));
    train::Inference inference(*small.model.network);
    train::NoiseSweep sweep(small.config, 9, {0.3, 0});
    REQUIRE(sweep.sigmas() == std::vector<double>{0, 0.3});
    while (const data::Batch* batch = loader.next()) {
      sweep.add(inference, *batch);
      std::vector<float> noisy = batch->pixels;
      for (int64_t i = 0; i < static_cast<int64_t>(noisy.size()); ++i) {
        const int64_t image = i / (3 * 256), channel = i / 256 % 3;
        const engine::RngKey key = engine::RngKey(9, engine::Purpose::kNoiseSweep)
                                       .with(static_cast<uint64_t>(batch->samples[image]));
        const double unit = statistics ? 1 / small.config.augment.stddev[channel] : 4;
        noisy[i] +=
            static_cast<float>(0.3 * unit * key.normal(static_cast<uint64_t>(i % (3 * 256))));
      }
      const moe::ModelOutput& out = inference.run(view(noisy, {batch->views, 3, 16, 16}));
      int64_t differ = 0;
      for (int64_t b = 0; b < batch->views; ++b) {
        for (int64_t p = 0; p < 16; ++p) {
          const float* clean = out.routings[0].clean.data<const float>() + (b * 17 + 1 + p) * 4;
          differ += train::top_two(clean, 4).first != sweep.last_rows().top1[2][b * 16 + p];
        }
      }
      CHECK(differ <= batch->views * 16 / 100);  // rounding may decide a tie
    }
  }
}
