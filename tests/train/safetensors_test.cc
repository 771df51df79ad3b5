#include "train/safetensors.h"

#include <doctest/doctest.h>

#include <array>
#include <cstring>

#include "engine/core/buffer.h"
#include "tests/support/sanitized.h"
#include "tests/train/temp_folder.h"
#include "train/init/source_tensors.h"

using engine::Buffer;
using engine::Device;
using engine::Dtype;
using engine::ErrorKind;
using engine::Shape;
using engine::Tensor;
using namespace train;
using namespace train::test;

namespace {

template <class T>
Tensor tensor_of(std::vector<T>& values, const Shape& shape) {
  return Tensor(values.data(), shape, engine::dtype_of<T>(), Device::kCpu);
}

// A file of this header and data.
std::string file_of(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}

std::string error_for(const std::string& bytes) {
  const TempFolder folder;
  put(folder / "x", bytes);
  return error_of(ErrorKind::kFormat, [&] { SafetensorsFile(folder / "x"); });
}

// What the format's own library writes; tests/reference/safetensors_roundtrip.py --golden.
const std::string kGolden =
    file_of(R"({"__metadata__":{"config":"depth = 2\n\"quoted\""},)"
            R"("scale":{"dtype":"F64","shape":[],"data_offsets":[0,8]},)"
            R"("b/weight":{"dtype":"F32","shape":[1,3],"data_offsets":[8,20]},)"
            R"("index":{"dtype":"I32","shape":[2],"data_offsets":[20,28]},)"
            R"("a":{"dtype":"U8","shape":[3],"data_offsets":[28,31]}}     )",
            std::string("\x00\x00\x00\x00\x00\x00\xe0?\x00\x00\x80?\x00\x00\x00\xc0\x00\x00@@"
                        "\xff\xff\xff\xff\x00\x00\x01\x00\x07\xff\x00",
                        31));

struct GoldenTensors {
  std::vector<double> scale{0.5};
  std::vector<float> weight{1, -2, 3};
  std::vector<int32_t> index{-1, 65536};
  std::vector<uint8_t> a{7, 255, 0};
  std::vector<NamedTensor> list{{"a", tensor_of(a, {3})},
                                {"b/weight", tensor_of(weight, {1, 3})},
                                {"index", tensor_of(index, {2})},
                                {"scale", tensor_of(scale, {})}};
  Metadata metadata{{"config", "depth = 2\n\"quoted\""}};
};

}  // namespace

TEST_CASE("safetensors: writes the bytes of the format's own library, in any order given") {
  const TempFolder folder;
  GoldenTensors golden;
  const FileSum sum = write_safetensors(folder / "a", golden.list, golden.metadata);
  CHECK(content_of(folder / "a") == kGolden);
  CHECK(sum == sum_file(folder / "a"));
  std::reverse(golden.list.begin(), golden.list.end());
  write_safetensors(folder / "b", golden.list, golden.metadata);
  CHECK(content_of(folder / "b") == kGolden);
}

TEST_CASE("safetensors: reads what the format's own library wrote") {
  const TempFolder folder;
  put(folder / "x", kGolden);
  const SafetensorsFile file(folder / "x");
  CHECK(file.metadata() == GoldenTensors().metadata);
  REQUIRE(file.entries().size() == 4);
  CHECK(file.entries()[1].name == "b/weight");
  CHECK(file.entries()[1].shape == Shape{1, 3});
  CHECK(file.entries()[1].dtype == Dtype::kF32);
  CHECK(file.entries()[3].end == static_cast<int64_t>(kGolden.size()));
  const Buffer weight({1, 3}, Dtype::kF32), index({2}, Dtype::kI32), scale(Shape{}, Dtype::kF64);
  file.read("b/weight", weight.tensor());
  file.read("index", index.tensor());
  file.read("scale", scale.tensor());
  CHECK(weight.data<float>()[1] == -2.0f);
  CHECK(weight.data<float>()[2] == 3.0f);
  CHECK(index.data<int32_t>()[0] == -1);
  CHECK(index.data<int32_t>()[1] == 65536);
  CHECK(scale.data<double>()[0] == 0.5);
}

