#pragma once

#include <cstdint>

#include "data/dataset.h"

// RandAugment's operations on pixels that stay where they are, in place, on pictures of 8 bits a
// channel (spec randaugment 3; one file each). Where numbers are not whole, every operation is
// rounded to f32 and the result's fraction is dropped. None allocates once its scratch has the
// picture's size.
namespace data {

// Clipped to [0, 255], its fraction dropped.
inline uint8_t clipped_byte(float value) {
  const float least = value < 0 ? 0.0f : value;
  return static_cast<uint8_t>(static_cast<int32_t>(least > 255 ? 255.0f : least));
}

// a + factor * (b - a), clipped to bytes: 0 is a, 1 is b, more goes beyond b.
inline uint8_t blend(float a, float b, float factor) { return clipped_byte(a + factor * (b - a)); }
// Every byte blended with the same.
void blend_all(ImageU8& image, float with, float factor);

// Error(kShape) that begins with the operation's name, unless the picture has 1 or 3 channels.
void check_one_or_three(const ImageU8& image, const char* operation);

// 255 - v.
void invert(ImageU8& image);
// Keeps the `bits` highest bits, 0 to 8.
void posterize(ImageU8& image, int bits);
// Inverts bytes that are not below `threshold`, 0 to 256.
void solarize(ImageU8& image, int threshold);
// Adds `add` to bytes below 128, clipped.
void solarize_add(ImageU8& image, int add);
// Each channel: its least byte becomes 0, its largest 255, v * scale - least * scale between, with
// scale = 255 / (largest - least). A channel of one value stays.
void autocontrast(ImageU8& image);
// Each channel: bytes spread so that all are about as frequent, after its histogram h. With
// step = (pixels - h[last one not empty]) / 255, v becomes (sum of h below v + step / 2) / step,
// all in whole numbers, clipped; a channel with step 0 stays.
void equalize(ImageU8& image);

// Blends with black, 0.
void brightness(ImageU8& image, float factor);
// Blends with the picture in grey (grey_of); a picture of one channel stays. Error(kShape) for any
// other number of channels than 1 and 3.
void color(ImageU8& image, float factor);
// Which grey `contrast` blends with. kHistogram: the number of pixels / 256, at most 255, as the
// published code computes it by mistake: 196 at 224 x 224, 4 at 32 x 32. kMean: the mean grey, its
// fraction dropped.
enum class ContrastCentre : uint8_t { kHistogram, kMean };
void contrast(ImageU8& image, float factor, ContrastCentre centre);
// Blends with a smoothed picture: 3 x 3 means of weight 5 in the centre and 1 around; pixels at the
// border are their own means. `scratch` is for the smoothed picture.
void sharpness(ImageU8& image, float factor, ImageU8& scratch);

// Fills rows [row - half, row + half) and columns likewise, as far as they are in the picture.
void cutout(ImageU8& image, int64_t row, int64_t column, int64_t half, uint8_t fill);

// 0.2989 R + 0.587 G + 0.114 B as TensorFlow computes it of bytes.
uint8_t grey_of(const uint8_t* rgb);

}  // namespace data
