#include "train/paired.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

TEST_CASE("paired: Student's distribution where its tail has a closed form or a known value") {
  const double pi = 3.14159265358979323846;
  for (const double t : {-3.0, -0.5, 0.0, 0.1, 1.0, 2.5, 40.0}) {
    CAPTURE(t);
    // 1 and 2 degrees of freedom.
    CHECK(train::student_upper(t, 1) == doctest::Approx(0.5 - std::atan(t) / pi).epsilon(1e-10));
    CHECK(train::student_upper(t, 2) ==
          doctest::Approx(0.5 - t / (2 * std::sqrt(2 + t * t))).epsilon(1e-9));
    CHECK(train::student_upper(t, 7) + train::student_upper(-t, 7) == doctest::Approx(1));
  }
  // Tables: 5 % and 1 % points.
  for (const auto& [degrees, five, one] : {std::tuple{3, 2.353363435, 4.540702859},
                                           {4, 2.131846786, 3.746947388},
                                           {10, 1.812461123, 2.763769458},
                                           {120, 1.657650899, 2.357824610}}) {
    CHECK(train::student_upper(five, degrees) == doctest::Approx(0.05).epsilon(1e-8));
    CHECK(train::student_upper(one, degrees) == doctest::Approx(0.01).epsilon(1e-8));
  }
  CHECK(train::student_upper(std::numeric_limits<double>::infinity(), 3) == 0);
  CHECK(std::isnan(train::student_upper(1, 0)));
}

TEST_CASE("paired: mean, standard error and test") {
  const std::vector<double> d = {1, 2, 3, 6};
  const train::PairedTest test = train::paired_test(d);
  CHECK(test.difference.n == 4);
  CHECK(test.difference.mean == 3);
  CHECK(test.difference.error == doctest::Approx(std::sqrt(14.0 / 12)));
  CHECK(test.t == doctest::Approx(3 / std::sqrt(14.0 / 12)));
  CHECK(test.p == doctest::Approx(train::student_upper(test.t, 3)));
  CHECK(test.p < 0.05);
  CHECK(train::paired_test(std::vector<double>{-1, -2, -3, -6}).p > 0.95);
  CHECK(train::paired_test(std::vector<double>{2, 2}).p == 0);
  CHECK(train::paired_test(std::vector<double>{0, 0}).p == doctest::Approx(0.5));
  const train::PairedTest single = train::paired_test(std::vector<double>{5});
  CHECK(single.difference.mean == 5);
  CHECK(std::isnan(single.difference.error));
  CHECK(std::isnan(single.p));
}
