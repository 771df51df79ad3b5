#include "train/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/core/buffer.h"
#include "engine/core/device_memory.h"

namespace train {
namespace {

using engine::check;
using engine::Device;
using engine::Dtype;
using engine::ErrorKind;
using engine::fail;
using engine::Shape;
using engine::Tensor;
using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr int64_t kLengthBytes = 8;
constexpr int64_t kMostHeaderBytes = 100'000'000;  // the limit of the format's own library
constexpr const char* kMetadataKey = "__metadata__";

struct DtypeName {
  Dtype dtype;
  const char* name;
};
// In the order in which they are laid out.
constexpr DtypeName kDtypes[] = {{Dtype::kF64, "F64"},
                                 {Dtype::kF32, "F32"},
                                 {Dtype::kI32, "I32"},
                                 {Dtype::kBF16, "BF16"},
                                 {Dtype::kU8, "U8"}};

int layout_rank(Dtype dtype) {
  int rank = 0;
  while (kDtypes[rank].dtype != dtype) ++rank;
  return rank;
}

std::vector<NamedTensor> in_layout_order(std::span<const NamedTensor> tensors,
                                         const std::string& path) {
  std::vector<NamedTensor> sorted(tensors.begin(), tensors.end());
  std::sort(sorted.begin(), sorted.end(), [](const NamedTensor& a, const NamedTensor& b) {
    const int rank_a = layout_rank(a.tensor.dtype()), rank_b = layout_rank(b.tensor.dtype());
    return rank_a != rank_b ? rank_a < rank_b : a.name < b.name;
  });
  std::set<std::string> names;
  for (const NamedTensor& entry : sorted) {
    check(!entry.name.empty() && entry.name != kMetadataKey, ErrorKind::kValue, path,
          ": a tensor cannot be called \"", entry.name, "\"");
    check(names.insert(entry.name).second, ErrorKind::kValue, path, ": two tensors are called ",
          entry.name);
  }
  return sorted;
}

std::string header_text(std::span<const NamedTensor> sorted, const Metadata& metadata,
                        const std::string& path) {
  // Written by hand, because nlohmann::json would sort the names.
  std::string text = "{";
  int64_t offset = 0;
  try {
    if (!metadata.empty()) text += json(kMetadataKey).dump() + ":" + json(metadata).dump() + ",";
    for (const NamedTensor& entry : sorted) {
      json shape = json::array();
      for (int i = 0; i < entry.tensor.shape().rank(); ++i)
        shape.push_back(entry.tensor.shape()[i]);
      const int64_t end = offset + entry.tensor.bytes();
      text += json(entry.name).dump() + ":{\"dtype\":\"" +
              kDtypes[layout_rank(entry.tensor.dtype())].name + "\",\"shape\":" + shape.dump() +
              ",\"data_offsets\":" + json({offset, end}).dump() + "},";
      offset = end;
    }
  } catch (const json::exception&) {
    fail(ErrorKind::kValue, path, ": a name or the metadata is not UTF-8 text");
  }
  if (text.back() == ',') text.pop_back();
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  check(static_cast<int64_t>(text.size()) <= kMostHeaderBytes, ErrorKind::kValue, path,
        ": names and metadata take ", text.size(), " bytes, the format allows ", kMostHeaderBytes);
  return text;
}

void write_values(AtomicFile& file, const Tensor& tensor) {
  if (tensor.device() == Device::kCpu) return file.write(tensor.raw(), tensor.bytes());
  const int64_t block = int64_t{16} << 20;
  const engine::Buffer staging({std::min(block, tensor.bytes())}, Dtype::kU8);
  const char* from = static_cast<const char*>(tensor.raw());
  for (int64_t done = 0; done < tensor.bytes(); done += block) {
    const int64_t n = std::min(block, tensor.bytes() - done);
    engine::device_copy(Device::kCpu, staging.tensor().raw(), tensor.device(), from + done, n);
    file.write(staging.tensor().raw(), n);
  }
}

// Notices keys that stand twice in one object, and objects within objects without end. (The DOM
// parser's callback could as well, but takes quadratic time.)
class UniqueKeys final : public json::json_sax_t {
 public:
  explicit UniqueKeys(const std::string& path) : path_(path) {}
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return enter(); }
  bool end_object() override { return leave(); }
  bool start_array(std::size_t) override { return enter(); }
  bool end_array() override { return leave(); }
  bool key(string_t& key) override {
    check(keys_.back().insert(key).second, ErrorKind::kFormat, path_, ": the header has ",
          key.substr(0, 100), " twice");
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const json::exception&) override {
    return false;  // json::parse says what is wrong
  }

