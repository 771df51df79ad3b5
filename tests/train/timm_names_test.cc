#include "train/init/timm_names.h"

#include <doctest/doctest.h>

#include <string>

#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"

using engine::ErrorKind;
using engine::Shape;
using train::SourceTensor;
using train::SourceTensors;
using train::test::contains;
using train::test::error_of;
using train::test::SmallModel;

namespace {

SourceTensor counting(const Shape& shape) {
  SourceTensor t{shape, std::vector<float>(static_cast<size_t>(shape.numel()))};
  for (size_t i = 0; i < t.values.size(); ++i) t.values[i] = static_cast<float>(i);
  return t;
}

SourceTensors weights_of(const SmallModel& small) {
  SourceTensors out;
  for (const auto& entry : small.model.params.entries()) {
    const auto* begin = small.model.params.view(entry, engine::Slab::kValue).data<const float>();
    out[entry.path] = {entry.shape, {begin, begin + entry.shape.numel()}};
  }
  return out;
}

bool same(const SourceTensors& a, const SourceTensors& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, t] : a) {
    const auto other = b.find(name);
    if (other == b.end() || other->second.shape != t.shape || other->second.values != t.values) {
      return false;
    }
  }
  return true;
}

}  // namespace

TEST_CASE("timm names: layouts by hand") {
  const SourceTensors ours = train::from_timm({{"patch_embed.proj.weight", counting({2, 3, 2, 2})},
                                               {"blocks.7.attn.qkv.weight", counting({6, 2})},
                                               {"blocks.7.norm2.weight", counting({2})},
                                               {"pos_embed", counting({1, 5, 2})},
                                               {"cls_token", counting({1, 1, 2})},
                                               {"norm.bias", counting({2})},
                                               {"fc_norm.bias", counting({2})},
                                               {"head.bias", counting({4})},
                                               {"something.else", counting({1})}});
  CHECK(ours.size() == 9);
  const SourceTensor& kernel = ours.at("stem.patch.weight");
  CHECK(kernel.shape == Shape{12, 2});
  // Output 1, channel 2, row 1, column 0 is number 1*12 + 2*4 + 2; here row (1*2 + 0)*3 + 2.
  CHECK(kernel.values[8 * 2 + 1] == 22);
  const SourceTensor& qkv = ours.at("blocks.7.attention.qkv.weight");
  CHECK(qkv.shape == Shape{2, 6});
  CHECK(qkv.values == std::vector<float>{0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11});
  CHECK(ours.at("blocks.7.norm2.scale").shape == Shape{2});
  CHECK(ours.at("stem.position").shape == Shape{5, 2});
  CHECK(ours.at("stem.class_token").shape == Shape{2});
  CHECK(ours.count("head.norm.bias") == 1);
  CHECK(ours.count("fc_norm.bias") == 1);  // another place: a norm after the average
  CHECK(ours.count("head.output.bias") == 1);
  CHECK(ours.count("something.else") == 1);
}

TEST_CASE("timm names: there and back, with packed and split attention") {
  for (const char* pool : {"model.pool=token", "model.pool=mean"}) {
    const SmallModel small("shapes:size=16,train=4,test=4", {"moe.layers=none", pool});
    const SourceTensors ours = weights_of(small);
    const SourceTensors timm = train::to_timm(ours, small.config);
    CHECK(train::has_timm_names(timm));
    CHECK_FALSE(train::has_timm_names(ours));
    CHECK(timm.count("norm.weight") == 1);
    CHECK(same(train::from_timm(timm), ours));
    for (const std::string proj : {"", "_proj"}) {
      SourceTensors split = timm;
      for (const char* block : {"blocks.0.attn.", "blocks.1.attn."}) {
        for (const char* kind : {".weight", ".bias"}) {
          const SourceTensor whole = split.at(std::string(block) + "qkv" + kind);
          split.erase(std::string(block) + "qkv" + kind);
          for (size_t part = 0; part < 3; ++part) {
            const size_t n = whole.values.size() / 3;
            SourceTensor one{whole.shape.rank() == 2 ? Shape{16, 16} : Shape{16},
                             {whole.values.begin() + static_cast<int64_t>(part * n),
                              whole.values.begin() + static_cast<int64_t>((part + 1) * n)}};
            split[std::string(block) + "qkv"[part] + proj + kind] = one;
          }
        }
      }
      CHECK(same(train::from_timm(split), ours));
      split.erase("blocks.1.attn.k" + proj + ".bias");
      CHECK(contains(error_of(ErrorKind::kFormat, [&] { train::from_timm(split); }),
                     "blocks.1.attn.q" + proj + ".bias: needs blocks.1.attn.k" + proj + ".bias"));
    }
  }
}

TEST_CASE("timm names: what does not fit") {
  CHECK(contains(error_of(ErrorKind::kFormat,
                          [] {
                            train::from_timm({{"patch_embed.proj.weight", counting({2, 3})}});
                          }),
                 "patch_embed.proj.weight: expected 4 axes"));
  CHECK(contains(error_of(ErrorKind::kFormat,
                          [] {
                            train::from_timm({{"pos_embed", counting({2, 3, 4})}});
                          }),
                 "pos_embed: unexpected shape"));
  CHECK(contains(
      error_of(
          ErrorKind::kFormat,
          [] {
            train::from_timm({{"head.bias", counting({2})}, {"head.output.bias", counting({2})}});
          }),
      "a second time"));
  CHECK(contains(error_of(ErrorKind::kFormat,
                          [] {
                            train::from_timm({{"blocks.0.attn.qkv.bias", counting({6})},
                                              {"blocks.0.attn.q.bias", counting({2})},
                                              {"blocks.0.attn.k.bias", counting({2})},
                                              {"blocks.0.attn.v.bias", counting({2})}});
                          }),
                 "the same weights packed"));
  const SmallModel experts("shapes:size=16,train=4,test=4", {});
  CHECK(contains(
      error_of(ErrorKind::kValue, [&] { train::to_timm(weights_of(experts), experts.config); }),
      "this model has experts"));
}
