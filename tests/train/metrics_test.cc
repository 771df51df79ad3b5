#include "train/metrics.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>

#include <cmath>
#include <limits>

#include "tests/train/temp_folder.h"
#include "train/log.h"

using engine::ErrorKind;
using namespace train;
using namespace train::test;

namespace {
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();
}  // namespace

TEST_CASE("metrics: a line is flat JSON in the order given") {
  CHECK(json_line({{"step", 7},
                   {"loss", 0.1},
                   {"rate", 1e-20},
                   {"one", 1.0},
                   {"kind", "tr\"ain\n\xff"},
                   {"bad", kNan},
                   {"load", std::vector<double>{0.5, -kInf, 2}}}) ==
        "{\"step\": 7, \"loss\": 0.1, \"rate\": 1e-20, \"one\": 1.0, "
        "\"kind\": \"tr\\\"ain\\n\xEF\xBF\xBD\", \"bad\": null, \"load\": [0.5,null,2.0]}");
  CHECK(json_line({}) == "{}");
  CHECK(contains(error_of(ErrorKind::kInternal, [] { json_line({{"a", 1}, {"a", 2}}); }), "\"a\""));
}

TEST_CASE("metrics: lines are in the file at once, and a second run does not overwrite them") {
  const TempFolder folder;
  const std::string run = folder / "deep/run";
  Metrics metrics(run, std::nullopt);
  metrics.write({{"step", 1}});
  CHECK(content_of(run + "/metrics.jsonl") == "{\"step\": 1}\n");
  metrics.write({{"step", 2}});
  metrics.flush();
  CHECK(content_of(run + "/metrics.jsonl") == "{\"step\": 1}\n{\"step\": 2}\n");
  CHECK(contains(error_of(ErrorKind::kValue, [&] { Metrics(run, std::nullopt); }), "--resume"));
}

TEST_CASE("metrics: a resumed run goes on where its checkpoint was") {
  const TempFolder folder;
  const std::string path = folder / "metrics.jsonl";
  const std::string kept =
      "{\"program\": \"x\"}\n{\"step\": 1, \"loss\": 3.5}\n{\"step\": 2, \"loss\": 2.5}\n";
  put(path, kept + "{\"step\": 3, \"loss\": 9.5}\n{\"step\": 4, \"lo");
  {
    Metrics metrics(folder.path(), 2);
    CHECK(metrics.dropped() == 2);
    metrics.write({{"step", 3}, {"loss", 1.5}});
  }
  CHECK(content_of(path) == kept + "{\"step\": 3, \"loss\": 1.5}\n");
  CHECK(Metrics(folder.path(), 3).dropped() == 0);
  CHECK(Metrics(folder.path(), -1).dropped() == 3);
  CHECK(content_of(path) == "{\"program\": \"x\"}\n");
  CHECK(names_in(folder.path()).size() == 1);
}

TEST_CASE("metrics: half a line and lines that are no objects are dropped") {
  const TempFolder folder;
  const std::string path = folder / "metrics.jsonl";
  put(path, "{\"step\": 1}\n\n[1]\n{\"step\": \"x\"}\n{\"step\": 2}\n{\"step\": 2}");
  CHECK(Metrics(folder.path(), 9).dropped() == 4);
  CHECK(content_of(path) == "{\"step\": 1}\n{\"step\": 2}\n");
  put(path, "");
  CHECK(Metrics(folder.path(), std::nullopt).dropped() == 0);
}

TEST_CASE("metrics: a full disk is one clear line and leaves whole lines") {
  const TempFolder folder;
  const std::string path = folder / "metrics.jsonl";
  Metrics metrics(folder.path(), std::nullopt);
  metrics.write({{"step", 1}});
  {
    const FileSizeLimit full(15);  // three bytes into the next line
    CHECK(error_of(ErrorKind::kIo,
                   [&] {
                     metrics.write({{"step", 2}});
                   }) ==
          path +
              ": cannot write: File too large; raise the limit on file sizes (ulimit -f), or "
              "choose another folder");
  }
  CHECK(content_of(path) == "{\"step\": 1}\n");
  metrics.write({{"step", 2}});
  CHECK(content_of(path) == "{\"step\": 1}\n{\"step\": 2}\n");
  put(folder / "file", "");
  CHECK(contains(error_of(ErrorKind::kIo, [&] { Metrics(folder / "file/run", 0); }),
                 "Not a directory"));
}

TEST_CASE("metrics: the summary is a table that is replaced as a whole") {
  const TempFolder folder;
  const Metrics metrics(folder.path(), std::nullopt);
  metrics.write_summary({{"old", 1}});
  metrics.write_summary({{"accuracy", 0.875},
                         {"n", 10000},
                         {"recipe", "a,\"b\""},
                         {"none", kNan},
                         {"load", std::vector<double>{0.5, 0.25}}});
  CHECK(content_of(folder / "summary.csv") ==
        "key,value\naccuracy,0.875\nn,10000\nrecipe,\"a,\"\"b\"\"\"\nnone,\nload,0.5 0.25\n");
}

TEST_CASE("log: without a terminal every interval is a line; the file has the time") {
  const TempFolder folder;
  std::FILE* out = std::fopen((folder / "out").c_str(), "w");
  REQUIRE(out != nullptr);
  {
    Log log(folder / "run", out);
    log.line("begins");
    CHECK_FALSE(log.wants_live());
    log.live("invisible");
    log.interval("step 1");
  }
  std::fclose(out);
  CHECK(content_of(folder / "out") == "begins\nstep 1\n");
  const std::string file = content_of(folder / "run/log.txt");
  CHECK(contains(file, " begins\n"));
  CHECK(contains(file, " step 1\n"));
  CHECK_FALSE(contains(file, "invisible"));
  CHECK(file.starts_with("2"));  // of a year
  put(folder / "file", "");
  CHECK(contains(error_of(ErrorKind::kIo, [&] { Log(folder / "file/run"); }), "Not a directory"));
}

TEST_CASE("log: on a terminal progress is one line, redrawn, that others do not break") {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY);
  if (master < 0 || ::grantpt(master) != 0 || ::unlockpt(master) != 0) {
    MESSAGE("skipped: this system lends no terminal");
    return;
  }
  std::FILE* terminal = std::fopen(::ptsname(master), "w");
  REQUIRE(terminal != nullptr);
  {
    Log log("", terminal);
    CHECK(log.wants_live());
    log.live(std::string(78, 'x') + "\u00e9 end");  // é would stand in columns 79 and 80
    CHECK_FALSE(log.wants_live());
    log.interval("step 2");
    log.line("stays");
    log.live("last");
  }
  // What was written arrives in pieces.
  std::string text;
  pollfd waiting{master, POLLIN, 0};
  while (!contains(text, "last\r\n") && ::poll(&waiting, 1, 2000) == 1) {
    char part[256];
    const auto n = ::read(master, part, sizeof part);
    if (n <= 0) break;
    text.append(part, static_cast<size_t>(n));
  }
  std::fclose(terminal);
  const std::string clear = "\r\033[K";
  CHECK(std::string(text) ==
        clear + std::string(78, 'x') + clear + "step 2" + clear + "stays\r\n" + clear + "last\r\n");
  ::close(master);
}
