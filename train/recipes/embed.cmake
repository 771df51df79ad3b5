# Writes OUT, a C++ source that holds the text of RECIPES (a list of .toml files):
#   cmake -DOUT=recipes.cc "-DRECIPES=a.toml;b.toml" -P embed.cmake
list(SORT RECIPES)
set(entries "")
foreach(file IN LISTS RECIPES)
  get_filename_component(name "${file}" NAME_WE)
  file(READ "${file}" text)
  string(APPEND entries "    {\"${name}\", R\"recipe(${text})recipe\"},\n")
endforeach()
file(WRITE "${OUT}" "#include \"train/recipe.h\"

namespace train {
namespace {
constexpr Recipe kRecipes[] = {
${entries}};
}  // namespace

std::span<const Recipe> embedded_recipes() {
  return kRecipes;
}
}  // namespace train
")
