#pragma once

#include <cstdint>

namespace data {

// The outlines of the ten classes of shapes.h, x to the right, y down. kShapeUnit is the length
// of one radius; no shape reaches further than kShapeReach from the origin.
inline constexpr int64_t kShapeUnit = 1024;
inline constexpr int64_t kShapeReach = kShapeUnit * 9 / 8;
inline constexpr int64_t kShapeClasses = 10;

// The name of class c, 0 <= c < kShapeClasses.
const char* shape_name(int64_t c);

// Whether the point (x, y) is inside the shape of class c.
bool inside_shape(int64_t c, int64_t x, int64_t y);

}  // namespace data
