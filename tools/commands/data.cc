#include <algorithm>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "data/check_set.h"
#include "data/dataset.h"
#include "data/packed/packed.h"
#include "tools/commands/checkpoint_input.h"
#include "tools/commands/command.h"
#include "tools/commands/data_get.h"
#include "tools/commands/options.h"
#include "tools/commands/session.h"
#include "train/file_io.h"

namespace tools {
namespace {

using nlohmann::json;

constexpr int64_t kLargestList = int64_t{1} << 30;

struct OpenSet {
  std::string split;
  std::unique_ptr<data::Dataset> set;
};

// Both splits; files are not looked at.
std::vector<OpenSet> open_splits(const std::string& spec) {
  std::vector<OpenSet> sets;
  for (const data::Split split : {data::Split::kTrain, data::Split::kTest}) {
    data::OpenOptions options;
    options.inspect = false;
    if (!sets.empty()) options.classes = sets[0].set->info().class_names;
    sets.push_back({data::split_name(split), data::open_dataset(spec, split, options)});
  }
  return sets;
}

struct Range {
  int64_t least = 0, median = 0, most = 0;
};
Range range_of(std::vector<int64_t> values) {
  if (values.empty()) return {};
  std::ranges::sort(values);
  return {values.front(), values[values.size() / 2], values.back()};
}

std::string text_of(const Range& range) {
  if (range.least == range.most) return std::to_string(range.least);
  std::ostringstream text;
  text << range.least << " to " << range.most << ", median " << range.median;
  return text.str();
}

json json_of(const Range& range) {
  return {{"least", range.least}, {"median", range.median}, {"most", range.most}};
}

// Names of files need not be UTF-8.
std::string json_text(const json& all) {
  return all.dump(-1, ' ', false, json::error_handler_t::replace);
}

int data_info(const Options& options) {
  std::ostringstream text;
  json all;
  for (const OpenSet& open : open_splits(options.required("data"))) {
    const data::Info& info = open.set->info();
    std::vector<int64_t> counts(static_cast<size_t>(info.classes));
    for (int64_t i = 0; i < open.set->size(); ++i)
      ++counts[static_cast<size_t>(open.set->label(i))];
    std::erase(counts, 0);
    const Range per_class = range_of(counts);
    if (all.empty()) {
      text << info.kind << ": " << info.classes << " classes, " << info.channels << " channels";
      if (info.height > 0) text << ", " << info.height << "x" << info.width << " pixels";
      text << "\n";
      all = {
          {"kind", info.kind},         {"classes", info.classes}, {"class_names", info.class_names},
          {"channels", info.channels}, {"height", info.height},   {"width", info.width}};
    }
    text << open.split << ": " << open.set->size() << " images of " << counts.size()
         << " classes, of each " << text_of(per_class) << "\n";
    all["splits"][open.split] = {{"images", open.set->size()},
                                 {"classes", counts.size()},
                                 {"per_class", json_of(per_class)}};
  }
  write_result(options, text.str(), json_text(all));
  return 0;
}

// Everything that is wrong, a line each.
struct Findings {
  std::vector<std::string> unreadable, mislabelled, changed;
  size_t problems() const { return unreadable.size() + mislabelled.size() + changed.size(); }
};

void describe_split(const std::vector<data::PictureFacts>& facts, const std::string& split,
                    std::ostream& text, json& all) {
  std::vector<int64_t> heights, widths;
  int64_t images = 0, bytes = 0, one_channel = 0, misnamed = 0;
  for (const data::PictureFacts& picture : facts) {
    if (picture.split != split) continue;
    ++images;
    bytes += picture.bytes;
    one_channel += picture.one_channel;
    misnamed += picture.misnamed;
    if (!picture.problem.empty()) continue;
    heights.push_back(picture.height);
    widths.push_back(picture.width);
  }
  const Range height = range_of(heights), width = range_of(widths);
  text << split << ": " << images << " images, " << bytes / 1024 / 1024 << " MiB, height "
       << text_of(height) << ", width " << text_of(width) << ", " << one_channel
       << " of one channel";
  if (misnamed > 0) text << ", " << misnamed << " PNG files called JPEG or the other way round";
  text << "\n";
  all["splits"][split] = {{"images", images},           {"bytes", bytes},
                          {"height", json_of(height)},  {"width", json_of(width)},
                          {"one_channel", one_channel}, {"misnamed", misnamed}};
}

// Pictures that are there several times; true where they are of different classes.
void describe_same(const std::vector<data::PictureFacts>& facts,
                   const std::vector<std::string>& classes, Findings& found, std::ostream& text,
                   json& all) {
  json groups = json::array();
  int64_t same_class = 0, both_splits = 0;
  for (const data::SameContent& same : data::find_same(facts)) {
    std::string line;
    json group = json::array();
    for (const size_t i : same.pictures) {
      const std::string name = facts[i].split + " " + facts[i].name;
      line += (line.empty() ? "" : " = ") + name + " (" +
              classes[static_cast<size_t>(facts[i].label)] + ")";
      group.push_back(name);
    }
    groups.push_back(group);
    both_splits += same.splits;
    if (same.classes) {
      found.mislabelled.push_back(line + ": one picture under several classes");
    } else {
      ++same_class;
    }
  }
  all["same_content"] = groups;
  text << same_class << " pictures are there more than once under one class, "
       << found.mislabelled.size() << " under several; " << both_splits << " are in both splits\n";
}

int data_check(const Options& options) {
  const std::string save = options.get("save"), against = options.get("against");
  if (!save.empty()) {
    check_writable(save);
    if (options.has("json") && options.get("json") != "-") {
      check_other_file(save, options.get("json"));
    }
  }
  use_threads(options.integer("threads", 0, 4096));
  std::vector<data::PictureFacts> facts;
  std::vector<std::string> classes;
  for (const OpenSet& open : open_splits(options.required("data"))) {
    if (classes.empty()) classes = open.set->info().class_names;
    const std::vector<data::PictureFacts> more = data::read_facts(*open.set, open.split);
    facts.insert(facts.end(), more.begin(), more.end());
  }
  std::ostringstream text;
  json all;
  for (const char* split : {"train", "test"}) describe_split(facts, split, text, all);
  Findings found;
  for (const data::PictureFacts& picture : facts) {
    if (!picture.problem.empty()) {
      found.unreadable.push_back(picture.split + " " + picture.name + ": " + picture.problem);
    }
  }
  describe_same(facts, classes, found, text, all);
  if (!against.empty()) {
    found.changed =
        data::compare_facts(facts, classes, train::read_file(against, kLargestList), against);
  }
  std::ostringstream hash;
  hash << std::hex << data::set_hash(facts, classes);
  text << "hash of the set: " << hash.str() << "\n";
  for (const auto* lines : {&found.unreadable, &found.mislabelled, &found.changed}) {
    for (const std::string& line : *lines) text << "  " << one_line(line) << "\n";
  }
  text << (found.problems() == 0 ? std::string("nothing wrong")
                                 : std::to_string(found.problems()) + " things are wrong")
       << "\n";
  all["hash"] = hash.str();
  all["unreadable"] = found.unreadable;
  all["mislabelled"] = found.mislabelled;
  all["changed"] = found.changed;
  if (!save.empty()) train::write_file(save, data::facts_text(facts, classes));
  write_result(options, text.str(), json_text(all));
  return found.problems() == 0 ? 0 : 1;
}

int data_pack(const Options& options) {
  const std::string out = options.required("out");
  const int64_t shorter = options.integer("size", 0, 65536),
                quality = options.integer("quality", 0, 100);
  use_threads(options.integer("threads", 0, 4096));
  const train::FolderLock lock(out);
  const std::string_view finals[] = {"train.pack", "test.pack"};
  train::remove_unfinished(out, finals);
  std::ostringstream text;
  json all;
  for (const OpenSet& open : open_splits(options.required("data"))) {
    const std::string path = out + "/" + open.split + ".pack";
    check_writable(path);
    data::PackWriter writer(path, open.set->info().kind, open.set->info().class_names);
    data::pack_set(*open.set, {shorter, static_cast<int>(quality)}, writer);
    writer.finish();
    text << path << ": " << open.set->size() << " images, " << writer.bytes() / 1024 / 1024
         << " MiB\n";
    all[open.split] = {{"images", open.set->size()}, {"bytes", writer.bytes()}};
  }
  text << "use it as --data packed:" << out << "\n";
  write_result(options, text.str(), json_text(all));
  return 0;
}

}  // namespace

namespace {

// An option of another verb would do nothing.
void refuse_others(const Options& options, const std::string& what) {
  const std::map<std::string, std::vector<std::string>> known = {
      {"info", {"data", "json"}},
      {"check", {"data", "json", "save", "against", "threads"}},
      {"pack", {"data", "json", "out", "size", "quality", "threads"}},
      {"get", {"out", "from", "sums", "json"}}};
  const auto verb = known.find(what);
  if (verb == known.end()) throw UsageError("data does: info, check, pack, get");
  for (const char* name :
       {"data", "save", "against", "out", "size", "quality", "from", "sums", "threads", "json"}) {
    if (options.has(name) && std::ranges::find(verb->second, name) == verb->second.end()) {
      throw UsageError("data " + what + ": has no --" + name);
    }
  }
}

}  // namespace

int run_data(int argc, char** argv) {
  Options options("data",
                  "what a data set holds (info), whether its files are whole (check); pack it; get "
                  "a published one");
  options.add_positional("info|check|pack|get NAME",
                         "what to do; NAME: cifar10, cifar100, flowers102", 2);
  options.add_value("data", "data set", "", "KIND:PATH");
  options.add_value("save", "check: write a line for each picture, with its hash", "", "FILE");
  options.add_value("against", "check: compare with what --save wrote before", "", "FILE");
  options.add_value("out", "pack, get: folder to write to", "", "DIR");
  options.add_value("size", "pack: shorter side of larger pictures; 0: keep all as they are", "256",
                    "N");
  options.add_value("quality", "pack: their JPEG quality; 0: pixels of all, large and fast", "90",
                    "Q");
  options.add_value("from", "get: another address for the files", "", "URL");
  options.add_value("sums", "get: their MD5 sums there, as md5sum writes them", "", "FILE");
  options.add_value("threads", "threads; 0: all that this process may use", "0", "N");
  options.add_value("json", "write the result as JSON; - for standard output", "", "FILE");
  if (!options.parse(argc, argv)) return 0;
  const std::string what = options.positional().empty() ? "" : options.positional()[0];
  refuse_others(options, what);
  if (!options.get("json").empty() && options.get("json") != "-") {
    check_writable(options.get("json"));
  }
  if (what == "get") {
    if (options.positional().size() < 2)
      throw UsageError("data get: which set? " + gettable_sets());
    return data_get(options.positional()[1], options);
  }
  if (options.positional().size() > 1) {
    throw UsageError("data " + what + ": takes no \"" + options.positional()[1] + "\"");
  }
  if (what == "info") return data_info(options);
  if (what == "check") return data_check(options);
  return data_pack(options);
}

}  // namespace tools
