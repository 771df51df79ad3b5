#include "engine/core/tensor.h"

#include <doctest/doctest.h>

#include <sstream>
#include <vector>

#include "engine/config.h"
#include "engine/core/backend.h"
#include "tests/support/tensors.h"

using namespace engine;
using engine::test::caught;
using engine::test::view;

TEST_CASE("shape: rank sizes and count") {
  const Shape s{2, 3, 5};
  CHECK(s.rank() == 3);
  CHECK(s[0] == 2);
  CHECK(s[2] == 5);
  CHECK(s[-1] == 5);
  CHECK(s[-3] == 2);
  CHECK(s.numel() == 30);
  CHECK(Shape{}.numel() == 1);
  CHECK(Shape{}.rank() == 0);
  CHECK(Shape{4, 0, 7}.numel() == 0);
  CHECK(Shape{1, 2, 3, 4, 5, 6}.numel() == 720);
}

TEST_CASE("shape: equality looks at rank and sizes") {
  CHECK(Shape{2, 3} == Shape{2, 3});
  CHECK_FALSE(Shape{2, 3} == Shape{3, 2});
  CHECK_FALSE(Shape{2, 3} == Shape{2, 3, 1});
  CHECK_FALSE(Shape{2} == Shape{});
  CHECK(Shape{} == Shape{});
}

TEST_CASE("shape: with_last and with_prepended") {
  CHECK(Shape{2, 3}.with_last(7) == Shape{2, 7});
  CHECK(Shape{2, 3}.with_prepended(7) == Shape{7, 2, 3});
  CHECK(Shape{}.with_prepended(7) == Shape{7});
}

TEST_CASE("shape: text") {
  CHECK(to_string(Shape{}) == "()");
  CHECK(to_string(Shape{3}) == "(3)");
  CHECK(to_string(Shape{3, 0, 12}) == "(3,0,12)");
  std::ostringstream os;
  os << Shape{1, 2} << Dtype::kBF16;
  CHECK(os.str() == "(1,2)bf16");
}

TEST_CASE("shape: rejects what it cannot be") {
  CHECK(caught([] { Shape{1, 1, 1, 1, 1, 1, 1}; }).is(ErrorKind::kShape, {"6", "7"}));
  CHECK(caught([] { Shape{2, -1}; }).is(ErrorKind::kShape, {"-1"}));
  CHECK(caught([] { return Shape{2, 3}[2]; }).is(ErrorKind::kShape, {"axis 2", "rank 2"}));
  CHECK(caught([] { return Shape{2, 3}[-3]; }).is(ErrorKind::kShape, {"axis -3"}));
  CHECK(caught([] { return Shape{}[-1]; }).is(ErrorKind::kShape));
  CHECK(caught([] { return Shape{}.with_last(2); }).is(ErrorKind::kShape));
  CHECK(caught([] {
          return Shape{1, 2, 3, 4, 5, 6}.with_prepended(1);
        }).is(ErrorKind::kShape, {"6"}));
}

TEST_CASE("shape: fold_rows") {
  const RowsCols size = fold_rows(Shape{2, 3, 5});
  CHECK(size.rows == 6);
  CHECK(size.cols == 5);
  CHECK(size.numel() == 30);
  CHECK(fold_rows(Shape{4}).rows == 1);
  CHECK(fold_rows(Shape{4}).cols == 4);
  CHECK(fold_rows(Shape{3, 0}).rows == 3);
  CHECK(caught([] { fold_rows(Shape{}); }).is(ErrorKind::kShape));
}

TEST_CASE("dtype: size and name of each") {
  const struct {
    Dtype dtype;
    int64_t size;
    const char* name;
  } all[] = {{Dtype::kF32, 4, "f32"},
             {Dtype::kF64, 8, "f64"},
             {Dtype::kBF16, 2, "bf16"},
             {Dtype::kI32, 4, "i32"},
             {Dtype::kU8, 1, "u8"}};
  for (const auto& one : all) {
    CHECK(size_of(one.dtype) == one.size);
    CHECK(std::string(name_of(one.dtype)) == one.name);
  }
  static_assert(dtype_of<const float>() == Dtype::kF32 && dtype_of<double>() == Dtype::kF64);
  static_assert(dtype_of<bf16>() == Dtype::kBF16 && dtype_of<int32_t>() == Dtype::kI32);
  static_assert(dtype_of<uint8_t>() == Dtype::kU8);
  CHECK(std::string(name_of(Device::kCpu)) == "cpu");
  CHECK(std::string(name_of(Device::kCuda)) == "cuda");
  CHECK(caught([] { size_of(static_cast<Dtype>(99)); }).is(ErrorKind::kInternal, {"99"}));
}