TEST_CASE("safetensors: every type, rank 0 to 6 and empty tensors come back") {
  const TempFolder folder;
  const std::array shapes{Shape{},
                          Shape{5},
                          Shape{0},
                          Shape{2, 3},
                          Shape{2, 0, 3},
                          Shape{1, 2, 3, 4},
                          Shape{2, 1, 3, 1, 2, 1}};
  std::vector<Buffer> buffers;
  std::vector<NamedTensor> list;
  for (const Dtype dtype : {Dtype::kU8, Dtype::kBF16, Dtype::kF32, Dtype::kI32, Dtype::kF64}) {
    for (const Shape& shape : shapes) {
      const Tensor tensor = buffers.emplace_back(shape, dtype).tensor();
      for (int64_t i = 0; i < tensor.bytes(); ++i) {
        static_cast<uint8_t*>(tensor.raw())[i] = static_cast<uint8_t>(i * 37 + 11);
      }
      list.push_back({std::to_string(list.size()) + "/\"ü\"\\", tensor});
    }
  }
  write_safetensors(folder / "x", list);
  const SafetensorsFile file(folder / "x");
  CHECK(file.entries().size() == list.size());
  CHECK(file.metadata().empty());
  for (const NamedTensor& saved : list) {
    const Tensor& tensor = saved.tensor;
    const Buffer out(tensor.shape(), tensor.dtype());
    file.read(saved.name, out.tensor());
    const auto n = static_cast<size_t>(tensor.bytes());
    CHECK_MESSAGE(std::memcmp(out.tensor().raw(), tensor.raw(), n) == 0, saved.name);
    CHECK(file.find(saved.name)->begin % engine::size_of(tensor.dtype()) == 0);
  }
  write_safetensors(folder / "empty", {});
  CHECK(SafetensorsFile(folder / "empty").entries().empty());
}

TEST_CASE("safetensors: read says both shapes and types, and which name is not there") {
  const TempFolder folder;
  put(folder / "x", kGolden);
  const SafetensorsFile file(folder / "x");
  const Buffer wrong({3, 1}, Dtype::kF32), wrong_type({1, 3}, Dtype::kI32);
  CHECK(error_of(ErrorKind::kFormat, [&] { file.read("b/weight", wrong.tensor()); }) ==
        folder / "x: tensor b/weight is f32 (1,3), expected f32 (3,1)");
  CHECK(error_of(ErrorKind::kFormat, [&] { file.read("b/weight", wrong_type.tensor()); }) ==
        folder / "x: tensor b/weight is f32 (1,3), expected i32 (1,3)");
  CHECK(error_of(ErrorKind::kFormat, [&] { file.read("b", wrong.tensor()); }) ==
        folder / "x: there is no tensor b");
}

TEST_CASE("safetensors: a file cut anywhere or with a byte too many is refused") {
  const TempFolder folder;
  CHECK(error_for(kGolden) == "no error");
  for (size_t n = 0; n < kGolden.size(); ++n) {
    const std::string message = error_for(kGolden.substr(0, n));
    CHECK_MESSAGE((message.starts_with("/") && contains(message, "/x: ")), n, ": ", message);
  }
  CHECK(contains(error_for(kGolden + "x"), "the tensors end here, the file has"));
  CHECK(contains(error_for(""), "byte 0: 0 bytes are too few"));
  CHECK(contains(error_for(std::string(100, '\xff')), "a header of 18446744073709551615 bytes"));
}

TEST_CASE("safetensors: a damaged or foreign header is refused with the reason") {
  const auto one = [](const std::string& fields, const std::string& data) {
    return error_for(file_of("{\"w\":{" + fields + "}}", data));
  };
  const std::string four(4, 'x');
  CHECK(one(R"("dtype":"F32","shape":[1],"data_offsets":[0,4])", four) == "no error");
  CHECK(contains(one(R"("dtype":"F15","shape":[2],"data_offsets":[0,4])", four),
                 "tensor w: there is no type F15 in this format"));
  CHECK(contains(one(R"("dtype":"F16","shape":[1],"data_offsets":[0,4])", four),
                 "F16 (1) needs 2 bytes, data_offsets give 4"));
  CHECK(contains(one(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])", four),
                 "F32 (2) needs 8 bytes, data_offsets give 4"));
  CHECK(contains(one(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])", four + four),
                 "begins here, the one before ends at"));
  CHECK(contains(one(R"("dtype":"F32","shape":[1],"data_offsets":[0,8])", four), "cut short"));
  CHECK(contains(one(R"("dtype":"F32","shape":[1],"data_offsets":[4,0])", four), "do not lie"));
  CHECK(contains(one(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])", four),
                 "shape: expected a whole number, got -1"));
  CHECK(contains(one(R"("dtype":"F32","shape":[1.0],"data_offsets":[0,4])", four), "got 1.0"));
  CHECK(contains(one(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0])", ""),
                 "too large"));
  CHECK(contains(one(R"("dtype":"U8","shape":[0,9223372036854775807,3],"data_offsets":[0,0])", ""),
                 "too large"));
  CHECK(contains(one(R"("dtype":"U8","shape":[1,1,1,1,1,1,4],"data_offsets":[0,4])", four),
                 "at most 6"));
  CHECK(contains(one(R"("dtype":"F32","shape":[1])", four), "expected dtype, shape and data"));
  CHECK(contains(one(R"("dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4])", four),
                 "the header has dtype twice"));
  CHECK(contains(error_for(file_of("{\"w\":[[[[1]]]]}", "")), "nested too deeply"));
  CHECK(contains(error_for(file_of("{\"" + std::string(1001, 'w') + "\":1}", "")),
                 "a tensor's name of 1001 characters"));
  CHECK(contains(error_for(file_of(R"({"a\u0000b":1})", "")), "control characters"));
  CHECK(contains(error_for(file_of("[]", "")), "byte 8: a header begins with '{'"));
  CHECK(contains(error_for(file_of("{\"w\" 1}", "")), "byte 14: the header is not valid JSON"));
  CHECK(contains(error_for(file_of("{\"__metadata__\":{\"a\":1}}", "")), "a is not text"));
}

