#include "train/init/timm_names.h"

#include <algorithm>
#include <regex>
#include <utility>

namespace train {
namespace {

using engine::check;
using engine::ErrorKind;
using engine::Shape;

// One of our names, its pattern there and here; $1 is the block.
struct Name {
  const char *timm, *ours;           // regular expressions of whole names
  const char *timm_name, *our_name;  // to be filled with $1
};
constexpr Name kNames[] = {
    {"patch_embed\\.proj\\.(weight|bias)", "stem\\.patch\\.(weight|bias)", "patch_embed.proj.$1",
     "stem.patch.$1"},
    {"blocks\\.(\\d+)\\.norm([12])\\.weight", "blocks\\.(\\d+)\\.norm([12])\\.scale",
     "blocks.$1.norm$2.weight", "blocks.$1.norm$2.scale"},
    {"blocks\\.(\\d+)\\.attn\\.qkv\\.(weight|bias)",
     "blocks\\.(\\d+)\\.attention\\.qkv\\.(weight|bias)", "blocks.$1.attn.qkv.$2",
     "blocks.$1.attention.qkv.$2"},
    {"blocks\\.(\\d+)\\.attn\\.proj\\.(weight|bias)",
     "blocks\\.(\\d+)\\.attention\\.out\\.(weight|bias)", "blocks.$1.attn.proj.$2",
     "blocks.$1.attention.out.$2"},
    {"blocks\\.(\\d+)\\.mlp\\.fc1\\.(weight|bias)", "blocks\\.(\\d+)\\.mlp\\.up\\.(weight|bias)",
     "blocks.$1.mlp.fc1.$2", "blocks.$1.mlp.up.$2"},
    {"blocks\\.(\\d+)\\.mlp\\.fc2\\.(weight|bias)", "blocks\\.(\\d+)\\.mlp\\.down\\.(weight|bias)",
     "blocks.$1.mlp.fc2.$2", "blocks.$1.mlp.down.$2"},
    {"head\\.(weight|bias)", "head\\.output\\.(weight|bias)", "head.$1", "head.output.$1"},
    {"norm\\.weight", "head\\.norm\\.scale", "norm.weight", "head.norm.scale"},
    {"norm\\.bias", "head\\.norm\\.bias", "norm.bias", "head.norm.bias"},
    {"cls_token", "stem\\.class_token", "cls_token", "stem.class_token"},
    {"pos_embed", "stem\\.position", "pos_embed", "stem.position"},
};

// The name on the other side, or the name itself.
std::string translated(const std::string& name, bool to_ours) {
  for (const Name& row : kNames) {
    const std::regex pattern(to_ours ? row.timm : row.ours);
    if (std::regex_match(name, pattern)) {
      return std::regex_replace(name, pattern, to_ours ? row.our_name : row.timm_name);
    }
  }
  return name;
}

SourceTensor transposed(const SourceTensor& t) {
  const int64_t rows = t.shape[0], columns = t.shape[1];
  SourceTensor out{{columns, rows}, std::vector<float>(t.values.size())};
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      out.values[static_cast<size_t>(c * rows + r)] =
          t.values[static_cast<size_t>(r * columns + c)];
    }
  }
  return out;
}

// (W, C, P, P) to (P*P*C, W), or back.
SourceTensor patch_kernel(const SourceTensor& t, int64_t width, int64_t channels, int64_t patch,
                          bool to_ours) {
  const Shape ours{patch * patch * channels, width}, theirs{width, channels, patch, patch};
  SourceTensor out{to_ours ? ours : theirs, std::vector<float>(t.values.size())};
  for (int64_t o = 0; o < width; ++o) {
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t p = 0; p < patch * patch; ++p) {
        const auto there = static_cast<size_t>((o * channels + c) * patch * patch + p);
        const auto here = static_cast<size_t>((p * channels + c) * width + o);
        out.values[to_ours ? here : there] = t.values[to_ours ? there : here];
      }
    }
  }
  return out;
}

void check_rank(const std::string& name, const SourceTensor& t, int rank) {
  check(t.shape.rank() == rank, ErrorKind::kFormat, name, ": expected ", rank,
        " axes of a timm vision transformer, got ", t.shape);
}

