#pragma once

#include "train/config.h"
#include "train/init/source_tensors.h"

namespace train {

// Vision transformers as the Python package timm names and lays out their tensors:
//
//   cls_token (1,1,W)                      stem.class_token (W)
//   pos_embed (1,T,W)                      stem.position (T,W)
//   patch_embed.proj.weight (W,C,P,P)      stem.patch.weight (P*P*C,W), rows by (row, column,
//   channel) blocks.I.attn.qkv.weight (3W,W)        blocks.I.attention.qkv.weight (W,3W)
//   blocks.I.attn.proj                     blocks.I.attention.out
//   blocks.I.mlp.fc1, .fc2                 blocks.I.mlp.up, .down
//   blocks.I.norm1, .norm2                 the same, weight being our scale
//   norm                                   head.norm
//   head                                   head.output
//
// with all matrices transposed. Its GELU is the exact one: model.gelu = "erf". Where it averages
// patches, our model is the one with global_pool="avg", class_token=False and fc_norm=False:
// fc_norm is a norm after the average and has no place here.

// Whether these are such names.
bool has_timm_names(const SourceTensors& tensors);

// The same weights under our names and in our layouts. Attention may also be split into attn.q, .k
// and .v, or attn.q_proj, .k_proj and .v_proj. What timm has no such name for stays as it is.
// Error(kFormat) for a tensor of the wrong rank and for a part of a split attention without the
// others.
SourceTensors from_timm(SourceTensors tensors);

// A dense model's weights under timm's names; config says how patches are cut.
// Error(kValue) for a model with experts or pre_logits.
SourceTensors to_timm(const SourceTensors& ours, const Config& config);

}  // namespace train
