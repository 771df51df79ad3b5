#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "engine/core/tensor.h"
#include "train/file_io.h"

// The safetensors format: 8 bytes of header length, a JSON header, the tensors' bytes, all
// little-endian. train/FORMATS.md says what this program puts into it.
namespace train {

struct NamedTensor {
  std::string name;
  engine::Tensor tensor;
};

using Metadata = std::map<std::string, std::string>;

// Writes tensors of any device (f32, f64, bf16, i32, u8) to one file, atomically. The layout
// is that of the format's own library: by type (f64, f32, i32, bf16, u8: every tensor is
// aligned), then by name. The bytes depend on names, values and metadata only, not on the
// order given. Returns the file's sum.
// Error(kValue): a name twice, an empty or reserved name, text that is not UTF-8; Error(kIo).
FileSum write_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                          const Metadata& metadata = {});

// A safetensors file, its header read and checked: lengths against the file's size, known
// types, shape × size == bytes, tensors one behind the other without gap or overlap to the
// last byte, no name twice. Anything else is Error(kFormat) with path and byte or name.
class SafetensorsFile {
 public:
  struct Entry {
    std::string name;
    engine::Dtype dtype = engine::Dtype::kF32;
    // A type of the format that this program has no tensors of, such as I64 or F16: the entry is
    // there, but cannot be read. Else empty.
    std::string foreign;
    engine::Shape shape;
    int64_t begin = 0, end = 0;  // bytes from the start of the file
  };

  explicit SafetensorsFile(const std::string& path);

  // In the order of the file.
  const std::vector<Entry>& entries() const { return entries_; }
  const Metadata& metadata() const { return metadata_; }
  const std::string& path() const { return file_.path(); }
  // nullptr if there is none of that name.
  const Entry* find(const std::string& name) const;
  // Fills `out`, on any device; another shape or type, a foreign one too, is Error(kFormat) with
  // both.
  void read(const std::string& name, const engine::Tensor& out) const;

 private:
  void parse(const std::string& header);
  void check_layout(int64_t data_begin) const;

  ReadFile file_;
  std::vector<Entry> entries_;
  std::map<std::string, size_t> by_name_;
  Metadata metadata_;
};

}  // namespace train
