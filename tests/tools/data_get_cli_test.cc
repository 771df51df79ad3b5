#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "tests/support/mat_file.h"
#include "tests/support/picture_files.h"
#include "tests/tools/http_server.h"
#include "tests/tools/program.h"
#include "tests/train/temp_folder.h"

using data::test::mat;
using data::test::pixels_of;
using tools::test::check_fails;
using tools::test::HttpServer;
using tools::test::Result;
using tools::test::run;
using tools::test::shell;
using train::test::contains;
using train::test::put;
using train::test::TempFolder;

namespace fs = std::filesystem;

namespace {

std::string file_text(const std::string& path) { return shell("cat '" + path + "'").out; }

// An archive of what `folder` holds under `inside`.
std::string archive(const TempFolder& folder, const std::string& inside) {
  const std::string path = folder / "made.tar.gz";
  REQUIRE(shell("tar -czf " + path + " -C " + folder.path() + " " + inside).status == 0);
  return file_text(path);
}

std::string cifar10_archive() {
  const TempFolder folder;
  fs::create_directory(folder / "cifar-10-batches-bin");
  for (const std::string name : {"data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4",
                                 "data_batch_5", "test_batch"}) {
    std::string records(size_t{20} * 3073, '\0');
    unsigned value = static_cast<unsigned>(name.back());
    for (char& byte : records) {  // nothing gzip could make small
      value = value * 1664525u + 1013904223u;
      byte = static_cast<char>(value >> 24);
    }
    for (size_t r = 0; r < 20; ++r) records[r * 3073] = static_cast<char>(r % 10);
    put(folder / ("cifar-10-batches-bin/" + name + ".bin"), records);
  }
  return archive(folder, "cifar-10-batches-bin");
}

constexpr const char* kCifar = "cifar-10-binary.tar.gz";

// A server of one set, the file of its sums, and a place to put it.
struct Site {
  HttpServer server;
  TempFolder folder;
  std::string out = folder / "out", part = out + "/" + kCifar + ".part";

  void publish(const std::string& name, const std::string& body) {
    server.put(name, {body});
    put(folder / "body", body);
    sums_ += shell("md5sum < " + (folder / "body")).out.substr(0, 32) + "  " + name + "\n";
    put(folder / "sums", sums_);
  }
  std::string command(const std::string& name) const {
    return "data get " + name + " --out " + out + " --from " + server.url() + " --sums " +
           (folder / "sums");
  }
  // Messages of the program without those that say what it does.
  void fails(const std::vector<std::string>& parts) const {
    const Result both = run(command("cifar10") + " 2>&1 | grep -v ': getting about '");
    CAPTURE(both.out);
    CHECK(tools::test::one_line(both.out));
    for (const std::string& say : parts) CHECK_MESSAGE(contains(both.out, say), say);
    CHECK(run(command("cifar10") + " >/dev/null 2>&1").status == 1);
    CHECK(!fs::exists(out + "/cifar-10-batches-bin"));
  }

 private:
  std::string sums_;
};

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

}  // namespace

TEST_CASE("data get: downloads, verifies, unpacks; a second call asks nobody") {
  Site site;
  site.publish(kCifar, cifar10_archive());
  const Result first = run(site.command("cifar10") + " 2>/dev/null");
  CHECK(first.status == 0);
  CHECK(first.out ==
        "train: 100 images\ntest: 20 images\nuse it as --data cifar10:" + site.out + "\n");
  CHECK(site.server.asked() == std::vector<std::string>{std::string(kCifar) + " from 0"});
  CHECK(names_in(site.out) == std::vector<std::string>{"cifar-10-batches-bin"});
  CHECK(run(site.command("cifar10") + " 2>/dev/null").status == 0);
  CHECK(site.server.asked().empty());
}

