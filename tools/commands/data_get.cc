#include "tools/commands/data_get.h"

#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "data/dataset.h"
#include "tools/commands/checkpoint_input.h"
#include "tools/commands/child_process.h"
#include "tools/commands/session.h"
#include "train/file_io.h"

namespace tools {
namespace {

namespace fs = std::filesystem;
using engine::check;
using engine::ErrorKind;

struct RemoteFile {
  std::string name, md5;
  int megabytes;
  std::string folder;  // what an archive holds; empty: the file itself is wanted
};
struct RemoteSet {
  std::string kind, url;
  std::vector<RemoteFile> files;
};

// Addresses and sums as the authors' pages (CIFAR) and torchvision (Flowers) name them.
const std::vector<RemoteSet>& remote_sets() {
  static const std::vector<RemoteSet> sets = {
      {"cifar10",
       "https://www.cs.toronto.edu/~kriz/",
       {{"cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", 162,
         "cifar-10-batches-bin"}}},
      {"cifar100",
       "https://www.cs.toronto.edu/~kriz/",
       {{"cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", 161, "cifar-100-binary"}}},
      {"flowers102",
       "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
       {{"setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c", 1, ""},
        {"imagelabels.mat", "e0620be6f572b9609742df49c70aed4d", 1, ""},
        {"102flowers.tgz", "52808999861908f626f3c1f4e79d11fa", 329, "jpg"}}}};
  return sets;
}

const RemoteSet& remote_set(const std::string& name) {
  for (const RemoteSet& set : remote_sets()) {
    if (set.kind == name) return set;
  }
  throw UsageError("data get: \"" + name +
                   "\" cannot be downloaded, these can: " + gettable_sets());
}

// Lines as md5sum writes them: MD5, two spaces (or one and *), name.
std::map<std::string, std::string> read_sums(const std::string& path) {
  std::map<std::string, std::string> sums;
  std::istringstream lines(train::read_file(path));
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.ends_with('\r')) line.pop_back();
    const bool fits =
        line.size() > 34 && line[32] == ' ' && line.find_first_not_of("0123456789abcdef") == 32;
    check(fits, ErrorKind::kFormat, path, ": line ", number,
          ": expected an MD5 sum, two spaces and a name, as md5sum writes them");
    const std::string name = line.substr(34);
    sums[name.starts_with("./") ? name.substr(2) : name] = line.substr(0, 32);
  }
  return sums;
}

std::string md5_of(const std::string& path) {
  const ChildResult result = run_child({"md5sum", "--binary", "--", path});
  // A name with a backslash or line break makes md5sum begin its line with a backslash.
  const size_t begin = result.output.starts_with('\\') ? 1 : 0;
  check(result.status == 0 && result.output.size() > begin + 32, ErrorKind::kIo, path,
        ": md5sum cannot read it: ", one_line(result.errors));
  return result.output.substr(begin, 32);
}

int64_t bytes_of(const std::string& path) {
  std::error_code missing;
  const auto bytes = fs::file_size(path, missing);
  return missing ? 0 : static_cast<int64_t>(bytes);
}

std::string first_line(const std::string& text) {
  return one_line(text.substr(0, text.find('\n')));
}

// An address without the name and password that may stand in it.
std::string shown(const std::string& url) {
  const size_t begin = url.find("://"), end = url.find('/', begin + 3), at = url.rfind('@', end);
  if (begin == std::string::npos || at == std::string::npos || at < begin) return url;
  return url.substr(0, begin + 3) + url.substr(at + 1);
}

// curl's message without its name, or the status alone.
std::string curl_message(const ChildResult& result) {
  std::string text = result.errors;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  text = text.substr(text.rfind('\n') + 1);
  return text.empty() ? "curl ended with " + std::to_string(result.status) : one_line(text);
}

constexpr int kNoRange = 33, kCannotWrite = 23;  // curl's exit codes

// Gets `url` into `part`, from where that ends on.
ChildResult download(const std::string& url, const std::string& part) {
  const bool terminal = isatty(STDERR_FILENO) == 1;
  const auto show = [&part] {
    std::cerr << "\r" << bytes_of(part) / 1000000 << " MB " << std::flush;
  };
  const ChildResult result =
      run_child({"curl", "--fail", "--location", "--silent", "--show-error", "--connect-timeout",
                 "30", "--speed-limit", "1000", "--speed-time", "60", "--continue-at", "-",
                 "--globoff", "--output", part, "--url", url},
                terminal ? std::function<void()>(show) : std::function<void()>());
  if (terminal) std::cerr << "\r";
  return result;
}

class Getter {
 public:
  Getter(const RemoteSet& set, std::string out, const std::string& from, const std::string& sums)
      : out_(std::move(out)), url_(from.empty() ? set.url : from) {
    if (url_.back() != '/') url_ += '/';
    if (sums.empty()) return;
    sums_ = read_sums(sums);
    for (const RemoteFile& file : set.files) {
      check(sums_.contains(file.name), ErrorKind::kFormat, sums, ": has no sum of ", file.name);
    }
  }

  void get(const RemoteFile& file) const {
    const std::string final_path = out_ + "/" + (file.folder.empty() ? file.name : file.folder);
    if (fs::symlink_status(final_path).type() != fs::file_type::not_found) {
      check_present(file, final_path);
      return;
    }
    const std::string part = out_ + "/" + file.name + ".part";
    fetch(file, part);
    if (file.folder.empty()) {
      train::rename_path(part, final_path);
    } else {
      unpack(file, part, final_path);
    }
  }

