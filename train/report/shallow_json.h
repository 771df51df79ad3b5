#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace train {

// JSON of files that somebody may have changed: what lies deeper than any of ours is left out,
// since copying a value goes as deep as the value does. Discarded, as nlohmann calls it, where
// `text` is no JSON.
inline nlohmann::json parse_shallow(std::string_view text) {
  constexpr int kDepth = 32;
  const auto shallow = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    return depth < kDepth;
  };
  return nlohmann::json::parse(text.begin(), text.end(), shallow, /*allow_exceptions=*/false);
}

}  // namespace train
