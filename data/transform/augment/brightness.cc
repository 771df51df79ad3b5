#include "data/transform/augment/pixel_ops.h"

namespace data {

void brightness(ImageU8& image, float factor) { blend_all(image, 0, factor); }

}  // namespace data