 private:
  bool enter() {
    check(keys_.size() < 4, ErrorKind::kFormat, path_, ": the header is nested too deeply");
    keys_.emplace_back();
    return true;
  }
  bool leave() {
    keys_.pop_back();
    return true;
  }

  const std::string& path_;
  std::vector<std::set<std::string>> keys_;
};

// Refuses names that would be read differently by others or spoil a message.
void check_name(const std::string& name, const std::string& path) {
  constexpr size_t kMostCharacters = 1000;
  check(name.size() <= kMostCharacters, ErrorKind::kFormat, path, ": a tensor's name of ",
        name.size(), " characters, at most ", kMostCharacters, " are read");
  check(std::ranges::all_of(name, [](unsigned char c) { return c >= 0x20 && c != 0x7f; }),
        ErrorKind::kFormat, path, ": a tensor's name holds control characters");
}

// Parses the header, refusing what the DOM would silently accept: a key that stands twice.
json parse_header(const std::string& text, const std::string& path) {
  try {
    UniqueKeys keys(path);
    json::sax_parse(text, &keys);
    return json::parse(text);
  } catch (const json::parse_error& error) {
    fail(ErrorKind::kFormat, path, ": byte ", kLengthBytes + static_cast<int64_t>(error.byte),
         ": the header is not valid JSON; the file is damaged or no safetensors file");
  } catch (const json::exception&) {  // a number that no double holds
    fail(ErrorKind::kFormat, path,
         ": the header is not valid JSON; the file is damaged or no safetensors file");
  }
}

int64_t whole_number(const json& value, const std::string& where) {
  check(value.is_number_unsigned() &&
            value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()),
        ErrorKind::kFormat, where, ": expected a whole number, got ", value.dump());
  return value.get<int64_t>();
}

// Types of the format that there are no tensors of here, and their bytes.
struct ForeignType {
  const char* name;
  int64_t bytes;
};
constexpr ForeignType kForeign[] = {{"BOOL", 1}, {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
                                    {"I16", 2},  {"U16", 2}, {"F16", 2},     {"U32", 4},
                                    {"I64", 8},  {"U64", 8}};

// Sets the entry's type; returns the bytes of an element.
int64_t parse_dtype(const json& value, const std::string& where, SafetensorsFile::Entry& entry) {
  check(value.is_string(), ErrorKind::kFormat, where, ": dtype is not text");
  const auto text = value.get<std::string>();
  for (const DtypeName& known : kDtypes) {
    if (text != known.name) continue;
    entry.dtype = known.dtype;
    return engine::size_of(known.dtype);
  }
  for (const ForeignType& foreign : kForeign) {
    if (text != foreign.name) continue;
    entry.foreign = text;
    return foreign.bytes;
  }
  fail(ErrorKind::kFormat, where, ": there is no type ", text, " in this format");
}

Shape parse_shape(const json& value, const std::string& where) {
  check(value.is_array() && value.size() <= Shape::kMaxRank, ErrorKind::kFormat, where,
        ": shape is not a list of at most ", Shape::kMaxRank, " sizes");
  Shape shape;
  int64_t numel = 1;
  for (auto it = value.rbegin(); it != value.rend(); ++it) {
    const int64_t size = whole_number(*it, where + ": shape");
    check(!__builtin_mul_overflow(numel, std::max<int64_t>(size, 1), &numel) &&
              numel <= std::numeric_limits<int64_t>::max() / 8,
          ErrorKind::kFormat, where, ": shape ", value.dump(), " is too large");
    shape = shape.with_prepended(size);
  }
  return shape;
}

SafetensorsFile::Entry parse_entry(const std::string& name, const json& value, int64_t data_begin,
                                   const ReadFile& file) {
  const std::string where = file.path() + ": tensor " + name;
  check(value.is_object() && value.size() == 3 && value.contains("dtype") &&
            value.contains("shape") && value.contains("data_offsets"),
        ErrorKind::kFormat, where, ": expected dtype, shape and data_offsets");
  const json& offsets = value["data_offsets"];
  check(offsets.is_array() && offsets.size() == 2, ErrorKind::kFormat, where,
        ": data_offsets are not two numbers");
  SafetensorsFile::Entry entry;
  entry.name = name;
  const int64_t element = parse_dtype(value["dtype"], where, entry);
  entry.shape = parse_shape(value["shape"], where);
  const int64_t begin = whole_number(offsets[0], where + ": data_offsets");
  const int64_t end = whole_number(offsets[1], where + ": data_offsets");
  const int64_t data_bytes = file.size() - data_begin;
  check(begin <= end && end <= data_bytes, ErrorKind::kFormat, where, ": data_offsets ", begin,
        " to ", end, " do not lie in the ", data_bytes, " bytes of data; the file is ",
        end > data_bytes ? "cut short or damaged" : "damaged");
  const int64_t wanted = entry.shape.numel() * element;
  check(end - begin == wanted, ErrorKind::kFormat, where, ": ", value["dtype"].get<std::string>(),
        " ", entry.shape, " needs ", wanted, " bytes, data_offsets give ", end - begin);
  entry.begin = data_begin + begin;
  entry.end = data_begin + end;
  return entry;
}

}  // namespace

