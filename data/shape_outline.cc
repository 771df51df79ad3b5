#include "data/shape_outline.h"

#include <cstdlib>

namespace data {
namespace {

bool within(int64_t x, int64_t y, int64_t radius) { return x * x + y * y <= radius * radius; }

bool disc(int64_t x, int64_t y) { return within(x, y, 900); }
bool ring(int64_t x, int64_t y) { return within(x, y, 970) && !within(x, y, 540); }
bool half_disc(int64_t x, int64_t y) { return within(x, y + 400, 980) && y >= -400; }
bool crescent(int64_t x, int64_t y) { return within(x, y, 980) && !within(x - 480, y, 760); }
bool square(int64_t x, int64_t y) { return std::abs(x) <= 730 && std::abs(y) <= 730; }
bool bar(int64_t x, int64_t y) { return std::abs(x) <= 970 && std::abs(y) <= 300; }

bool triangle(int64_t x, int64_t y) {
  // Three sides at distance 1/2 from the centre; normals at 90, 210 and 330 degrees.
  return y <= 512 && 887 * x - 512 * y <= 512 * 1024 && -887 * x - 512 * y <= 512 * 1024;
}

bool cross(int64_t x, int64_t y) {
  const int64_t along = std::abs(x), across = std::abs(y);
  return (along <= 280 && across <= 950) || (across <= 280 && along <= 950);
}

bool star(int64_t x, int64_t y) {
  // A point is in a pentagram where it is on the inner side of at least four of the five
  // lines, which have distance cos 72° from the centre and normals 72° apart.
  constexpr int64_t kNormals[5][2] = {
      {0, 1024}, {-974, 316}, {-602, -828}, {602, -828}, {974, 316}};
  int sides = 0;
  for (const auto& normal : kNormals) sides += normal[0] * x + normal[1] * y <= 316 * 1024;
  return sides >= 4;
}

bool ell(int64_t x, int64_t y) {
  const bool upright = x >= -700 && x <= -150 && std::abs(y) <= 850;
  const bool foot = std::abs(x) <= 700 && y >= 330 && y <= 850;
  return upright || foot;
}

struct Outline {
  const char* name;
  bool (*inside)(int64_t x, int64_t y);
};

constexpr Outline kOutlines[kShapeClasses] = {
    {"disc", &disc},         {"ring", &ring},         {"half disc", &half_disc},
    {"crescent", &crescent}, {"triangle", &triangle}, {"square", &square},
    {"bar", &bar},           {"cross", &cross},       {"star", &star},
    {"ell", &ell},
};

}  // namespace

const char* shape_name(int64_t c) { return kOutlines[c].name; }

bool inside_shape(int64_t c, int64_t x, int64_t y) { return kOutlines[c].inside(x, y); }

}  // namespace data
