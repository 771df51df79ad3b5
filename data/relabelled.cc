#include "data/relabelled.h"

#include <algorithm>
#include <utility>

#include "data/names.h"
#include "engine/core/error.h"

namespace data {
namespace {

class Relabelled final : public Dataset {
 public:
  Relabelled(std::unique_ptr<Dataset> set, Info info, std::vector<int64_t> labels)
      : set_(std::move(set)), info_(std::move(info)), labels_(std::move(labels)) {}
  const Info& info() const override { return info_; }
  int64_t size() const override { return set_->size(); }
  int64_t label(int64_t i) const override { return labels_[static_cast<size_t>(set_->label(i))]; }
  void read(int64_t i, ImageU8& out) const override { set_->read(i, out); }
  std::string name(int64_t i) const override { return set_->name(i); }
  std::string path(int64_t i) const override { return set_->path(i); }
  bool parts(int64_t i, std::vector<uint8_t>& out) const override { return set_->parts(i, out); }

 private:
  std::unique_ptr<Dataset> set_;
  Info info_;
  std::vector<int64_t> labels_;  // by the set's own
};

bool only_numbered(const std::vector<std::string>& names) {
  return names == number_names(static_cast<int64_t>(names.size()));
}

}  // namespace

std::unique_ptr<Dataset> with_classes(std::unique_ptr<Dataset> set,
                                      const std::vector<std::string>& classes) {
  const std::vector<std::string>& own = set->info().class_names;
  if (classes.empty()) return set;
  const bool same =
      own.size() <= classes.size() && std::equal(own.begin(), own.end(), classes.begin());
  if (same || only_numbered(own) || only_numbered(classes)) return set;
  std::vector<int64_t> labels;
  for (const std::string& name : own) {
    const auto at = std::ranges::find(classes, name);
    engine::check(at != classes.end(), engine::ErrorKind::kFormat, set->info().kind, ": has class ",
                  name, ", which the model does not know; the nearest is ",
                  nearest_name(name, classes));
    labels.push_back(at - classes.begin());
  }
  Info info = set->info();
  info.classes = static_cast<int64_t>(classes.size());
  info.class_names = classes;
  return std::make_unique<Relabelled>(std::move(set), std::move(info), std::move(labels));
}

}  // namespace data
