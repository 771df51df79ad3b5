#pragma once

#include <zlib.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "engine/core/error.h"

namespace data::test {

using Bytes = std::vector<uint8_t>;

// A folder that is there as long as the object.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "data_test_XXXXXX").string();
    engine::check(mkdtemp(pattern.data()) != nullptr, engine::ErrorKind::kIo, "mkdtemp ", pattern);
    path_ = pattern;
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  std::string path() const { return path_.string(); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  void write(const std::string& name, const Bytes& bytes) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream file(path_ / name, std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
  void write(const std::string& name, const std::string& text) const {
    write(name, Bytes(text.begin(), text.end()));
  }
  void remove(const std::string& name) const { std::filesystem::remove(path_ / name); }

 private:
  std::filesystem::path path_;
};

// `bytes` as gzip writes them.
inline Bytes gzip(const Bytes& bytes) {
  const TempFolder folder;
  gzFile file = gzopen((folder / "x.gz").c_str(), "wb");
  gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(file);
  std::ifstream in(folder / "x.gz", std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(in), {});
}

// What `call` throws: its kind and message, kInternal and "" where it throws nothing.
struct Caught {
  engine::ErrorKind kind = engine::ErrorKind::kInternal;
  std::string message;
  bool has(const std::string& part) const { return message.find(part) != std::string::npos; }
};

template <class Call>
Caught error_of(Call&& call) {
  try {
    call();
  } catch (const engine::Error& error) {
    return {error.kind(), error.message()};
  }
  return {};
}

}  // namespace data::test
