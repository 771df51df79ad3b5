#include "train/router_watch.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

using train::RouterWatch;

namespace {

// What one step of a model with a single MoE layer, block 3, reports.
train::StepResult served(const std::vector<int64_t>& tokens, int64_t dropped = 0) {
  train::StepResult step;
  train::LayerLoad load;
  load.layer = 3;
  load.name = "block 3";
  load.tokens = tokens;
  load.dropped = dropped;
  load.choices = dropped;
  for (const int64_t n : tokens) load.choices += n;
  step.layers.push_back(load);
  return step;
}

RouterWatch::Summary watched(const std::vector<int64_t>& tokens, int64_t top_k = 2,
                             int64_t dropped = 0) {
  RouterWatch watch(static_cast<int64_t>(tokens.size()), top_k);
  watch.add(served(tokens, dropped));
  return watch.take().at(0);
}

using Texts = std::vector<std::string>;

}  // namespace

TEST_CASE("router_watch: an even load is fine") {
  const RouterWatch::Summary s = watched({100, 100, 100, 100});
  CHECK(s.layer == 3);
  CHECK(s.load == std::vector<double>{0.25, 0.25, 0.25, 0.25});
  CHECK(s.effective_experts == doctest::Approx(4));
  CHECK(s.busiest == doctest::Approx(1));
  CHECK(s.emptiest == doctest::Approx(1));
  CHECK(s.dropped_share == 0);
  CHECK(s.dead.empty());
  CHECK(s.starved.empty());
  CHECK_FALSE(s.collapsed);
  CHECK(RouterWatch::warnings({s}).empty());
}

TEST_CASE("router_watch: dead and starved experts") {
  // Fair share is 100 of 800: 9 and 1 are below a tenth of it, 10 is not.
  const RouterWatch::Summary s = watched({0, 9, 10, 200, 1, 240, 0, 340});
  CHECK(s.dead == std::vector<int64_t>{0, 6});
  CHECK(s.starved == std::vector<int64_t>{1, 4});
  CHECK(s.emptiest == 0);
  CHECK(s.busiest == doctest::Approx(3.4));
  CHECK(RouterWatch::warnings({s}) ==
        Texts{"router of block 3: dead experts 0, 6",
              "router of block 3: starved experts 1, 4 (below 0.1 of fair share)"});
}

TEST_CASE("router_watch: a collapsed router") {
  const RouterWatch::Summary s = watched({500, 500, 20, 20, 20, 20, 20, 20});
  const double big = 500.0 / 1120, small = 20.0 / 1120;
  CHECK(s.effective_experts ==
        doctest::Approx(std::exp(-2 * big * std::log(big) - 6 * small * std::log(small))));
  CHECK_FALSE(s.collapsed);  // 3.1 effective experts of 2
  CHECK(watched({500, 500, 20, 20, 20, 20, 20, 20}, 3).collapsed);

  const RouterWatch::Summary pair = watched({500, 500, 15, 15, 0, 0, 0, 0});
  CHECK(pair.collapsed);
  const Texts texts = RouterWatch::warnings({pair});
  REQUIRE(texts.size() == 2);
  CHECK(texts[0] == "router of block 3: dead experts 4, 5, 6, 7");
  CHECK(texts[1] == "router of block 3: collapsed: 2.28 effective experts of 8");
  // With K + 1 experts or fewer there is no choice to speak of.
  CHECK_FALSE(watched({10, 10, 1}).collapsed);
  CHECK(watched({10, 10, 1}, 2).effective_experts < 2.5);
}

TEST_CASE("router_watch: shares are of served choices, and a new interval starts from nothing") {
  CHECK(watched({30, 30, 30, 10}, 2, 100).dropped_share == doctest::Approx(0.5));
  CHECK(watched({30, 30, 30, 10}, 2, 100).load[3] == doctest::Approx(0.1));

  RouterWatch watch(4, 2);
  CHECK(watch.take().empty());
  watch.add(served({8, 0, 0, 0}, 8));
  watch.add(served({0, 8, 8, 8}));
  const auto first = watch.take();
  CHECK(first.at(0).load == std::vector<double>{0.25, 0.25, 0.25, 0.25});
  CHECK(first.at(0).dropped_share == doctest::Approx(0.2));
  watch.add(served({0, 1, 1, 2}));
  const auto second = watch.take();
  CHECK(second.at(0).dead == std::vector<int64_t>{0});
  CHECK(second.at(0).load[3] == 0.5);
  CHECK(second.at(0).dropped_share == 0);
}

TEST_CASE("router_watch: every layer has its own lines") {
  const RouterWatch::Summary fine = watched({5, 5, 5, 5});
  RouterWatch::Summary bad = watched({5, 5, 5, 0});
  bad.layer = 11;
  bad.name = "block 11";
  const Texts texts = RouterWatch::warnings({fine, bad, fine});
  REQUIRE(texts.size() == 1);
  CHECK(texts[0] == "router of block 11: dead experts 3");
}
