#include "train/schedule.h"

#include <doctest/doctest.h>

#include <cmath>
#include <span>
#include <string>

#include "tests/support/tensors.h"

using train::Config;
using train::learning_rate;

namespace {

// The published run's numbers.
Config::Schedule schedule(const std::string& kind) {
  Config::Schedule s;
  s.kind = kind;
  s.peak = 0.003;
  s.end = 1e-5;
  s.warmup_steps = 500;
  return s;
}

doctest::Approx near(double value) { return doctest::Approx(value).epsilon(1e-12); }

// Rates of PyTorch's schedulers, an epoch each (tests/reference/golden_schedule.py).
// clang-format off
constexpr double kRsmPolynomial[] = {
    0.001, 0.09909954834128343, 0.09819818665965753, 0.09729590473501305,
    0.0963926921258551, 0.09548853816214997, 0.09458343193786321, 0.09367736230317175,
    0.09277031785633283, 0.09186228693518994, 0.09095325760829623, 0.09004321766563289,
    0.0891321546089, 0.08822005564135439, 0.0873069076571686, 0.08639269723028192,
    0.08547741060271344, 0.08456103367230419, 0.0836435519798534, 0.08272495069561095,
    0.08180521460508584, 0.08088432809412661, 0.07996227513322693, 0.07903903926100556,
    0.07811460356680608, 0.07718895067235705, 0.07626206271242884, 0.07533392131441786,
    0.07440450757678328, 0.07347380204625457, 0.072541784693722, 0.07160843488871357,
    0.07067373137235415, 0.06973765222869263, 0.06880017485427282, 0.06786127592581251,
    0.06692093136584149, 0.06597911630613656, 0.0650358050487742, 0.06409097102460522,
    0.06314458674893553, 0.06219662377417515, 0.06124705263919325, 0.06029584281508921,
    0.0593429626470586, 0.05838837929199803, 0.05743205865145341, 0.05647396529947099,
    0.05551406240486037, 0.054552311647320585, 0.05358867312681466, 0.05262310526550319,
    0.0516555647014613, 0.05068600617330474, 0.04971438239473716, 0.04874064391789954,
    0.04776473898425048, 0.046786613361530005, 0.04580621016515332, 0.04482346966214095,
    0.043838329055408694, 0.042850722245909176, 0.04186057956972281, 0.04086782750672989,
    0.03987238835693844, 0.03887417987987635, 0.03787311489165393, 0.036869100813333194,
    0.03586203916306077, 0.034851824982980034, 0.033838346190164986, 0.032821482838625377,
    0.03180110627669995, 0.03077707818072785, 0.029749249441556526, 0.028717458874925873,
    0.027681531719676352, 0.026641277878530392, 0.025596489844146204, 0.024546940237185757,
    0.023492378861760376, 0.022432529154608912, 0.02136708386445385, 0.020295699742231398,
    0.019217990943702905, 0.018133520731367456, 0.017041790893331674, 0.015942228040916464,
    0.014834165549752873, 0.01371681927451782, 0.012589254117941671, 0.011450336728854526,
    0.010298666348361787, 0.009132469616782773, 0.007949432487547623, 0.006746414238367822,
    0.005518918645844864, 0.004259995391188707, 0.00295751527325663, 0.0015848931924611145,
};
constexpr double kRsmCosine[] = {
    0.001, 0.020718190026137707, 0.039963209030183286, 0.05828165138409767,
    0.0752443836652183, 0.09045803553167428, 0.08645751169674573, 0.08188244640925275,
    0.07680499118179065, 0.07130522051642124, 0.06546986908194113, 0.05939096385634207,
    0.05316437280639368, 0.046888292992538876, 0.04066170194259049, 0.034582796716991424,
    0.028747445282511292, 0.023247674617141865, 0.01817021938967978, 0.013595154102186823,
    0.009594630267258273, 0.00623173853556807, 0.0035595137186191193, 0.0016200983980844315,
    0.00044407831211938317, 5e-05, 0.0004440678018089682, 0.0016200565225966564,
    0.003559420117734634, 0.006231573664807923,
};
constexpr double kRsmCosineCold[] = {
    0.001, 0.0009829629131445341, 0.0009330127018922195, 0.0008535533905932737,
    0.00075, 0.0006294095225512604, 0.0005, 0.0003705904774487397,
    0.0002500000000000001, 0.00014644660940672628, 6.698729810778065e-05, 1.70370868554659e-05,
};
constexpr double kRsmCosineLongWarmup[] = {
    0.001, 0.0090025, 0.005758263888888891, 1e-05,
    0.025010735294117643, 0.09335341176470595, 0.14891758543417377, 0.13002755593879356,
    0.0494615917886865, 1e-05, 0.025007499999999995, 0.0750024999999999,
};
constexpr double kStep[] = {
    0.1, 0.1, 0.010000000000000002, 0.010000000000000002,
    0.0010000000000000002, 0.0010000000000000002,
};
// clang-format on

Config::Schedule per_epoch(const std::string& kind, double end = 0, int64_t warmup_epochs = 0) {
  Config::Schedule s;
  s.kind = kind;
  s.peak = 0.1;
  s.end = end;
  s.power = 0.9;
  s.warmup_epochs = warmup_epochs;
  return s;
}

// Every step of `per` an epoch has the epoch's rate.
void check_epochs(const Config::Schedule& s, std::span<const double> golden, int64_t per) {
  const auto epochs = static_cast<int64_t>(golden.size());
  for (int64_t e = 0; e < epochs; ++e) {
    CAPTURE(e);
    const double expected = golden[static_cast<size_t>(e)];
    for (int64_t step = e * per; step < (e + 1) * per; ++step) {
      const double rate = learning_rate(s, step, epochs * per, epochs);
      // Not Approx, whose tolerance is at least 1e-12 of 1.
      CHECK(std::abs(rate - expected) <= 1e-12 * expected);
    }
  }
}

}  // namespace

