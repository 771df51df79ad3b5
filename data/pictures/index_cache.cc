#include "data/pictures/index_cache.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string_view>
#include <type_traits>
#include <utility>

#include "data/hash.h"

namespace data {
namespace {

namespace fs = std::filesystem;

// Raise the number whenever what is stored changes.
constexpr std::string_view kHeading = "robustmoe index 1\n";
constexpr size_t kSamples = 1024;

// What a file or folder looked like; -1 where there was none.
struct Seen {
  std::string path;
  int64_t nanoseconds = 0, bytes = 0;
  bool operator==(const Seen&) const = default;
};

Seen look(const std::string& path) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0) return {path, -1, -1};
  const bool folder = S_ISDIR(status.st_mode);
  return {path, int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec,
          folder ? 0 : int64_t{status.st_size}};
}

std::vector<Seen> look_at(const IndexRequest& request, const std::vector<ListedPicture>& pictures) {
  std::vector<Seen> seen;
  for (const fs::path& watched : request.watched) {
    seen.push_back(look(watched.string()));
    std::error_code trouble;
    for (fs::recursive_directory_iterator it(watched, trouble), end; !trouble && it != end;
         it.increment(trouble)) {
      if (it->is_directory()) seen.push_back(look(it->path().string()));
    }
  }
  const size_t samples = std::min(kSamples, pictures.size());
  for (size_t i = 0; i < samples; ++i) {
    seen.push_back(look(pictures[i * pictures.size() / samples].path));
  }
  return seen;
}

class Writer {
 public:
  template <class T>
  void number(T value) {
    static_assert(std::is_integral_v<T>);
    out_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void text(const std::string& value) {
    number(static_cast<uint32_t>(value.size()));
    out_ += value;
  }
  void texts(const std::vector<std::string>& values) {
    number(static_cast<uint64_t>(values.size()));
    for (const std::string& value : values) text(value);
  }
  const std::string& out() const { return out_; }

 private:
  std::string out_;
};

// Gives zeros and empty texts where the data ends, and then good() is false.
class Reader {
 public:
  explicit Reader(std::string_view in) : in_(in) {}
  template <class T>
  T number() {
    T value = 0;
    if (take(sizeof value)) std::memcpy(&value, in_.data() + at_ - sizeof value, sizeof value);
    return value;
  }
  std::string text() {
    const size_t size = number<uint32_t>();
    return take(size) ? std::string(in_.substr(at_ - size, size)) : std::string();
  }
  // A count of things of which each takes at least `least` bytes.
  size_t count(size_t least) {
    const auto n = number<uint64_t>();
    good_ = good_ && n <= (in_.size() - at_) / least;
    return good_ ? static_cast<size_t>(n) : 0;
  }
  std::vector<std::string> texts() {
    std::vector<std::string> values(count(4));
    for (std::string& value : values) value = text();
    return values;
  }
  bool good() const { return good_; }
  bool at_end() const { return good_ && at_ == in_.size(); }

 private:
  bool take(size_t bytes) {
    good_ = good_ && bytes <= in_.size() - at_;
    if (good_) at_ += bytes;
    return good_;
  }
  std::string_view in_;
  size_t at_ = 0;
  bool good_ = true;
};

fs::path file_of(const IndexRequest& request) {
  const fs::path folder = cache_folder();
  return folder.empty() ? fs::path() : folder / (hex(hash_text(request.key)) + ".index");
}

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return "";
  std::string text(static_cast<size_t>(std::max<int64_t>(0, file.tellg())), '\0');
  file.seekg(0);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  return file ? text : "";
}

// Paths of pictures without what all have in common.
std::string common_start(const std::vector<ListedPicture>& pictures) {
  std::string common = pictures.empty() ? "" : pictures[0].path;
  for (const ListedPicture& picture : pictures) {
    const auto end = std::ranges::mismatch(common, picture.path).in1;
    common.erase(end, common.end());
  }
  return common;
}

}  // namespace

fs::path cache_folder() {
  const auto set = [](const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? std::string() : std::string(value);
  };
  if (const std::string own = set("ROBUSTMOE_CACHE"); !own.empty()) return own;
  if (const std::string xdg = set("XDG_CACHE_HOME"); !xdg.empty())
    return fs::path(xdg) / "robustmoe";
  if (const std::string home = set("HOME"); !home.empty()) {
    return fs::path(home) / ".cache" / "robustmoe";
  }
  return {};
}

std::optional<PictureIndex> load_index(const IndexRequest& request) {
  const std::string file = contents(file_of(request));
  if (!file.starts_with(kHeading)) return std::nullopt;
  Reader head(std::string_view(file).substr(kHeading.size()));
  const auto hash = head.number<uint64_t>();
  const std::string_view body =
      std::string_view(file).substr(std::min(file.size(), kHeading.size() + sizeof hash));
  if (!head.good() || hash_text(body) != hash) return std::nullopt;
  Reader in(body);
  if (in.text() != request.key) return std::nullopt;
  PictureIndex index;
  index.height = in.number<int64_t>();
  index.width = in.number<int64_t>();
  index.classes = in.texts();
  index.skipped = in.texts();
  std::vector<Seen> seen(in.count(20));
  for (Seen& one : seen) {
    one.path = in.text();
    one.nanoseconds = in.number<int64_t>();
    one.bytes = in.number<int64_t>();
  }
  const std::string common = in.text();
  index.pictures.resize(in.count(8));
  for (ListedPicture& picture : index.pictures) {
    picture.label = in.number<int32_t>();
    picture.path = common + in.text();
  }
  if (!in.at_end()) return std::nullopt;
  const bool same =
      std::ranges::all_of(seen, [](const Seen& before) { return look(before.path) == before; });
  if (!same) return std::nullopt;
  return index;
}

bool store_index(const IndexRequest& request, const PictureIndex& index) {
  const fs::path path = file_of(request);
  std::error_code trouble;
  if (path.empty()) return false;
  fs::create_directories(path.parent_path(), trouble);
  Writer body;
  body.text(request.key);
  body.number(index.height);
  body.number(index.width);
  body.texts(index.classes);
  body.texts(index.skipped);
  const std::vector<Seen> seen = look_at(request, index.pictures);
  body.number(static_cast<uint64_t>(seen.size()));
  for (const Seen& one : seen) {
    body.text(one.path);
    body.number(one.nanoseconds);
    body.number(one.bytes);
  }
  const std::string common = common_start(index.pictures);
  body.text(common);
  body.number(static_cast<uint64_t>(index.pictures.size()));
  for (const ListedPicture& picture : index.pictures) {
    body.number(picture.label);
    body.text(picture.path.substr(common.size()));
  }
  Writer head;
  head.number(hash_text(body.out()));
  const fs::path unfinished = path.string() + "." + std::to_string(::getpid());
  {
    std::ofstream file(unfinished, std::ios::binary);
    file << kHeading << head.out() << body.out();
    file.close();
    if (!file) {
      fs::remove(unfinished, trouble);
      return false;
    }
  }
  fs::rename(unfinished, path, trouble);
  return !trouble;
}

}  // namespace data