FileSum write_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                          const Metadata& metadata) {
  const std::vector<NamedTensor> sorted = in_layout_order(tensors, path);
  const std::string header = header_text(sorted, metadata, path);
  AtomicFile file(path);
  const uint64_t length = header.size();
  file.write(&length, kLengthBytes);
  file.write(header);
  for (const NamedTensor& entry : sorted) write_values(file, entry.tensor);
  return file.commit();
}

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(path) {
  check(file_.size() >= kLengthBytes, ErrorKind::kFormat, path, ": byte 0: ", file_.size(),
        " bytes are too few for a safetensors file");
  uint64_t length = 0;
  file_.read(0, &length, kLengthBytes);
  check(length <= static_cast<uint64_t>(file_.size() - kLengthBytes), ErrorKind::kFormat, path,
        ": byte 0: a header of ", length, " bytes in a file of ", file_.size(),
        "; cut short or no safetensors file");
  check(length <= static_cast<uint64_t>(kMostHeaderBytes), ErrorKind::kFormat, path,
        ": byte 0: a header of ", length, " bytes, the format allows ", kMostHeaderBytes);
  std::string header(length, '\0');
  file_.read(kLengthBytes, header.data(), static_cast<int64_t>(length));
  check(header.starts_with('{'), ErrorKind::kFormat, path,
        ": byte 8: a header begins with '{'; no safetensors file");
  parse(header);
  check_layout(kLengthBytes + static_cast<int64_t>(length));
}

void SafetensorsFile::parse(const std::string& header) {
  const json parsed = parse_header(header, path());
  const int64_t data_begin = kLengthBytes + static_cast<int64_t>(header.size());
  for (const auto& [name, value] : parsed.items()) {
    check_name(name, path());
    if (name != kMetadataKey) {
      entries_.push_back(parse_entry(name, value, data_begin, file_));
      continue;
    }
    check(value.is_object(), ErrorKind::kFormat, path(), ": __metadata__ is not an object");
    for (const auto& [key, text] : value.items()) {
      check(text.is_string(), ErrorKind::kFormat, path(), ": __metadata__: ", key, " is not text");
      metadata_[key] = text.get<std::string>();
    }
  }
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  for (size_t i = 0; i < entries_.size(); ++i) by_name_[entries_[i].name] = i;
}

void SafetensorsFile::check_layout(int64_t data_begin) const {
  int64_t expected = data_begin;
  for (const Entry& entry : entries_) {
    check(entry.begin == expected, ErrorKind::kFormat, path(), ": byte ", entry.begin, ": tensor ",
          entry.name, " begins here, the one before ends at ", expected);
    expected = entry.end;
  }
  check(expected == file_.size(), ErrorKind::kFormat, path(), ": byte ", expected,
        ": the tensors end here, the file has ", file_.size(), " bytes");
}

const SafetensorsFile::Entry* SafetensorsFile::find(const std::string& name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &entries_[it->second];
}

void SafetensorsFile::read(const std::string& name, const Tensor& out) const {
  const Entry* entry = find(name);
  check(entry != nullptr, ErrorKind::kFormat, path(), ": there is no tensor ", name);
  check(entry->foreign.empty(), ErrorKind::kFormat, path(), ": tensor ", name, " is ",
        entry->foreign, ", which this program does not read: convert it to F32");
  check(entry->shape == out.shape() && entry->dtype == out.dtype(), ErrorKind::kFormat, path(),
        ": tensor ", name, " is ", entry->dtype, " ", entry->shape, ", expected ", out.dtype(), " ",
        out.shape());
  if (out.device() == Device::kCpu) return file_.read(entry->begin, out.raw(), out.bytes());
  const int64_t block = int64_t{16} << 20;
  const engine::Buffer staging({std::min(block, out.bytes())}, Dtype::kU8);
  char* to = static_cast<char*>(out.raw());
  for (int64_t done = 0; done < out.bytes(); done += block) {
    const int64_t n = std::min(block, out.bytes() - done);
    file_.read(entry->begin + done, staging.tensor().raw(), n);
    engine::device_copy(out.device(), to + done, Device::kCpu, staging.tensor().raw(), n);
  }
}

}  // namespace train
