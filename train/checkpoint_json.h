#pragma once

#include <map>
#include <string>

#include "train/checkpoint.h"

// The two JSON files of a checkpoint as text.
namespace train {

using Manifest = std::map<std::string, FileSum>;  // by file name

std::string manifest_text(const Manifest& manifest);
// Error(kFormat) naming `path` and the key where the text is not a manifest.
Manifest parse_manifest(const std::string& text, const std::string& path);

// Error(kValue) if state.extra is no JSON object.
std::string state_text(const CheckpointState& state);
CheckpointState parse_state(const std::string& text, const std::string& path);

}  // namespace train
