# Writes OUT, a C++ source that holds the page of the router report: page.html with every style and
# script of FILES in its place, in order of their names:
#   cmake -DOUT=inspector.cc "-DFILES=page.html;a.js;a.css" -P embed.cmake
# A string literal of a compiler may be short (C++ asks for 65,536 characters), so it is cut.
list(SORT FILES)
set(styles "")
set(scripts "")
foreach(file IN LISTS FILES)
  file(READ "${file}" text)
  if(file MATCHES "\\.css$")
    string(APPEND styles "${text}")
  elseif(file MATCHES "\\.js$")
    string(APPEND scripts "${text}")
  elseif(file MATCHES "page\\.html$")
    set(page "${text}")
  else()
    message(FATAL_ERROR "${file}: neither a style, nor a script, nor page.html")
  endif()
endforeach()
string(REPLACE "@STYLES@" "${styles}" page "${page}")
string(REPLACE "@SCRIPTS@" "${scripts}" page "${page}")
string(LENGTH "${page}" length)
set(pieces "")
set(at 0)
while(at LESS length)
  string(SUBSTRING "${page}" ${at} 8000 piece)
  string(APPEND pieces "    R\"page(${piece})page\",\n")
  math(EXPR at "${at} + 8000")
endwhile()
file(WRITE "${OUT}" "#include \"tools/commands/report_page.h\"

namespace tools {
namespace {
constexpr const char* kPieces[] = {
${pieces}};
}  // namespace

std::span<const char* const> inspector_pieces() {
  return kPieces;
}
}  // namespace tools
")
