#include "data/check_set.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <sstream>
#include <string_view>
#include <utility>

#include "data/codec/decode_image.h"
#include "data/hash.h"
#include "data/pictures/folders.h"
#include "engine/core/error.h"
#include "engine/core/parallel.h"

namespace data {
namespace {

using engine::check;
using engine::ErrorKind;

constexpr std::string_view kHeading = "robustmoe set 1";

// Fills what is to be known of a picture that is a file of its own.
void read_file_facts(const std::string& path, std::vector<uint8_t>& bytes, ImageU8& image,
                     PictureFacts& facts) {
  read_bytes(path, bytes);
  facts.bytes = static_cast<int64_t>(bytes.size());
  facts.hash = hash_bytes(bytes.data(), bytes.size());
  const ImageU8 header = read_image_header(bytes, path);
  const bool called_png = ending_of(path) == ".png";
  facts.misnamed = called_png != (bytes[0] == 0x89);
  facts.one_channel = header.channels == 1;
  facts.height = header.height;
  facts.width = header.width;
  decode_image(bytes, path, image);
}

void read_one(const Dataset& set, int64_t i, std::vector<uint8_t>& bytes, ImageU8& image,
              PictureFacts& facts) {
  const std::string path = set.path(i);
  if (!path.empty()) return read_file_facts(path, bytes, image, facts);
  set.read(i, image);
  facts.bytes = static_cast<int64_t>(image.pixels.size());
  facts.hash = hash_bytes(image.pixels.data(), image.pixels.size(),
                          static_cast<uint64_t>(image.height << 32 | image.width));
  facts.one_channel = image.channels == 1;
  facts.height = image.height;
  facts.width = image.width;
}

// As it stands in a list: one line, parts without tabs.
std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    out += c == '\\' ? "\\\\" : c == '\n' ? "\\n" : c == '\t' ? "\\t" : std::string(1, c);
  }
  return out;
}

const std::string& class_name(const std::vector<std::string>& names, int32_t label) {
  return names[static_cast<size_t>(label)];
}

// What was known of a picture on an earlier day.
struct Known {
  std::string name_of_class, hash;
  bool seen = false;
};

std::map<std::pair<std::string, std::string>, Known> parse_facts(const std::string& text,
                                                                 const std::string& path) {
  std::map<std::pair<std::string, std::string>, Known> known;
  std::istringstream lines(text);
  std::string line;
  check(std::getline(lines, line) && line == kHeading, ErrorKind::kFormat, path,
        ": does not begin with \"", kHeading, "\": it is no list of a set's pictures");
  for (int64_t number = 2; std::getline(lines, line); ++number) {
    std::array<std::string, 4> part;
    size_t at = 0;
    for (std::string& text_of : part) {
      const size_t tab = line.find('\t', at);
      check(tab != std::string::npos, ErrorKind::kFormat, path, ": line ", number,
            ": expected split, class, bytes, hash and name, parted by tabs");
      text_of = line.substr(at, tab - at);
      at = tab + 1;
    }
    known[{part[0], line.substr(at)}] = {part[1], part[3], false};
  }
  return known;
}

}  // namespace

std::vector<PictureFacts> read_facts(const Dataset& set, const std::string& split) {
  std::vector<PictureFacts> facts(static_cast<size_t>(set.size()));
  engine::parallel_tasks((set.size() + 15) / 16, [&](int64_t task) {
    std::vector<uint8_t> bytes;
    ImageU8 image;
    for (int64_t i = 16 * task; i < std::min(set.size(), 16 * task + 16); ++i) {
      PictureFacts& picture = facts[static_cast<size_t>(i)];
      try {
        picture.split = split;
        picture.name = set.name(i);
        picture.label = static_cast<int32_t>(set.label(i));
        read_one(set, i, bytes, image, picture);
      } catch (const engine::Error& error) {
        picture.problem = error.message();
      } catch (const std::exception& error) {  // must not leave a parallel region
        picture.problem = picture.name + ": " + error.what();
      }
    }
  });
  return facts;
}

std::vector<SameContent> find_same(const std::vector<PictureFacts>& facts) {
  std::vector<size_t> order;
  for (size_t i = 0; i < facts.size(); ++i) {
    if (facts[i].problem.empty()) order.push_back(i);
  }
  const auto content = [&](size_t i) { return std::pair{facts[i].hash, facts[i].bytes}; };
  std::ranges::stable_sort(order, {}, content);
  std::vector<SameContent> found;
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin + 1;
    while (end < order.size() && content(order[end]) == content(order[begin])) ++end;
    if (end - begin > 1) {
      SameContent same{
          {order.begin() + static_cast<int64_t>(begin), order.begin() + static_cast<int64_t>(end)}};
      for (const size_t i : same.pictures) {
        same.classes |= facts[i].label != facts[same.pictures[0]].label;
        same.splits |= facts[i].split != facts[same.pictures[0]].split;
      }
      found.push_back(std::move(same));
    }
    begin = end;
  }
  std::ranges::sort(found, {}, [](const SameContent& same) { return same.pictures[0]; });
  return found;
}

uint64_t set_hash(const std::vector<PictureFacts>& facts,
                  const std::vector<std::string>& class_names) {
  uint64_t sum = 0;  // does not depend on the order
  for (const PictureFacts& picture : facts) {
    if (!picture.problem.empty()) continue;
    sum += hash_text(
        picture.split + '\n' + class_name(class_names, picture.label) + '\n' + picture.name,
        picture.hash);
  }
  return engine::mix64(sum ^ facts.size());
}

std::string facts_text(const std::vector<PictureFacts>& facts,
                       const std::vector<std::string>& class_names) {
  std::string text(kHeading);
  text += '\n';
  for (const PictureFacts& picture : facts) {
    text += picture.split + '\t' + escaped(class_name(class_names, picture.label)) + '\t' +
            std::to_string(picture.bytes) + '\t' + hex(picture.hash) + '\t' +
            escaped(picture.name) + '\n';
  }
  return text;
}

std::vector<std::string> compare_facts(const std::vector<PictureFacts>& facts,
                                       const std::vector<std::string>& class_names,
                                       const std::string& text, const std::string& path) {
  auto known = parse_facts(text, path);
  std::vector<std::string> lines;
  for (const PictureFacts& picture : facts) {
    const std::string name = picture.split + " " + picture.name;
    const auto at = known.find({picture.split, escaped(picture.name)});
    if (at == known.end()) {
      lines.push_back(name + ": new");
      continue;
    }
    at->second.seen = true;
    const std::string is = escaped(class_name(class_names, picture.label));
    if (at->second.name_of_class != is) {
      lines.push_back(name + ": class " + at->second.name_of_class + " is now " + is);
    }
    if (at->second.hash != hex(picture.hash)) lines.push_back(name + ": other content than before");
  }
  for (const auto& [key, was] : known) {
    if (!was.seen) lines.push_back(key.first + " " + key.second + ": missing");
  }
  return lines;
}

}  // namespace data
