#include "data/codec/mat_file.h"

#include <zlib.h>

#include <cmath>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "data/codec/decode_image.h"
#include "data/names.h"
#include "engine/core/error.h"

// Format: "MAT-File Format", MathWorks, the chapter on level 5. A file is a heading of 128 bytes
// and elements: a tag (type, bytes), the data, padding to 8 bytes.
namespace data {
namespace {

using engine::check;
using engine::ErrorKind;
using engine::fail;
using Bytes = std::span<const uint8_t>;

constexpr size_t kHeading = 128;
constexpr size_t kMostBytes = size_t{64} << 20;

enum Type : uint32_t {
  kInt8 = 1,
  kUint8,
  kInt16,
  kUint16,
  kInt32,
  kUint32,
  kSingle,
  kDouble = 9,
  kInt64 = 12,
  kUint64,
  kMatrix,
  kCompressed
};

template <class T>
T number_at(Bytes bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

struct Element {
  uint32_t type = 0;
  Bytes data;
};

// Walks through elements; `place` says where in messages.
class Elements {
 public:
  Elements(Bytes bytes, std::string place, size_t begin = 0)
      : bytes_(bytes), place_(std::move(place)), at_(begin), start_(begin) {}

  std::optional<Element> next() {
    start_ = at_;
    if (at_ == bytes_.size()) return std::nullopt;
    need(8, "the tag of an element");
    const auto first = number_at<uint32_t>(bytes_, at_);
    if (first >> 16 != 0) {  // small: type, size and up to 4 bytes in one tag
      const size_t size = first >> 16;
      check(size <= 4, ErrorKind::kFormat, here(), ": a small element of ", size,
            " bytes; the file is damaged");
      const Element element{first & 0xffff, bytes_.subspan(at_ + 4, size)};
      at_ += 8;
      return element;
    }
    const size_t size = number_at<uint32_t>(bytes_, at_ + 4);
    need(8 + size, "an element's data");
    const Element element{first, bytes_.subspan(at_ + 8, size)};
    at_ += 8 + size;
    if (first != kCompressed) at_ = std::min(bytes_.size(), (at_ + 7) / 8 * 8);
    return element;
  }
  // Where the last element begins.
  std::string here() const { return place_ + ": byte " + std::to_string(start_); }

 private:
  void need(size_t size, const char* what) const {
    check(bytes_.size() - at_ >= size, ErrorKind::kFormat, here(), ": the file ends within ", what,
          " of ", size, " bytes; it is cut short, download it again");
  }

  Bytes bytes_;
  std::string place_;
  size_t at_, start_;
};

std::vector<uint8_t> unpack(Bytes packed, const std::string& where) {
  z_stream stream = {};
  check(inflateInit(&stream) == Z_OK, ErrorKind::kInternal, where, ": zlib cannot start");
  stream.next_in = const_cast<Bytef*>(packed.data());  // NOLINT: zlib does not write there
  stream.avail_in = static_cast<uInt>(packed.size());
  std::vector<uint8_t> out;
  int code = Z_OK;
  while (code == Z_OK && out.size() < kMostBytes) {
    const size_t before = out.size();
    out.resize(std::min(kMostBytes, 2 * before + 4096));
    stream.next_out = out.data() + before;
    stream.avail_out = static_cast<uInt>(out.size() - before);
    code = inflate(&stream, Z_NO_FLUSH);
    out.resize(out.size() - stream.avail_out);
    if (out.size() == before) break;
  }
  inflateEnd(&stream);
  check(code == Z_STREAM_END, ErrorKind::kFormat, where,
        code == Z_OK ? ": unpacks to more than 64 MiB, or is cut short"
                     : ": its compressed data is damaged; download it again");
  return out;
}

template <class T>
void append(Bytes data, std::vector<double>& out) {
  for (size_t at = 0; at + sizeof(T) <= data.size(); at += sizeof(T)) {
    out.push_back(static_cast<double>(number_at<T>(data, at)));
  }
}

std::vector<double> numbers_of(const Element& element, const std::string& where) {
  std::vector<double> out;
  switch (element.type) {
    case kInt8:
      append<int8_t>(element.data, out);
      break;
    case kUint8:
      append<uint8_t>(element.data, out);
      break;
    case kInt16:
      append<int16_t>(element.data, out);
      break;
    case kUint16:
      append<uint16_t>(element.data, out);
      break;
    case kInt32:
      append<int32_t>(element.data, out);
      break;
    case kUint32:
      append<uint32_t>(element.data, out);
      break;
    case kInt64:
      append<int64_t>(element.data, out);
      break;
    case kUint64:
      append<uint64_t>(element.data, out);
      break;
    case kSingle:
      append<float>(element.data, out);
      break;
    case kDouble:
      append<double>(element.data, out);
      break;
    default:
      fail(ErrorKind::kFormat, where, ": numbers of type ", element.type, ", which is none");
  }
  return out;
}

// The name of a matrix, and its numbers if it is the one that is wanted.
struct Matrix {
  std::string name;
  std::optional<std::vector<int64_t>> numbers;
};

Matrix read_matrix(Bytes data, const std::string& wanted, const std::string& path,
                   const std::string& where) {
  Elements parts(data, where);
  const auto part = [&](const char* what) {
    const auto element = parts.next();
    check(element.has_value(), ErrorKind::kFormat, where, ": a matrix without ", what,
          "; the file is damaged");
    return *element;
  };
  const Element flags = part("flags"), sizes = part("sizes"), name = part("a name");
  Matrix matrix{{name.data.begin(), name.data.end()}, std::nullopt};
  if (matrix.name != wanted) return matrix;
  const std::string variable = path + ": variable " + wanted;
  check(flags.data.size() == 8 && sizes.data.size() % 4 == 0, ErrorKind::kFormat, where,
        ": flags or sizes of a matrix that are none; the file is damaged");
  const unsigned kind = flags.data[0];  // mxDOUBLE_CLASS 6 to mxUINT64_CLASS 15
  check(kind >= 6 && kind <= 15 && (flags.data[1] & 8) == 0, ErrorKind::kFormat, variable,
        ": is no matrix of real numbers");
  double count = 1;
  for (size_t at = 0; at < sizes.data.size(); at += 4) {
    count *= static_cast<double>(number_at<int32_t>(sizes.data, at));
  }
  const std::vector<double> numbers = numbers_of(part("numbers"), where);
  check(static_cast<double>(numbers.size()) == count, ErrorKind::kFormat, variable, ": has ",
        numbers.size(), " numbers, but its sizes say ", count, "; the file is damaged");
  matrix.numbers.emplace();
  for (const double number : numbers) {
    check(std::abs(number) < 9e15 && number == std::floor(number), ErrorKind::kFormat, variable,
          ": holds ", number, ", expected whole numbers");
    matrix.numbers->push_back(static_cast<int64_t>(number));
  }
  return matrix;
}

}  // namespace

std::vector<int64_t> read_mat_integers(const std::string& path, const std::string& variable) {
  std::vector<uint8_t> file;
  read_bytes(path, file);
  check(file.size() >= kHeading && file[124] == 0 && file[125] == 1 && file[126] == 'I' &&
            file[127] == 'M',
        ErrorKind::kFormat, path,
        ": is no little-endian MATLAB file of level 5 (a file of level 7.3 is HDF5: save it again "
        "with -v7)");
  Elements elements(file, path, kHeading);
  std::vector<std::string> names;
  while (auto element = elements.next()) {
    std::vector<uint8_t> unpacked;
    if (element->type == kCompressed) {
      unpacked = unpack(element->data, elements.here());
      const auto inner = Elements(unpacked, elements.here() + ", unpacked").next();
      check(inner.has_value(), ErrorKind::kFormat, elements.here(), ": unpacks to nothing");
      element = inner;
    }
    if (element->type != kMatrix) continue;
    const Matrix matrix = read_matrix(element->data, variable, path, elements.here());
    if (matrix.numbers) return *matrix.numbers;
    names.push_back(matrix.name);
  }
  fail(ErrorKind::kFormat, path, ": has no variable ", variable, ", but ",
       names.empty() ? "none" : join(names));
}

}  // namespace data
