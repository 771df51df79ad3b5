#include "data/split.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include "engine/core/error.h"

namespace data {
namespace {

using engine::check;
using engine::ErrorKind;

class Part final : public Dataset {
 public:
  Part(std::unique_ptr<Dataset> set, int64_t begin, int64_t end)
      : set_(std::move(set)), begin_(begin), size_(end - begin) {}
  const Info& info() const override { return set_->info(); }
  int64_t size() const override { return size_; }
  int64_t label(int64_t i) const override { return set_->label(at(i)); }
  void read(int64_t i, ImageU8& out) const override { set_->read(at(i), out); }
  std::string name(int64_t i) const override { return set_->name(at(i)); }
  std::string path(int64_t i) const override { return set_->path(at(i)); }
  bool parts(int64_t i, std::vector<uint8_t>& out) const override {
    return set_->parts(at(i), out);
  }

 private:
  int64_t at(int64_t i) const {
    check(i >= 0 && i < size_, ErrorKind::kValue, info().kind, ": image ", i, " of ", size_);
    return begin_ + i;
  }

  std::unique_ptr<Dataset> set_;
  int64_t begin_, size_;
};

std::optional<SplitPart::Bound> read_bound(std::string_view text) {
  SplitPart::Bound bound;
  bound.percent = !text.empty() && text.back() == '%';
  if (bound.percent) text.remove_suffix(1);
  const auto [end, trouble] = std::from_chars(text.data(), text.data() + text.size(), bound.value);
  if (trouble != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (bound.percent && (bound.value > 100 || bound.value < -100)) return std::nullopt;
  return bound;
}

// Reads what stands between the brackets; false where it is no stretch.
bool read_stretch(std::string_view text, SplitPart& part) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) return false;
  for (const auto& [bound, said] : {std::pair{&part.begin, text.substr(0, colon)},
                                    std::pair{&part.end, text.substr(colon + 1)}}) {
    if (said.empty()) continue;
    const auto read = read_bound(said);
    if (!read) return false;
    *bound = *read;
  }
  return true;
}

}  // namespace

std::unique_ptr<Dataset> part_of(std::unique_ptr<Dataset> set, int64_t begin, int64_t end) {
  check(begin >= 0 && begin < end && end <= set->size(), ErrorKind::kValue, set->info().kind,
        ": images ", begin, " to ", end, " of ", set->size(), ": an empty part, or none of it");
  return std::make_unique<Part>(std::move(set), begin, end);
}

int64_t SplitPart::Bound::of(int64_t images) const {
  int64_t at = value;
  if (percent) {
    const int64_t hundredths = std::abs(value) * images, down = hundredths / 100,
                  rest = hundredths % 100;
    const bool up = rest > 50 || (rest == 50 && down % 2 == 1);
    at = down + (up ? 1 : 0);
    if (value < 0) at = -at;
  }
  return std::clamp<int64_t>(at < 0 ? images + at : at, 0, images);
}

SplitPart parse_split(const std::string& text) {
  SplitPart part;
  part.text = text;
  const size_t bracket = std::min(text.find('['), text.size());
  const std::string name = text.substr(0, bracket);
  bool good = name == split_name(Split::kTrain) || name == split_name(Split::kTest);
  part.split = name == split_name(Split::kTest) ? Split::kTest : Split::kTrain;
  if (good && bracket < text.size()) {
    good =
        text.back() == ']' &&
        read_stretch(std::string_view(text).substr(bracket + 1, text.size() - bracket - 2), part);
  }
  check(good, ErrorKind::kValue, "\"", text,
        "\" is no split, expected train, test, or a part such as train[:99%] or train[-500:]");
  return part;
}

std::unique_ptr<Dataset> open_dataset(const std::string& spec, const SplitPart& part,
                                      const OpenOptions& options) {
  auto set = open_dataset(spec, part.split, options);
  if (part.whole()) return set;
  const int64_t images = set->size(), begin = part.begin.of(images), end = part.end.of(images);
  check(begin < end, ErrorKind::kValue, spec, ": ", part.text, " is empty: images ", begin, " to ",
        end, " of ", images);
  return part_of(std::move(set), begin, end);
}

}  // namespace data
