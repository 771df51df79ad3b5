#include "train/checkpoint_json.h"

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace train {
namespace {

using engine::check;
using engine::ErrorKind;
using engine::fail;
using nlohmann::json;

constexpr int64_t kVersion = 1;
constexpr const char* kFormat = "robustmoe checkpoint";

json parse_object(const std::string& text, const std::string& path) {
  try {
    json parsed = json::parse(text);
    check(parsed.is_object(), ErrorKind::kFormat, path, ": expected a JSON object");
    return parsed;
  } catch (const json::parse_error& error) {
    fail(ErrorKind::kFormat, path, ": byte ", error.byte, ": not valid JSON");
  } catch (const json::exception&) {  // a number that no double holds
    fail(ErrorKind::kFormat, path, ": not valid JSON");
  }
}

// object[key] as T; the reason why not names path and key.
template <class T>
T get(const json& object, const char* key, const std::string& path) {
  const auto it = object.find(key);
  check(it != object.end(), ErrorKind::kFormat, path, ": ", key, " is missing");
  bool fits = false;
  if constexpr (std::is_same_v<T, std::string>) fits = it->is_string();
  if constexpr (std::is_same_v<T, int64_t>) {
    fits = it->is_number_integer() && (!it->is_number_unsigned() || it->get<uint64_t>() >> 63 == 0);
  }
  if constexpr (std::is_same_v<T, uint64_t>) fits = it->is_number_unsigned();
  check(fits, ErrorKind::kFormat, path, ": ", key, ": unexpected value ", it->dump());
  return it->get<T>();
}

uint32_t parse_crc(const std::string& text, const std::string& path) {
  size_t used = 0;
  unsigned long value = 0;
  if (text.size() == 8 && text.find_first_not_of("0123456789abcdef") == std::string::npos) {
    value = std::stoul(text, &used, 16);
  }
  check(used == 8, ErrorKind::kFormat, path, ": crc32: expected 8 hexadecimal digits, got \"", text,
        "\"");
  return static_cast<uint32_t>(value);
}

}  // namespace

std::string manifest_text(const Manifest& manifest) {
  json files = json::object();
  for (const auto& [name, sum] : manifest) {
    char crc[9];
    std::snprintf(crc, sizeof crc, "%08x", static_cast<unsigned>(sum.crc32));
    files[name] = {{"bytes", sum.bytes}, {"crc32", crc}};
  }
  return json{{"format", kFormat}, {"version", kVersion}, {"files", files}}.dump(2) + "\n";
}

Manifest parse_manifest(const std::string& text, const std::string& path) {
  const json parsed = parse_object(text, path);
  const auto format = get<std::string>(parsed, "format", path);
  const auto version = get<int64_t>(parsed, "version", path);
  check(format == kFormat && version == kVersion, ErrorKind::kFormat, path, ": ", format,
        " version ", version, ", expected ", kFormat, " version ", kVersion);
  const auto files = parsed.find("files");
  check(files != parsed.end() && files->is_object(), ErrorKind::kFormat, path,
        ": files is no object");
  Manifest manifest;
  for (const auto& [name, entry] : files->items()) {
    check(entry.is_object(), ErrorKind::kFormat, path, ": ", name, " is no object");
    manifest[name] = {get<int64_t>(entry, "bytes", path),
                      parse_crc(get<std::string>(entry, "crc32", path), path)};
  }
  return manifest;
}

std::string state_text(const CheckpointState& state) {
  const json extra = json::parse(state.extra, nullptr, /*allow_exceptions=*/false);
  check(extra.is_object(), ErrorKind::kValue, "checkpoint: extra is no JSON object: ", state.extra);
  const json object = {{"step", state.step},
                       {"epoch", state.epoch},
                       {"position", state.position},
                       {"seed", state.seed},
                       {"config_hash", state.config_hash},
                       {"best_metric", state.best_metric},  // null if it is not finite
                       {"best_step", state.best_step},
                       {"extra", extra}};
  return object.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

CheckpointState parse_state(const std::string& text, const std::string& path) {
  const json parsed = parse_object(text, path);
  const auto from = [&](int64_t least, const char* key) {
    const auto value = get<int64_t>(parsed, key, path);
    check(value >= least, ErrorKind::kFormat, path, ": ", key, " is ", value,
          ", expected at least ", least);
    return value;
  };
  CheckpointState state;
  state.step = from(0, "step");
  state.epoch = from(0, "epoch");
  state.position = from(0, "position");
  state.seed = get<uint64_t>(parsed, "seed", path);
  state.config_hash = get<std::string>(parsed, "config_hash", path);
  state.best_step = from(-1, "best_step");
  const auto best = parsed.find("best_metric");
  check(best != parsed.end() && (best->is_number() || best->is_null()), ErrorKind::kFormat, path,
        ": best_metric is neither a number nor null");
  if (best->is_number()) state.best_metric = best->get<double>();
  const auto extra = parsed.find("extra");
  check(extra != parsed.end() && extra->is_object(), ErrorKind::kFormat, path,
        ": extra is no object");
  state.extra = extra->dump();
  return state;
}

}  // namespace train