TEST_CASE("safetensors: a tensor of a type that is none of ours is there, but cannot be read") {
  const TempFolder folder;
  const std::string path = folder / "x";
  train::write_file(path, file_of(R"({"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},)"
                                  R"("n":{"dtype":"I64","shape":[],"data_offsets":[4,12]},)"
                                  R"("w":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}})",
                                  std::string(16, '\0')));
  const SafetensorsFile file(path);
  REQUIRE(file.find("n") != nullptr);
  CHECK(file.find("n")->foreign == "I64");
  CHECK(file.find("h")->foreign == "F16");
  CHECK(file.find("w")->foreign.empty());
  const engine::Buffer two({2}, Dtype::kF32), one({1}, Dtype::kF32);
  file.read("w", one.tensor());
  CHECK(error_of(ErrorKind::kFormat, [&] { file.read("h", two.tensor()); }) ==
        path + ": tensor h is F16, which this program does not read: convert it to F32");
  // Weights of half precision are asked for; counters are left out.
  CHECK(contains(error_of(ErrorKind::kFormat, [&] { train::read_source(path); }), "h is F16"));
  train::write_file(path, file_of(R"({"n":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
                                  R"("w":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
                                  std::string(12, '\0')));
  const train::SourceTensors source = train::read_source(path);
  CHECK(source.size() == 1);
  CHECK(source.count("w") == 1);
}

TEST_CASE("safetensors: a header of many tensors is read in passing") {
  std::string header = "{";
  for (int i = 0; i < (engine::test::kSanitized ? 10'000 : 100'000); ++i) {
    header += (i > 0 ? ",\"t" : "\"t") + std::to_string(i) +
              R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  }
  CHECK(error_for(file_of(header + "}", "")) == "no error");
}

TEST_CASE("safetensors: overlaps, gaps and repeated names are refused") {
  const auto two = [](const std::string& a, const std::string& b, const std::string& second) {
    return error_for(file_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)" + a + R"(},")" +
                                 second + R"(":{"dtype":"U8","shape":[2],"data_offsets":)" + b +
                                 "}}",
                             "1234"));
  };
  CHECK(two("[0,2]", "[2,4]", "b") == "no error");
  CHECK(two("[2,4]", "[0,2]", "b") == "no error");
  CHECK(contains(two("[0,2]", "[1,3]", "b"), "begins here, the one before ends at"));
  CHECK(contains(two("[0,2]", "[0,2]", "b"), "begins here, the one before ends at"));
  CHECK(contains(two("[1,3]", "[3,4]", "b"), "data_offsets give 1"));
  CHECK(contains(two("[0,2]", "[2,4]", "a"), "the header has a twice"));
}

TEST_CASE("safetensors: names that a file cannot hold are the caller's mistake") {
  const TempFolder folder;
  std::vector<float> value{1};
  const Tensor tensor = tensor_of(value, {1});
  const auto message = [&](const std::vector<NamedTensor>& list, const Metadata& metadata) {
    return error_of(ErrorKind::kValue, [&] { write_safetensors(folder / "x", list, metadata); });
  };
  CHECK(contains(message({{"a", tensor}, {"a", tensor}}, {}), "two tensors are called a"));
  CHECK(contains(message({{"", tensor}}, {}), "cannot be called"));
  CHECK(contains(message({{"__metadata__", tensor}}, {}), "cannot be called"));
  CHECK(contains(message({{"\xff", tensor}}, {}), "not UTF-8"));
  CHECK(contains(message({{"a", tensor}}, {{"k", "\xc3"}}), "not UTF-8"));
  CHECK(names_in(folder.path()).empty());
}
