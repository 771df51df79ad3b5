#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace data {

// Numbers and texts one after another, as our own index files hold them: numbers as they lie in
// memory (little-endian machines), a text behind its size, a list behind its count.
class BinaryWriter {
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

// Reads them again. Where the data ends too early it gives zeros and empty texts, and good() is
// false from then on: ask once at the end.
class BinaryReader {
 public:
  explicit BinaryReader(std::string_view in) : in_(in) {}
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
  // A count of things of which each takes at least `least` bytes, so that no damaged count asks
  // for memory that the data cannot fill.
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

}  // namespace data
