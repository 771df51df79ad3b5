#include <doctest/doctest.h>

#include <string>

#include "data/transform/augment/color_jitter.h"
#include "data/transform/augment/pixel_ops.h"
#include "tests/train/golden_file.h"
#include "train/safetensors.h"

// Colour jitter as torchvision does it to pictures of Pillow (tests/reference/golden_jitter.py).
using data::ImageU8;
using train::SafetensorsFile;

TEST_CASE("golden jitter: brightness, contrast, saturation and hue, to the last bit") {
  const SafetensorsFile file(ROBUSTMOE_SOURCE_DIR "/tests/golden/jitter.safetensors");
  int compared = 0;
  for (const std::string op : {"brightness", "contrast", "saturation", "hue"}) {
    const auto factors = train::test::numbers(file, "factors." + op);
    for (int k = 0; k < 5; ++k) {
      for (size_t i = 0; i < factors.size(); ++i) {
        CAPTURE(op);
        CAPTURE(k);
        CAPTURE(factors[i]);
        ImageU8 image = train::test::picture(file, "input." + std::to_string(k));
        const auto factor = static_cast<float>(factors[i]);
        if (op == "brightness") data::brightness(image, factor);
        if (op == "contrast") data::adjust_contrast(image, factor);
        if (op == "saturation") data::adjust_saturation(image, factor);
        if (op == "hue") data::adjust_hue(image, factors[i]);
        const std::string name = op + "." + std::to_string(k) + "." + std::to_string(i);
        CHECK(image.pixels == train::test::picture(file, name).pixels);
        ++compared;
      }
    }
  }
  CHECK(compared == 5 * (3 * 5 + 7));
}
