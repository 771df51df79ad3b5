#include "data/pictures/index_cache.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string_view>
#include <utility>

#include "data/binary.h"
#include "data/hash.h"

namespace data {
namespace {

namespace fs = std::filesystem;

// Raise the number whenever what is stored changes.
constexpr std::string_view kHeading = "robustmoe index 2\n";
constexpr size_t kSamples = 1024;

Seen look(const std::string& path) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0) return {path, -1, -1};
  const bool folder = S_ISDIR(status.st_mode);
  return {path, int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec,
          folder ? 0 : int64_t{status.st_size}};
}

// The folders in a folder and below, as they are listed: links are followed to class folders, not
// below them; what is hidden is not looked at. False where the system refuses.
bool look_below(const fs::path& folder, bool follow, std::vector<Seen>& seen) {
  std::error_code trouble;
  for (fs::directory_iterator it(folder, trouble), end; !trouble && it != end;
       it.increment(trouble)) {
    std::error_code ignored;
    const bool hidden = it->path().filename().string().starts_with('.');
    if (hidden || !it->is_directory(ignored) || (!follow && it->is_symlink(ignored))) continue;
    seen.push_back(look(it->path().string()));
    if (!look_below(it->path(), /*follow=*/false, seen)) return false;
  }
  return !trouble;
}

std::vector<Seen> look_at_pictures(const PictureIndex& index) {
  std::vector<Seen> seen;
  for (const std::string& path : index.skipped_paths) seen.push_back(look(path));
  const size_t count = index.pictures.size(), samples = std::min(kSamples, count);
  for (size_t i = 0; i < samples; ++i) {
    seen.push_back(look(index.pictures[i * count / samples].path));
  }
  return seen;
}

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

std::vector<Seen> look_at(const IndexRequest& request) {
  std::vector<Seen> seen;
  for (const fs::path& watched : request.watched) {
    seen.push_back(look(watched.string()));
    std::error_code ignored;
    if (fs::is_directory(watched, ignored) && !look_below(watched, /*follow=*/true, seen))
      return {};
  }
  return seen;
}

std::optional<PictureIndex> load_index(const IndexRequest& request) {
  const std::string file = contents(file_of(request));
  if (!file.starts_with(kHeading)) return std::nullopt;
  BinaryReader head(std::string_view(file).substr(kHeading.size()));
  const auto hash = head.number<uint64_t>();
  const std::string_view body =
      std::string_view(file).substr(std::min(file.size(), kHeading.size() + sizeof hash));
  if (!head.good() || hash_text(body) != hash) return std::nullopt;
  BinaryReader in(body);
  if (in.text() != request.key) return std::nullopt;
  PictureIndex index;
  index.height = in.number<int64_t>();
  index.width = in.number<int64_t>();
  index.classes = in.texts();
  index.skipped = in.texts();
  index.skipped_paths = in.texts();
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

bool store_index(const IndexRequest& request, const PictureIndex& index,
                 const std::vector<Seen>& before) {
  const fs::path path = file_of(request);
  std::error_code trouble;
  if (path.empty() || (before.empty() && !request.watched.empty())) return false;
  fs::create_directories(path.parent_path(), trouble);
  BinaryWriter body;
  body.text(request.key);
  body.number(index.height);
  body.number(index.width);
  body.texts(index.classes);
  body.texts(index.skipped);
  body.texts(index.skipped_paths);
  std::vector<Seen> seen = look_at_pictures(index);
  seen.insert(seen.end(), before.begin(), before.end());
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
  BinaryWriter head;
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