 private:
  // A folder may be the user's own; of a file the sum is known.
  void check_present(const RemoteFile& file, const std::string& path) const {
    check(fs::exists(path), ErrorKind::kIo, path, ": is a link to nothing; remove it");
    if (file.folder.empty()) {
      const std::string got = md5_of(path), want = sum_of(file);
      check(got == want, ErrorKind::kFormat, path, ": is there already, but its MD5 sum is ", got,
            ", expected ", want, "; move it away and run this again");
    }
    std::cerr << path << ": is there already\n";
  }

  std::string sum_of(const RemoteFile& file) const {
    const auto own = sums_.find(file.name);
    return own == sums_.end() ? file.md5 : own->second;
  }

  // Leaves the whole file at `part`. What was there before may be the beginning of another file:
  // when the sum does not fit, or the server cannot go on in the middle, all is got anew beside it,
  // and what was there stays unless that is better.
  void fetch(const RemoteFile& file, const std::string& part) const {
    const auto kind = fs::symlink_status(part).type();
    check(kind == fs::file_type::not_found || kind == fs::file_type::regular, ErrorKind::kIo, part,
          ": is no regular file; remove it");
    const std::string want = sum_of(file), anew = part + ".new";
    fs::remove(anew);
    const int64_t before = bytes_of(part);
    if (before > 0 && md5_of(part) == want) return;
    if (before > 0) {
      announce(file, before);
      const ChildResult result = download(url_ + file.name, part);
      if (result.status == 0 && md5_of(part) == want) return;
      const bool again = result.status == 0 || result.status == kNoRange ||
                         result.errors.find(": 416") != std::string::npos;
      if (!again) explain(file, result, part, "");
      if (result.status != kNoRange) fs::remove(part);  // whole, and wrong
    }
    announce(file, 0);
    const ChildResult result = download(url_ + file.name, anew);
    const std::string got = result.status == 0 ? md5_of(anew) : "";
    const bool keep = result.status == 0 ? got == want : bytes_of(anew) > bytes_of(part);
    if (keep && bytes_of(anew) > 0) {
      train::rename_path(anew, part);
    } else {
      fs::remove(anew);
    }
    if (got != want) explain(file, result, part, got);
  }

  void announce(const RemoteFile& file, int64_t before) const {
    std::cerr << shown(url_) << file.name << ": getting about " << file.megabytes << " MB";
    if (before > 0) std::cerr << ", " << before << " bytes are there";
    std::cerr << "\n";
  }

  [[noreturn]] void explain(const RemoteFile& file, const ChildResult& result,
                            const std::string& part, const std::string& got) const {
    const std::string url = shown(url_) + file.name;
    if (result.status == 0) {
      engine::fail(ErrorKind::kFormat, url, ": its MD5 sum is ", got, ", expected ", sum_of(file),
                   "; it was deleted: see what this address sends, or name another with --from");
    }
    const int64_t bytes = bytes_of(part);
    if (result.status == kCannotWrite) {
      engine::fail(ErrorKind::kIo, part, ": cannot be written: ", curl_message(result),
                   "; see that its folder has room and can be written, then run this again");
    }
    engine::fail(ErrorKind::kIo, url, ": cannot be had: ", curl_message(result),
                 bytes > 0
                     ? "; run this again, it goes on after " + std::to_string(bytes) + " bytes"
                     : std::string("; see that this machine reaches it, or name a mirror "
                                   "with --from"));
  }

  // Into a folder beside the final one, so that the final name stands for all of it.
  void unpack(const RemoteFile& file, const std::string& part,
              const std::string& final_path) const {
    const std::string beside = train::unfinished_path(final_path);
    train::make_folders(beside);
    const ChildResult result = run_child({"tar", "--extract", "--gzip", "--no-same-owner",
                                          "--force-local", "--file", part, "--directory", beside});
    const std::string inside = beside + "/" + file.folder;
    if (result.status != 0 || !fs::is_directory(inside)) {
      const std::string why =
          result.status != 0 ? first_line(result.errors) : "it holds no folder " + file.folder;
      train::remove_folder(beside);
      engine::fail(ErrorKind::kFormat, part, ": cannot be unpacked: ", why,
                   "; see that there is room, or delete it, and run this again");
    }
    train::rename_path(inside, final_path);
    train::remove_folder(beside);
    fs::remove(part);
  }

  std::string out_, url_;
  std::map<std::string, std::string> sums_;
};

}  // namespace

std::string gettable_sets() {
  std::string names;
  for (const RemoteSet& set : remote_sets()) names += (names.empty() ? "" : ", ") + set.kind;
  return names;
}

int data_get(const std::string& name, const Options& options) {
  const RemoteSet& set = remote_set(name);
  const std::string out = options.required("out");
  for (const char* program : {"curl", "md5sum", "tar"}) run_child({program, "--version"});
  const train::FolderLock lock(out);
  const std::string_view finals[] = {"cifar-10-batches-bin", "cifar-100-binary", "jpg"};
  train::remove_unfinished(out, finals);
  const Getter getter(set, out, options.get("from"), options.get("sums"));
  for (const RemoteFile& file : set.files) getter.get(file);
  const std::string spec = set.kind + ":" + out;
  std::ostringstream text;
  nlohmann::json all = {{"data", spec}};
  for (const data::Split split : {data::Split::kTrain, data::Split::kTest}) {
    try {
      const int64_t images = data::open_dataset(spec, split)->size();
      text << data::split_name(split) << ": " << images << " images\n";
      all[data::split_name(split)] = images;
    } catch (const engine::Error& error) {
      engine::fail(error.kind(), error.message(), " (delete what was unpacked in ", out,
                   " to get it again)");
    }
  }
  text << "use it as --data " << spec << "\n";
  write_result(options, text.str(),
               all.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  return 0;
}

}  // namespace tools