TEST_CASE("data get: goes on where a cut download ended, starts anew where it cannot") {
  Site site;
  const std::string body = cifar10_archive();
  site.publish(kCifar, body);
  const std::string next = std::string(kCifar) + " from ";
  const std::string get = site.command("cifar10") + " 2>/dev/null";
  site.server.put(kCifar, {body, 100'000});
  const Result cut = run(site.command("cifar10") + " 2>&1");
  CHECK(cut.status == 1);
  CHECK(contains(cut.out, "cannot be had: curl: (18)"));
  CHECK(contains(cut.out, "; run this again, it goes on after 100000 bytes\n"));
  CHECK(names_in(site.out) == std::vector<std::string>{std::string(kCifar) + ".part"});
  site.server.put(kCifar, {body});
  site.server.asked();
  CHECK(run(get).status == 0);
  CHECK(site.server.asked() == std::vector<std::string>{next + "100000"});

  const auto again = [&](const std::string& part, const std::vector<std::string>& asked) {
    fs::remove_all(site.out + "/cifar-10-batches-bin");
    put(site.part, part);
    site.server.asked();
    CHECK(run(get).status == 0);
    CHECK(site.server.asked() == asked);
    CHECK(names_in(site.out) == std::vector<std::string>{"cifar-10-batches-bin"});
  };
  again(body, {});                                     // it was whole
  again("something else", {next + "14", next + "0"});  // another file's beginning
  again(body + "more", {next + std::to_string(body.size() + 4), next + "0"});
  site.server.put(kCifar, {body, std::string::npos, false});
  again(body.substr(0, 5000), {next + "5000", next + "0"});  // a server that only gives all
}

TEST_CASE("data get: wrong bytes, nothing there, no archive: a line, nothing half-written") {
  Site site;
  const std::string body = cifar10_archive();
  site.publish(kCifar, body);
  std::string wrong = body;
  wrong[5000] = static_cast<char>(wrong[5000] ^ 1);
  site.server.put(kCifar, {wrong});
  site.fails({kCifar, "its MD5 sum is ", ", expected ", "; it was deleted"});
  CHECK(names_in(site.out).empty());
  // A page in place of the rest: what was there stays.
  put(site.part, body.substr(0, 7000));
  site.server.put(kCifar, {"a page that says sorry", std::string::npos, false});
  site.fails({"its MD5 sum is ", "see what this address sends"});
  CHECK(file_text(site.part) == body.substr(0, 7000));
  fs::remove(site.part);
  fs::create_symlink(site.folder / "elsewhere", site.part);
  site.fails({".part: is no regular file; remove it"});
  fs::create_symlink(site.folder / "elsewhere", site.out + "/cifar-10-batches-bin");
  site.fails({"cifar-10-batches-bin: is a link to nothing"});
  Site empty;
  put(empty.folder / "sums", "c32a1d4ab5d03f1284b67883e8d87530 *./" + std::string(kCifar) + "\r\n");
  empty.fails({"cannot be had: curl: (22)", "404", "name a mirror with --from"});
  CHECK(names_in(empty.out).empty());
  Site no_archive;
  no_archive.publish(kCifar, "a page that says sorry");
  no_archive.fails({".part: cannot be unpacked: "});
  Site other;
  const TempFolder folder;
  put(folder / "some-file", "x");
  other.publish(kCifar, archive(folder, "some-file"));
  other.fails({".part: cannot be unpacked: it holds no folder cifar-10-batches-bin"});
  CHECK(names_in(other.out) == std::vector<std::string>{std::string(kCifar) + ".part"});
}

TEST_CASE("data get: ends with the program that was started, curl too") {
  Site site;
  site.publish(kCifar, cifar10_archive());
  site.server.hold();  // answers nobody
  const Result killed =
      shell("timeout --foreground -s KILL 1 " + std::string(ROBUSTMOE_PROGRAM) + " " +
            site.command("cifar10") + " 2>/dev/null; sleep 0.3; pgrep -f '" + site.server.url() +
            "' | grep -v $$");
  CHECK(killed.out.empty());
  site.server.go_on();
  CHECK(run(site.command("cifar10") + " 2>/dev/null").status == 0);
}

TEST_CASE("data get: Flowers-102 of its three files") {
  Site site;
  const TempFolder folder;
  fs::create_directory(folder / "jpg");
  for (int i = 1; i <= 4; ++i) {
    const auto jpeg = data::test::jpeg_of(pixels_of(8, 9, 3), 8, 9, 3);
    put(folder / ("jpg/image_0000" + std::to_string(i) + ".jpg"), {jpeg.begin(), jpeg.end()});
  }
  const auto text = [](const data::test::MatBytes& bytes) {
    return std::string(bytes.begin(), bytes.end());
  };
  site.publish("102flowers.tgz", archive(folder, "jpg"));
  site.publish("imagelabels.mat", text(mat({{"labels", {1, 2, 1, 102}}})));
  site.publish("setid.mat", text(mat({{"trnid", {1, 2}}, {"valid", {3}}, {"tstid", {4}}})));
  const Result result = run(site.command("flowers102") + " --json - 2>/dev/null");
  CHECK(result.status == 0);
  CHECK(contains(result.out, "\"test\":1,\"train\":2}"));
  CHECK(names_in(site.out) == std::vector<std::string>{"imagelabels.mat", "jpg", "setid.mat"});
  put(site.out + "/setid.mat", "another");
  check_fails(site.command("flowers102"), 1,
              {"setid.mat: is there already, but its MD5 sum is ", "move it away"});
}

TEST_CASE("data get: command lines") {
  const TempFolder folder;
  check_fails("data get --out " + folder.path(), 2,
              {"which set?", "cifar10, cifar100, flowers102"});
  check_fails("data get imagenet --out " + folder.path(), 2, {"\"imagenet\" cannot be downloaded"});
  check_fails("data info more", 2, {"takes no \"more\""});
  check_fails("data get cifar10 --data shapes:", 2, {"data get: has no --data"});
  check_fails("data info --data shapes: --sums x", 2, {"data info: has no --sums"});
  put(folder / "sums", "c32a1d4ab5d03f1284b67883e8d87530  cifar-100-binary.tar.gz\n");
  check_fails("data get cifar10 --out " + folder.path() + " --sums " + (folder / "sums"), 1,
              {"sums: has no sum of cifar-10-binary.tar.gz"});
  put(folder / "sums", "c32a1d4ab5d03f1284b67883e8d8753  short\n");
  check_fails("data get cifar10 --out " + folder.path() + " --sums " + (folder / "sums"), 1,
              {"sums: line 1", "as md5sum writes them"});
  // Without curl.
  const Result bare = shell("PATH=/nowhere " + std::string(ROBUSTMOE_PROGRAM) +
                            " data get cifar10 --out " + folder.path() + " 2>&1");
  CHECK(bare.status == 1);
  CHECK(contains(bare.out, "curl: there is no such program; install it"));
}
