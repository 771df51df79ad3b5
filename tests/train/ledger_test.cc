#include "train/ledger.h"

#include <doctest/doctest.h>

#include <set>
#include <string>

#include "tests/train/temp_folder.h"

using train::Config;
using train::test::contains;
using train::test::content_of;

TEST_CASE("ledger: every row names a setting, valid values, and a difference") {
  std::set<std::string> keys;
  for (const train::LedgerRow& row : train::ledger()) {
    const std::string key(row.key);
    CAPTURE(key);
    CHECK(keys.insert(key).second);
    CHECK_FALSE(row.note.empty());
    Config config;
    const std::string ours = toml_value(train::find_field(config, key, "test"));
    CHECK((row.code != ours || (!row.paper.empty() && row.paper != ours)));
    for (const std::string& value : {std::string(row.paper), std::string(row.code)}) {
      if (value.empty()) continue;
      const size_t dot = key.find('.');
      const std::string text =
          "[" + key.substr(0, dot) + "]\n" + key.substr(dot + 1) + " = " + value + "\n";
      Config read = train::parse_config(text, "row", train::Origin::kFile);
      // As the ledger writes it, so that equal values are equal text.
      CHECK(toml_value(train::find_field(read, key, "test")) == value);
    }
  }
}

TEST_CASE("ledger: a config says which of them it follows") {
  const auto with = [](const std::string& assignment) {
    Config config = train::load_config("quick-prc");
    train::set_value(config, assignment);
    return train::to_toml(config, /*with_docs=*/true);
  };
  CHECK(contains(with("prc.form=fork"), "paper: \"paper\"; code: \"fork\"; here as the code"));
  CHECK(contains(with("prc.form=paper"), "code: \"fork\"; here as the paper"));
  CHECK(contains(with("prc.form=l2"), "code: \"fork\"; here neither"));
  CHECK(contains(with("moe.bf16_dispatch=true"), "paper: not said; code: true; here as the code"));
  CHECK_FALSE(contains(train::to_toml(train::load_config("quick-prc"), false), "here as"));
}

TEST_CASE("ledger: the page in the repository is the ledger") {
  const std::string page = content_of(ROBUSTMOE_SOURCE_DIR "/train/LEDGER.md");
  CHECK(contains(page, train::ledger_table()));
}
