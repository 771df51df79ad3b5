#include "engine/core/error.h"

#include <doctest/doctest.h>

#include <string>

using namespace engine;

namespace {

struct Counted {
  int* streamed;
};
std::ostream& operator<<(std::ostream& os, const Counted& c) {
  ++*c.streamed;
  return os << "counted";
}

void blamed_on_the_caller(Blame blame) { check(false, blame, "never"); }

}  // namespace

TEST_CASE("error: kind message and the line it was written on") {
  int line = 0;
  try {
    line = __LINE__ + 1;
    check(false, ErrorKind::kShape, "softmax: expected ", 3, " got ", 4.5);
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::kShape);
    CHECK(e.message() == "softmax: expected 3 got 4.5");
    CHECK(std::string(e.what()) ==
          "error_test.cc:" + std::to_string(line) + ": softmax: expected 3 got 4.5");
  }
  CHECK(line != 0);
}

TEST_CASE("error: fail throws always") {
  CHECK_THROWS_AS(fail(ErrorKind::kIo, "disk full"), Error);
  try {
    fail(ErrorKind::kFormat, "byte ", 17);
  } catch (const std::runtime_error& e) {  // so that a caller may know nothing of Error
    CHECK(std::string(e.what()).find("byte 17") != std::string::npos);
  }
}

TEST_CASE("error: a passing check streams nothing") {
  int streamed = 0;
  check(true, ErrorKind::kValue, Counted{&streamed});
  CHECK(streamed == 0);
  CHECK_THROWS_AS(check(false, ErrorKind::kValue, Counted{&streamed}), Error);
  CHECK(streamed == 1);
}

TEST_CASE("error: blame is passed on") {
  const int line = __LINE__ + 2;
  try {
    blamed_on_the_caller(ErrorKind::kInternal);
    CHECK(false);
  } catch (const Error& e) {
    CHECK(std::string(e.what()) == "error_test.cc:" + std::to_string(line) + ": never");
  }
}

TEST_CASE("error: a file without a folder keeps its name") {
  const Error e(Blame(ErrorKind::kIo, "plain.cc", 7), "m");
  CHECK(std::string(e.what()) == "plain.cc:7: m");
}
