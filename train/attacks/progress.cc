#include "train/attacks/progress.h"

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "engine/core/error.h"

namespace train {
namespace {

using engine::check;
using engine::ErrorKind;
using engine::fail;
using nlohmann::json;

constexpr const char* kFormat = "robustmoe attack progress";
constexpr int64_t kVersion = 1;
constexpr const char* kAdvice = "; delete it to begin anew, or choose another file";

[[noreturn]] void fail_damaged(const std::string& path, const std::string& what) {
  fail(ErrorKind::kFormat, path, ": ", what, kAdvice);
}

FileSum sum_of(const std::string& text) {
  FileSum sum;
  add_to(sum, text.data(), static_cast<int64_t>(text.size()));
  return sum;
}

json sum_json(const FileSum& sum) { return {{"bytes", sum.bytes}, {"crc32", sum.crc32}}; }

// The state's own text, after all that can be wrong with the file around it.
json read_state(const std::string& path) {
  const json file = json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  if (!file.is_object() || file.value("format", json()) != kFormat) {
    fail_damaged(path, "this is no progress of robustmoe attack, or damaged");
  }
  if (file.value("version", json()) != kVersion) {
    fail_damaged(path, "progress of version " + file.value("version", json()).dump() +
                           ", expected " + std::to_string(kVersion));
  }
  // nlohmann sorts keys and writes a double with as many digits as it needs, so that a text that
  // was read is written again as it was.
  const json state = file.value("state", json());
  if (file.value("sum", json()) != sum_json(sum_of(state.dump()))) {
    fail_damaged(path, "this progress is damaged (its checksum is another)");
  }
  return state;
}

// "--eps was 0.03, now 0.06; --steps was 20, now 10".
std::string differences(const json& was, const json& now) {
  std::string text;
  for (const auto& [key, value] : now.items()) {
    const auto before = was.find(key);
    if (before != was.end() && *before == value) continue;
    text += (text.empty() ? "" : "; ") + key + " was " +
            (before == was.end() ? "not there" : before->dump()) + ", now " + value.dump();
  }
  for (const auto& [key, value] : was.items()) {
    if (!now.contains(key)) {
      text += (text.empty() ? "" : "; ") + key + " was " + value.dump() + ", now not there";
    }
  }
  return text;
}

json routing_json(const RoutingChanges& changes) {
  json layers = json::array();
  for (const RoutingChanges::Layer& l : changes.layers) {
    layers.push_back({{"change_sum", l.change}, {"flips", l.flips}, {"tokens", l.tokens}});
  }
  return {{"frozen_right", changes.frozen_right}, {"layers", layers}};
}

// json::exception where a field is missing or of another type.
void read_routing(const json& from, RoutingChanges& changes) {
  from.at("frozen_right").get_to(changes.frozen_right);
  for (const json& l : from.at("layers")) {
    changes.layers.push_back({l.at("change_sum").get<double>(), l.at("flips").get<int64_t>(),
                              l.at("tokens").get<int64_t>()});
  }
}

json attacks_json(const AttackResult& sums) {
  json attacks = json::array();
  for (const AttackFigures& f : sums.attacks) {
    attacks.push_back({{"robust", f.robust},
                       {"linf_sum", f.linf_mean},
                       {"linf_largest", f.linf_largest},
                       {"l2_sum", f.l2_mean},
                       {"l2_largest", f.l2_largest},
                       {"zero_gradients", f.zero_gradients},
                       {"missed", f.missed},
                       {"missed_by_weaker", f.missed_by_weaker},
                       {"routing", routing_json(f.routing)}});
  }
  return attacks;
}

// json::exception where a field is missing or of another type.
void read_attack(const json& from, AttackFigures& f) {
  from.at("robust").get_to(f.robust);
  from.at("linf_sum").get_to(f.linf_mean);
  from.at("linf_largest").get_to(f.linf_largest);
  from.at("l2_sum").get_to(f.l2_mean);
  from.at("l2_largest").get_to(f.l2_largest);
  from.at("zero_gradients").get_to(f.zero_gradients);
  from.at("missed").get_to(f.missed);
  from.at("missed_by_weaker").get_to(f.missed_by_weaker);
  read_routing(from.at("routing"), f.routing);
}

// Calls f(list, its elements of one image) for each list of AttackImages, in the order in which an
// image has them in the file.
template <class Images, class F>
void each_list(Images& images, size_t pixels, F&& f) {
  f(images.clean, pixels);
  f(images.labels, size_t{1});
  f(images.right, size_t{1});
  for (auto& attacked : images.attacks) {
    f(attacked.adversarial, pixels);
    f(attacked.broken, size_t{1});
  }
}

template <class T>
size_t bytes_of(const std::vector<T>& /*list*/, size_t elements) {
  return elements * sizeof(T);
}

int64_t record_bytes(const AttackImages& images, size_t pixels) {
  size_t bytes = 0;
  each_list(images, pixels,
            [&](const auto& list, size_t elements) { bytes += bytes_of(list, elements); });
  return static_cast<int64_t>(bytes);
}

}  // namespace

AttackProgress::AttackProgress(const std::string& path, const Fields& settings)
    : path_(path), settings_(json_line(settings)) {
  std::error_code ignored;  // where nobody may look, nobody may write: save() says so
  if (!std::filesystem::exists(path, ignored)) return;
  const json state = read_state(path);
  const std::string changed =
      differences(state.value("settings", json::object()), json::parse(settings_));
  check(changed.empty(), ErrorKind::kValue, path, ": this is the progress of another attack (",
        changed, "): attack as then, or choose another file");
  state_ = state.dump();
  done_ = state.value("n", int64_t{0});
}

void AttackProgress::restore(AttackResult& sums, AttackImages* images) {
  if (state_.empty()) return;
  try {
    const json state = json::parse(state_);
    state.at("n").get_to(sums.n);
    state.at("right").get_to(sums.right);
    state.at("worst_case").get_to(sums.worst_case);
    state.at("logits_changed").get_to(sums.logits_changed);
    state.at("router_gradient_sum").get_to(sums.router_gradient_share);
    for (size_t a = 0; a < sums.attacks.size(); ++a) {
      read_attack(state.at("attacks").at(a), sums.attacks[a]);
    }
    if (images == nullptr) return;
    state.at("pixels").get_to(pixels_);
    images_sum_ = {state.at("images").at("bytes").get<int64_t>(),
                   state.at("images").at("crc32").get<uint32_t>()};
  } catch (const json::exception& error) {
    fail_damaged(path_, std::string("this progress is damaged (") + error.what() + ")");
  }
  read_images(*images);
}

void AttackProgress::read_images(AttackImages& images) const {
  const std::string path = images_path(path_);
  check(record_bytes(images, pixels_) * done_ == images_sum_.bytes, ErrorKind::kFormat, path_, ": ",
        images_sum_.bytes, " bytes are not of ", done_, " images", kAdvice);
  std::vector<char> record(static_cast<size_t>(record_bytes(images, pixels_)));
  FileSum sum;
  try {
    const ReadFile file(path);
    for (int64_t i = 0; i < done_; ++i) {
      file.read(sum.bytes, record.data(), static_cast<int64_t>(record.size()));
      add_to(sum, record.data(), static_cast<int64_t>(record.size()));
      const char* from = record.data();
      each_list(images, pixels_, [&](auto& list, size_t elements) {
        list.resize(list.size() + elements);
        const size_t bytes = bytes_of(list, elements);
        std::memcpy(list.data() + list.size() - elements, from, bytes);
        from += bytes;
      });
    }
  } catch (const engine::Error& error) {
    fail(error.kind(), error.message(), "; delete ", path_, " to begin anew");
  }
  check(sum == images_sum_, ErrorKind::kFormat, path, ": these images are damaged (", sum_text(sum),
        ", expected ", sum_text(images_sum_), "); delete ", path_, " to begin anew");
}

void AttackProgress::append_images(int64_t n, const AttackImages& images) {
  if (!images_file_) images_file_ = std::make_unique<GrowingFile>(images_path(path_), images_sum_);
  pixels_ = images.clean.size() / static_cast<size_t>(n);
  std::vector<char> record(static_cast<size_t>(record_bytes(images, pixels_)));
  for (int64_t i = done_; i < n; ++i) {
    char* to = record.data();
    each_list(images, pixels_, [&](const auto& list, size_t elements) {
      const size_t bytes = bytes_of(list, elements);
      std::memcpy(to, list.data() + static_cast<size_t>(i) * elements, bytes);
      to += bytes;
    });
    images_file_->write(record.data(), static_cast<int64_t>(record.size()));
  }
  images_sum_ = images_file_->flush();
}

void AttackProgress::save(const AttackResult& sums, const AttackImages* images) {
  json state = {{"settings", json::parse(settings_)},
                {"n", sums.n},
                {"right", sums.right},
                {"worst_case", sums.worst_case},
                {"logits_changed", sums.logits_changed},
                {"router_gradient_sum", sums.router_gradient_share},
                {"attacks", attacks_json(sums)}};
  if (images != nullptr) {
    // Images first: those that the progress does not know yet are cut off when it goes on.
    append_images(sums.n, *images);
    state["pixels"] = pixels_;
    state["images"] = sum_json(images_sum_);
  }
  state_ = state.dump();
  write_file(path_, json{{"format", kFormat},
                         {"version", kVersion},
                         {"sum", sum_json(sum_of(state_))},
                         {"state", state}}
                            .dump() +
                        "\n");
  done_ = sums.n;
}

}  // namespace train