SourceTensor to_ours(const std::string& timm_name, const std::string& our_name,
                     const SourceTensor& t) {
  if (our_name == "stem.patch.weight") {
    check_rank(timm_name, t, 4);
    check(t.shape[2] == t.shape[3], ErrorKind::kFormat, timm_name, ": patches of ", t.shape,
          " are not square");
    return patch_kernel(t, t.shape[0], t.shape[1], t.shape[2], true);
  }
  if (our_name == "stem.class_token" || our_name == "stem.position") {
    check_rank(timm_name, t, 3);
    const Shape shape =
        our_name == "stem.position" ? Shape{t.shape[1], t.shape[2]} : Shape{t.shape[2]};
    check(shape.numel() == t.shape.numel(), ErrorKind::kFormat, timm_name, ": unexpected shape ",
          t.shape);
    return {shape, t.values};
  }
  if (!our_name.ends_with(".weight")) return t;
  check_rank(timm_name, t, 2);
  return transposed(t);
}

// attn.q, .k, .v (or q_proj, …) of a block become attn.qkv.
void join_split_attention(SourceTensors& tensors) {
  static const std::regex kPart("(blocks\\.\\d+\\.attn\\.)q(_proj)?\\.(weight|bias)");
  std::vector<std::pair<std::string, std::smatch>> found;
  std::vector<std::string> names;
  for (const auto& entry : tensors) names.push_back(entry.first);
  for (const std::string& name : names) {
    std::smatch match;
    if (!std::regex_match(name, match, kPart)) continue;
    const std::string prefix = match[1], suffix = match[2].str() + "." + match[3].str();
    SourceTensor joined = tensors.at(name);
    for (const char* part : {"k", "v"}) {
      const auto other = tensors.find(prefix + part + suffix);
      check(other != tensors.end() && other->second.shape == tensors.at(name).shape,
            ErrorKind::kFormat, name, ": needs ", prefix, part, suffix, " of the same shape");
      joined.values.insert(joined.values.end(), other->second.values.begin(),
                           other->second.values.end());
      tensors.erase(other);
    }
    const std::string whole = prefix + "qkv." + match[3].str();
    check(tensors.count(whole) == 0, ErrorKind::kFormat, name, ": the file also has ", whole,
          ", the same weights packed; remove one of them");
    const Shape one = joined.shape;
    joined.shape = one.rank() == 2 ? Shape{3 * one[0], one[1]} : Shape{3 * one[0]};
    tensors.erase(name);
    tensors[whole] = std::move(joined);
  }
}

}  // namespace

bool has_timm_names(const SourceTensors& tensors) {
  return tensors.count("patch_embed.proj.weight") > 0;
}

SourceTensors from_timm(SourceTensors tensors) {
  join_split_attention(tensors);
  SourceTensors out;
  for (const auto& [name, tensor] : tensors) {
    const std::string ours = translated(name, true);
    check(out.count(ours) == 0 && (ours == name || tensors.count(ours) == 0), ErrorKind::kFormat,
          name, ": the file has this weight a second time, as ", ours, "; remove one of them");
    out[ours] = ours == name ? tensor : to_ours(name, ours, tensor);
  }
  return out;
}

SourceTensors to_timm(const SourceTensors& ours, const Config& config) {
  check(moe_layer_indices(config).empty() && !config.model.pre_logits, ErrorKind::kValue,
        "timm has names for plain vision transformers only: this model has ",
        config.model.pre_logits ? "pre_logits" : "experts");
  SourceTensors out;
  for (const auto& [name, tensor] : ours) {
    SourceTensor& to = out[translated(name, false)];
    if (name == "stem.patch.weight") {
      to = patch_kernel(tensor, config.model.width, config.model.channels, config.model.patch,
                        false);
    } else if (name == "stem.position") {
      to = {{1, tensor.shape[0], tensor.shape[1]}, tensor.values};
    } else if (name == "stem.class_token") {
      to = {{1, 1, tensor.shape[0]}, tensor.values};
    } else {
      to = name.ends_with(".weight") ? transposed(tensor) : tensor;
    }
  }
  return out;
}

}  // namespace train