TEST_CASE("schedule: warm-up, then a cosine to the end") {
  const Config::Schedule s = schedule("cosine");
  constexpr int64_t kSteps = 10'000;
  CHECK(learning_rate(s, 0, kSteps) == 0);
  CHECK(learning_rate(s, 1, kSteps) == near(6e-6));
  CHECK(learning_rate(s, 250, kSteps) == near(0.0015));
  CHECK(learning_rate(s, 499, kSteps) == near(0.002994));
  CHECK(learning_rate(s, 500, kSteps) == near(0.003));
  CHECK(learning_rate(s, 5250, kSteps) == near(0.001505));
  CHECK(learning_rate(s, 10'000, kSteps) == near(1e-5));
  // A third of the way: cos(pi / 3) = 1/2, so three quarters of the range are left.
  CHECK(learning_rate(s, 3000 + 500, 9500) == near(1e-5 + 0.75 * 0.00299));
  CHECK(learning_rate(s, 20'000, kSteps) == near(1e-5));
}

TEST_CASE("schedule: linear and constant") {
  const Config::Schedule line = schedule("linear"), flat = schedule("constant");
  constexpr int64_t kSteps = 10'000;
  for (const Config::Schedule& s : {line, flat}) {
    CHECK(learning_rate(s, 0, kSteps) == 0);
    CHECK(learning_rate(s, 250, kSteps) == near(0.0015));
    CHECK(learning_rate(s, 500, kSteps) == near(0.003));
  }
  CHECK(learning_rate(line, 2875, kSteps) == near(0.003 - 0.00299 / 4));
  CHECK(learning_rate(line, 10'000, kSteps) == near(1e-5));
  CHECK(learning_rate(flat, 2875, kSteps) == near(0.003));
  CHECK(learning_rate(flat, 10'000, kSteps) == near(0.003));
}

TEST_CASE("schedule: polynomial") {
  Config::Schedule s = schedule("polynomial");
  constexpr int64_t kSteps = 10'000;
  CHECK(learning_rate(s, 250, kSteps) == near(0.0015));
  CHECK(learning_rate(s, 500, kSteps) == near(0.003));
  s.power = 1;
  CHECK(learning_rate(s, 2875, kSteps) == near(0.003 - 0.00299 / 4));
  s.power = 0.5;
  CHECK(learning_rate(s, 500 + 7125, kSteps) == near(1e-5 + 0.00299 / 2));
  CHECK(learning_rate(s, 10'000, kSteps) == near(1e-5));
  CHECK(learning_rate(s, 20'000, kSteps) == near(1e-5));
  s.power = 0.9;
  s.warmup_steps = 0;
  s.peak = 0.1;
  s.end = 0;
  CHECK(learning_rate(s, 50, 200) == near(0.1 * 0.7718895067235705));  // 0.75^0.9
}

TEST_CASE("schedule: without warm-up, and warm-up alone") {
  Config::Schedule s = schedule("cosine");
  s.warmup_steps = 0;
  CHECK(learning_rate(s, 0, 100) == near(0.003));
  CHECK(learning_rate(s, 50, 100) == near(0.001505));
  s.warmup_steps = 100;
  CHECK(learning_rate(s, 99, 100) == near(0.99 * 0.003));
  CHECK(learning_rate(s, 100, 100) == near(0.003));
}

TEST_CASE("schedule: once an epoch, the published polynomial starts at a hundredth") {
  check_epochs(per_epoch("rsm-polynomial"), kRsmPolynomial, 3);
  CHECK(kRsmPolynomial[0] == 0.001);
  CHECK(kRsmPolynomial[1] > 0.099);
}

TEST_CASE("schedule: once an epoch, the published cosine with its chained warm-up") {
  check_epochs(per_epoch("rsm-cosine", 5e-5, 5), kRsmCosine, 3);
  check_epochs(per_epoch("rsm-cosine"), kRsmCosineCold, 2);
  // Twice through the floor, with the warm-up on the way.
  check_epochs(per_epoch("rsm-cosine", 1e-5, 9), kRsmCosineLongWarmup, 1);
  CHECK(kRsmCosine[25] == 5e-5);
  CHECK(kRsmCosine[29] > 100 * kRsmCosine[25]);
}

TEST_CASE("schedule: a tenth every so many epochs") {
  Config::Schedule s = per_epoch("step");
  const int64_t epochs[] = {0, 29, 30, 59, 60, 89};
  for (size_t i = 0; i < std::size(epochs); ++i) {
    CHECK(learning_rate(s, epochs[i] * 7 + 6, 90 * 7, 90) == near(kStep[i]));
  }
  s.step_epochs = 2;
  CHECK(learning_rate(s, 1, 5, 5) == near(0.1));
  CHECK(learning_rate(s, 2, 5, 5) == near(0.01));
  CHECK(learning_rate(s, 4, 5, 5) == near(0.001));
  s.warmup_steps = 4;
  CHECK(learning_rate(s, 0, 90, 9) == 0);
  CHECK(learning_rate(s, 3, 90, 9) == near(0.075));
  CHECK(learning_rate(s, 4, 90, 9) == near(0.1));
}

TEST_CASE("schedule: the epoch of a step where epochs and steps do not fit") {
  Config::Schedule s = per_epoch("step");
  s.step_epochs = 1;
  const double expected[] = {0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001};  // floor(step * 3 / 7)
  for (int64_t step = 0; step < 7; ++step) {
    CHECK(learning_rate(s, step, 7, 3) == near(expected[step]));
  }
  CHECK(learning_rate(s, 7, 7, 3) == near(0.001));  // beyond the end: the last epoch's
  CHECK(learning_rate(per_epoch("rsm-polynomial"), 9, 7, 3) == near(0.1 * std::pow(1.0 / 3, 0.9)));
  for (const char* kind : {"step", "rsm-polynomial", "rsm-cosine"}) {
    CHECK(engine::test::caught([&] {
            learning_rate(per_epoch(kind), 0, 7);
          }).is(engine::ErrorKind::kValue, {kind, "train.epochs", "set it"}));
    CHECK(train::per_epoch(per_epoch(kind)));
  }
  CHECK_FALSE(train::per_epoch(per_epoch("cosine")));
}
