#include "engine/core/param_store.h"

#include <doctest/doctest.h>

#include <vector>

#include "tests/support/tensors.h"

using namespace engine;
using engine::test::caught;

namespace {

// 15 + 1 + 32 trainable parameters and a running statistic of 3.
ParamStore small_store(Dtype dtype) {
  ParamStore store;
  store.declare("head/weight", {3, 5}, true, true);
  store.declare("head/bias", {1}, false, true);
  store.declare("norm/mean", {3}, false, false);
  store.declare("body/weight", {2, 16}, true, true);
  store.allocate(dtype);
  return store;
}

}  // namespace

TEST_CASE("param_store: each entry starts on 64 bytes and padding is zero") {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    const ParamStore store = small_store(dtype);
    const int64_t align = 64 / size_of(dtype);
    int64_t end = 0;
    for (const ParamStore::Entry& entry : store.entries()) {
      CHECK(entry.offset % align == 0);
      CHECK(entry.offset >= end);
      CHECK(entry.offset < end + align);
      end = entry.offset + entry.shape.numel();
      const Tensor x = store.view(entry, Slab::kValue);
      CHECK(reinterpret_cast<uintptr_t>(x.raw()) % 64 == 0);
      CHECK(x.shape() == entry.shape);
      std::memset(x.raw(), 0xff, static_cast<size_t>(x.bytes()));
    }
    CHECK(store.padded_count() >= end);
    CHECK(store.padded_count() % align == 0);
    const Tensor all = store.slab(Slab::kValue);
    CHECK(all.shape() == Shape{store.padded_count()});
    int64_t untouched = 0;
    for (int64_t i = 0; i < all.bytes(); ++i) {
      untouched += static_cast<const unsigned char*>(all.raw())[i] == 0 ? 1 : 0;
    }
    CHECK(untouched == (store.padded_count() - 51) * size_of(dtype));
  }
}

TEST_CASE("param_store: entries keep their order and flags") {
  const ParamStore store = small_store(Dtype::kF32);
  REQUIRE(store.entries().size() == 4);
  CHECK(store.entries()[0].path == "head/weight");
  CHECK(store.entries()[3].path == "body/weight");
  CHECK(store.entries()[0].decay);
  CHECK_FALSE(store.entries()[1].decay);
  CHECK(store.entries()[1].trainable);
  CHECK_FALSE(store.entries()[2].trainable);
  CHECK(store.dtype() == Dtype::kF32);
  CHECK(store.device() == Device::kCpu);
}

TEST_CASE("param_store: counts trainable parameters without padding") {
  CHECK(small_store(Dtype::kF32).count() == 48);
  CHECK(ParamStore().count() == 0);
}

TEST_CASE("param_store: slabs start as zeros in the same layout") {
  ParamStore store = small_store(Dtype::kF32);
  CHECK(store.has(Slab::kValue));
  for (const Slab slab : {Slab::kGrad, Slab::kMoment1, Slab::kMoment2, Slab::kEma}) {
    CHECK_FALSE(store.has(slab));
    CHECK(caught([&] { store.slab(slab); }).is(ErrorKind::kInternal));
    store.allocate(slab);
    CHECK(store.has(slab));
    const auto all = test::copy_of<float>(store.slab(slab));
    CHECK(all == std::vector<float>(static_cast<size_t>(store.padded_count()), 0.0f));
    const ParamStore::Entry& entry = store.find("body/weight");
    CHECK(store.view(entry, slab).data<float>() ==
          store.slab(slab).data<float>() + store.find("body/weight").offset);
  }
}

TEST_CASE("param_store: allocating a slab again keeps it") {
  ParamStore store = small_store(Dtype::kF64);
  store.allocate(Slab::kGrad);
  store.slab(Slab::kGrad).data<double>()[0] = 3;
  store.allocate(Slab::kGrad);
  CHECK(store.slab(Slab::kGrad).data<double>()[0] == 3);
}

TEST_CASE("param_store: zero clears one slab") {
  ParamStore store = small_store(Dtype::kF32);
  store.allocate(Slab::kGrad);
  store.slab(Slab::kGrad).data<float>()[7] = 3;
  store.slab(Slab::kValue).data<float>()[7] = 4;
  store.zero(Slab::kGrad);
  CHECK(store.slab(Slab::kGrad).data<float>()[7] == 0);
  CHECK(store.slab(Slab::kValue).data<float>()[7] == 4);
  CHECK(caught([&] { store.zero(Slab::kEma); }).is(ErrorKind::kInternal));
}

TEST_CASE("param_store: find names a path it does not know") {
  const ParamStore store = small_store(Dtype::kF32);
  CHECK(store.find("norm/mean").shape == Shape{3});
  CHECK(caught([&] { store.find("norm/var"); }).is(ErrorKind::kValue, {"norm/var"}));
}

TEST_CASE("param_store: a path is declared once and before allocation") {
  ParamStore store;
  store.declare("a", {2}, true, true);
  CHECK(caught([&] { store.declare("a", {3}, true, true); }).is(ErrorKind::kValue, {"a", "twice"}));
  CHECK(store.entries().size() == 1);
  CHECK(caught([&] { store.allocate(Slab::kGrad); }).is(ErrorKind::kValue));
  store.allocate(Dtype::kF32);
  CHECK(caught([&] { store.declare("b", {3}, true, true); }).is(ErrorKind::kValue, {"b"}));
  CHECK(caught([&] { store.allocate(Dtype::kF32); }).is(ErrorKind::kValue));
}

TEST_CASE("param_store: a store without parameters is a store") {
  ParamStore store;
  store.allocate(Dtype::kF32);
  CHECK(store.padded_count() == 0);
  CHECK(store.slab(Slab::kValue).numel() == 0);
  store.zero(Slab::kValue);
}
