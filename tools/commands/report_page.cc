#include "tools/commands/report_page.h"

#include "engine/core/error.h"

namespace tools {

std::string report_page(const std::string& json) {
  std::string page;
  for (const char* piece : inspector_pieces()) page += piece;
  constexpr std::string_view kPlace = "@DATA@";
  const size_t at = page.find(kPlace);
  engine::check(at != std::string::npos, engine::ErrorKind::kInternal,
                "report: the page has no place for its data");
  std::string data;
  data.reserve(json.size());
  for (const char c : json) {
    if (c == '<') {
      data += "\\u003c";
    } else {
      data += c;
    }
  }
  return page.replace(at, kPlace.size(), data);
}

}  // namespace tools
