#include "train/attacks/progress.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "tests/support/bits.h"
#include "tests/train/guessed.h"
#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"

using engine::ErrorKind;
using train::AttackImages;
using train::AttackPlan;
using train::AttackProgress;
using train::AttackResult;
using train::Fields;
using train::test::contains;
using train::test::content_of;
using train::test::error_of;
using train::test::put;
using train::test::SmallModel;
using train::test::TempFolder;

namespace {

constexpr const char* kData = "shapes:size=16,train=20,test=22";
const Fields kSettings = {{"--eps", 0.1}, {"--attack", std::string("noise,pgd")}};

// Six batches: five of four images and one of two.
struct Attack {
  Attack()
      : small(kData, {"eval.batch=4"}),
        labels(train::test::guesses(*small.model.network, small.config, *small.test)) {
    for (size_t i = 0; i < 4; ++i) labels[5 * i] = (labels[5 * i] + 1) % 10;  // wrong anyway
    train::PgdOptions options;
    options.ball = {train::Norm::kLinf, 0.02};
    options.steps = 3;
    for (const char* name : {"noise", "pgd"}) {
      plans.push_back(train::plan_attack(name, options, 0.1));
    }
  }
  // One batch of it, or with `file` empty all.
  AttackResult run(const std::string& file, AttackImages* images = nullptr,
                   const Fields& settings = kSettings) const {
    const volatile std::sig_atomic_t stop = 1;
    std::optional<AttackProgress> progress;
    train::AttackOptions how;
    how.images = images;
    if (!file.empty()) {
      progress.emplace(file, settings);
      how.progress = &*progress;
      how.stop = &stop;
    }
    const train::test::Guessed set(*small.test, labels);
    return attack_model(*small.model.network, small.config, set, plans, how);
  }

  SmallModel small;
  std::vector<int32_t> labels;
  std::vector<AttackPlan> plans;
};

std::string text(const AttackResult& result) { return train::attack_json(result, {}); }

bool same(const AttackImages& a, const AttackImages& b) {
  bool same = engine::test::same_bytes(a.clean, b.clean) && a.labels == b.labels &&
              a.right == b.right && a.attacks.size() == b.attacks.size();
  for (size_t i = 0; same && i < a.attacks.size(); ++i) {
    same = engine::test::same_bytes(a.attacks[i].adversarial, b.attacks[i].adversarial) &&
           a.attacks[i].broken == b.attacks[i].broken;
  }
  return same;
}

}  // namespace

TEST_CASE("attack progress: stopped after every batch, the same result and images") {
  const TempFolder folder;
  const Attack attack;
  AttackImages straight;
  const AttackResult all = attack.run("", &straight);
  CHECK_FALSE(all.stopped);
  CHECK(all.right == 18);
  CHECK(all.worst_case < all.right);
  for (const int64_t batch : {1, 2, 3, 4, 5, 6}) {
    // With another number of threads each time.
    const engine::test::Threads threads(static_cast<int>(1 + batch % 3));
    AttackImages images;
    const AttackResult part = attack.run(folder / "p", &images);
    CAPTURE(batch);
    CHECK(part.stopped == (batch < 6));
    CHECK(part.n == std::min<int64_t>(4 * batch, 22));
    CHECK(AttackProgress(folder / "p", kSettings).done() == part.n);
    CHECK((text(part) == text(all)) == (batch == 6));
    CHECK(same(images, straight) == (batch == 6));
  }
  // At its end there is nothing to do but to tell it again.
  AttackImages images;
  CHECK(text(attack.run(folder / "p", &images)) == text(all));
  CHECK(same(images, straight));
  CHECK(train::test::names_in(folder.path()) == std::vector<std::string>{"p", "p.images"});
}

TEST_CASE("attack progress: a kill between images and progress costs that batch alone") {
  const TempFolder folder;
  const Attack attack;
  AttackImages straight;
  const AttackResult all = attack.run("", &straight);
  {
    AttackImages images;
    attack.run(folder / "p", &images);
  }
  const std::string first = content_of(folder / "p");
  {
    AttackImages images;
    attack.run(folder / "p", &images);
  }
  put(folder / "p", first);
  put(folder / "p.images", content_of(folder / "p.images") + "half a record");
  AttackResult last;
  AttackImages images;
  do {
    images = {};
    last = attack.run(folder / "p", &images);
  } while (last.stopped);
  CHECK(text(last) == text(all));
  CHECK(same(images, straight));
}