TEST_CASE("tensor: is a view") {
  CHECK_FALSE(Tensor{}.defined());
  std::vector<float> v = {1, 2, 3, 4, 5, 6};
  const Tensor x = view(v, {2, 3});
  CHECK(x.defined());
  CHECK(x.numel() == 6);
  CHECK(x.bytes() == 24);
  CHECK(x.dtype() == Dtype::kF32);
  CHECK(x.device() == Device::kCpu);
  CHECK(x.tape() == nullptr);
  CHECK(x.slot() == -1);
  CHECK(x.data<const float>() == v.data());
  x.data<float>()[5] = 60;
  CHECK(v[5] == 60);
}

TEST_CASE("tensor: reading another type fails and names both") {
  std::vector<float> v = {1};
  const Tensor x = view(v, {1});
  CHECK(caught([&] { x.data<double>(); }).is(ErrorKind::kDtype, {"f32", "f64"}));
  CHECK(caught([&] { x.data<const int32_t>(); }).is(ErrorKind::kDtype, {"i32"}));
}

TEST_CASE("tensor: viewed keeps the elements") {
  std::vector<int32_t> v = {1, 2, 3, 4, 5, 6};
  const Tensor y = view(v, {2, 3}).viewed({3, 2});
  CHECK(y.shape() == Shape{3, 2});
  CHECK(y.data<int32_t>() == v.data());
  CHECK(caught([&] { view(v, {2, 3}).viewed({4, 2}); }).is(ErrorKind::kShape, {"(2,3)", "(4,2)"}));
}

TEST_CASE("tensor: rows cut the leading axis at every rank") {
  for (const Shape& tail :
       {Shape{}, Shape{3}, Shape{3, 2}, Shape{3, 2, 2}, Shape{3, 2, 2, 1}, Shape{3, 1, 2, 1, 2}}) {
    const Shape whole = tail.with_prepended(4);
    CAPTURE(whole);
    std::vector<double> v(static_cast<size_t>(whole.numel()));
    const Tensor y = view(v, whole).rows(1, 3);
    CHECK(y.shape() == tail.with_prepended(2));
    CHECK(y.data<double>() == v.data() + tail.numel());
    CHECK(view(v, whole).rows(4, 4).numel() == 0);
  }
}

TEST_CASE("tensor: rows outside the tensor fail and name the sizes") {
  std::vector<float> v(6);
  const Tensor x = view(v, {2, 3});
  CHECK(caught([&] { x.rows(0, 3); }).is(ErrorKind::kShape, {"0 to 3", "(2,3)"}));
  CHECK(caught([&] { x.rows(-1, 1); }).is(ErrorKind::kShape));
  CHECK(caught([&] { x.rows(2, 1); }).is(ErrorKind::kShape));
  CHECK(caught([&] { x.viewed({6}).rows(0, 7); }).is(ErrorKind::kShape));
  std::vector<float> one(1);
  CHECK(caught([&] { view(one, {}).rows(0, 1); }).is(ErrorKind::kShape));
}

TEST_CASE("dispatch: picks the element type") {
  std::vector<float> f(1);
  std::vector<double> d(1);
  std::vector<int32_t> i(1);
  size_t size = 0;
  const auto body = [&size]<class T>(auto) { size = sizeof(T); };
  dispatch(view(f, {1}), body);
  CHECK(size == 4);
  dispatch(view(d, {1}), body);
  CHECK(size == 8);
  CHECK(caught([&] { dispatch(view(i, {1}), body); }).is(ErrorKind::kDtype, {"i32"}));
  dispatch_cpu(view(f, {1}), body);
  CHECK(size == 4);
  dispatch_cpu(view(d, {1}), body);
  CHECK(size == 8);
  CHECK(caught([&] { dispatch_cpu(view(i, {1}), body); }).is(ErrorKind::kDtype, {"i32"}));
}

TEST_CASE("dispatch: never runs on another device in silence") {
  float v[1] = {0};
  const Tensor x(v, {1}, Dtype::kF32, Device::kCuda);
  bool ran = false;
  const auto body = [&ran]<class T>(auto) { ran = true; };
  CHECK(caught([&] { dispatch_cpu(x, body); }).is(ErrorKind::kDevice, {"cuda"}));
  if (!kCudaEnabled) CHECK(caught([&] { dispatch(x, body); }).is(ErrorKind::kDevice));
  CHECK_FALSE(ran);
}