TEST_CASE("attack progress: another attack's is refused, naming what differs") {
  const TempFolder folder;
  const Attack attack;
  attack.run(folder / "p");
  const auto refused = [&](const Fields& settings) {
    const std::string message =
        error_of(ErrorKind::kValue, [&] { AttackProgress(folder / "p", settings); });
    CHECK(contains(message, folder / "p"));
    CHECK(contains(message, "choose another file"));
    return message;
  };
  CHECK(contains(refused({{"--eps", 0.2}, {"--attack", std::string("noise,pgd")}}),
                 "(--eps was 0.1, now 0.2)"));
  CHECK(contains(refused({{"--eps", 0.2}, {"--attack", std::string("pgd")}}),
                 R"(--attack was "noise,pgd", now "pgd"; --eps was 0.1, now 0.2)"));
  CHECK(contains(refused({{"--eps", 0.1}}), R"(--attack was "noise,pgd", now not there)"));
  Fields more = kSettings;
  more.emplace_back("--new", int64_t{1});
  CHECK(contains(refused(more), "--new was not there, now 1"));
}

TEST_CASE("attack progress: what is damaged or foreign is refused") {
  const TempFolder folder;
  const Attack attack;
  {
    AttackImages images;
    attack.run(folder / "p", &images);
  }
  const std::string good = content_of(folder / "p");
  const auto refused = [&] {
    const std::string message =
        error_of(ErrorKind::kFormat, [&] { AttackProgress(folder / "p", kSettings); });
    CHECK(contains(message, folder / "p"));
    CHECK(contains(message, "delete it to begin anew"));
    CHECK_FALSE(contains(message, "\n"));
    return message;
  };
  for (const char* content : {"", "{", "[]", "7", "{\"format\": \"other\"}", "\xff\xfe"}) {
    put(folder / "p", content);
    CHECK(contains(refused(), "no progress of robustmoe attack"));
  }
  // Flipped bits, unless they leave every number as it was, and a file that is cut short.
  const auto whole = nlohmann::json::parse(good);
  for (size_t i = 0; i + 1 < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    put(folder / "p", bad);
    CAPTURE(bad);
    if (nlohmann::json::parse(bad, nullptr, /*allow_exceptions=*/false) != whole) refused();
    put(folder / "p", good.substr(0, i));
    refused();
  }
  const size_t right = good.find("\"right\":");
  REQUIRE(right != std::string::npos);
  std::string lie = good;
  lie[right + 8] = '9';
  put(folder / "p", lie);
  CHECK(contains(refused(), "checksum"));
  auto later = nlohmann::json::parse(good);
  later["version"] = 2;
  put(folder / "p", later.dump());
  CHECK(contains(refused(), "version 2, expected 1"));
}

TEST_CASE("attack progress: images that are damaged, short or missing are refused") {
  const TempFolder folder;
  const Attack attack;
  {
    AttackImages images;
    attack.run(folder / "p", &images);
  }
  const std::string good = content_of(folder / "p.images");
  CHECK(good.size() == 4 * (4 * 768 + 4 + 1 + 2 * (4 * 768 + 1)));
  const auto refused = [&](ErrorKind kind) {
    AttackImages images;
    const std::string message = error_of(kind, [&] { attack.run(folder / "p", &images); });
    CHECK(contains(message, folder / "p.images"));
    CHECK(contains(message, "delete " + (folder / "p") + " to begin anew"));
  };
  std::string bad = good;
  bad[1234] = static_cast<char>(bad[1234] ^ 1);
  put(folder / "p.images", bad);
  refused(ErrorKind::kFormat);
  put(folder / "p.images", good.substr(1));
  refused(ErrorKind::kFormat);
  std::filesystem::remove(folder / "p.images");
  refused(ErrorKind::kIo);
  put(folder / "p.images", good);
  AttackImages images;
  CHECK(attack.run(folder / "p", &images).n == 8);
}

TEST_CASE("attack progress: a disk that is full ends it, and it goes on where there is room") {
  const TempFolder folder;
  const Attack attack;
  {
    AttackImages images;
    attack.run(folder / "p", &images);
  }
  const std::string before = content_of(folder / "p");
  {
    const train::test::FileSizeLimit full(
        static_cast<rlim_t>(std::filesystem::file_size(folder / "p.images")) + 100);
    AttackImages images;
    CHECK(contains(error_of(ErrorKind::kIo, [&] { attack.run(folder / "p", &images); }),
                   "cannot write"));
  }
  CHECK(content_of(folder / "p") == before);
  AttackImages images;
  CHECK(attack.run(folder / "p", &images).n == 8);
}
