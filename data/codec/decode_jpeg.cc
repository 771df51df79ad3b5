// The only file that knows libjpeg.
#include "data/codec/decode_jpeg.h"

#include "engine/core/error.h"

#ifdef ROBUSTMOE_HAS_JPEG
#include <csetjmp>
#include <cstdio>
// jpeglib.h needs size_t and FILE first.
#include <jerror.h>
#include <jpeglib.h>
#endif

namespace data {

#ifdef ROBUSTMOE_HAS_JPEG

namespace {

// libjpeg ends in error_exit, which must not return: it jumps back. Nothing with a destructor may
// live between setjmp and there.
struct Decoder {
  jpeg_decompress_struct jpeg;
  jpeg_error_mgr errors;
  std::jmp_buf back;
  char message[JMSG_LENGTH_MAX];
};

void leave(j_common_ptr jpeg) {
  auto* decoder = static_cast<Decoder*>(jpeg->client_data);
  jpeg->err->format_message(jpeg, decoder->message);
  std::longjmp(decoder->back, 1);
}

// A warning that means pixels are missing or invented is an error here.
void take_message(j_common_ptr jpeg, int level) {
  if (level >= 0) return;
  switch (jpeg->err->msg_code) {
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_JPEG_EOF:
    case JWRN_MUST_RESYNC:
      leave(jpeg);
      break;
    default:
      ++jpeg->err->num_warnings;
  }
}

void cmyk_to_rgb(const uint8_t* cmyk, JpegDialect dialect, uint8_t* rgb, unsigned pixels) {
  const int half = dialect == JpegDialect::kAccurate ? 127 : 0;
  for (unsigned i = 0; i < pixels; ++i) {
    for (int c = 0; c < 3; ++c) {
      rgb[3 * i + c] = static_cast<uint8_t>((cmyk[4 * i + c] * cmyk[4 * i + 3] + half) / 255);
    }
  }
}

// Decodes into `out`, which has its size; `row` (4 * width) is for CMYK. False after an error.
bool decode(Decoder& decoder, std::span<const uint8_t> bytes, JpegDialect dialect, ImageU8& out,
            std::vector<uint8_t>& row) {
  jpeg_decompress_struct& jpeg = decoder.jpeg;
  jpeg.err = jpeg_std_error(&decoder.errors);
  decoder.errors.error_exit = leave;
  decoder.errors.emit_message = take_message;
  jpeg.client_data = &decoder;
  if (setjmp(decoder.back) != 0) {  // NOLINT(cert-err52-cpp): libjpeg's way to report
    jpeg_destroy_decompress(&jpeg);
    return false;
  }
  jpeg_create_decompress(&jpeg);
  jpeg.client_data = &decoder;
  jpeg_mem_src(&jpeg, bytes.data(), static_cast<unsigned long>(bytes.size()));
  jpeg_read_header(&jpeg, TRUE);
  const bool cmyk = jpeg.jpeg_color_space == JCS_CMYK || jpeg.jpeg_color_space == JCS_YCCK;
  jpeg.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
  jpeg.dct_method = dialect == JpegDialect::kFast ? JDCT_IFAST : JDCT_ISLOW;
  jpeg_start_decompress(&jpeg);
  out.reshape(jpeg.output_height, jpeg.output_width, 3);
  if (cmyk) row.resize(4 * static_cast<size_t>(jpeg.output_width));
  while (jpeg.output_scanline < jpeg.output_height) {
    uint8_t* to = out.at(jpeg.output_scanline, 0);
    JSAMPROW line = cmyk ? row.data() : to;
    if (jpeg_read_scanlines(&jpeg, &line, 1) == 1 && cmyk) {
      cmyk_to_rgb(row.data(), dialect, to, jpeg.output_width);
    }
  }
  jpeg_finish_decompress(&jpeg);
  jpeg_destroy_decompress(&jpeg);
  return true;
}

}  // namespace

const char* jpeg_decoder() { return "libjpeg-turbo"; }

bool decode_jpeg(std::span<const uint8_t> bytes, const std::string& path, JpegDialect dialect,
                 ImageU8& out) {
  Decoder decoder = {};
  std::vector<uint8_t> row;
  engine::check(decode(decoder, bytes, dialect, out, row), engine::ErrorKind::kFormat, path,
                ": cannot be decoded: ", decoder.message);
  return true;
}

#else

const char* jpeg_decoder() { return "stb_image"; }
bool decode_jpeg(std::span<const uint8_t>, const std::string&, JpegDialect dialect, ImageU8&) {
  engine::check(
      dialect == JpegDialect::kAccurate, engine::ErrorKind::kValue,
      "JPEG files cannot be decoded as TensorFlow does (data.jpeg = \"fast\"), since this "
      "build has no libjpeg: install it and build again, or set data.jpeg=accurate");
  return false;
}

#endif

}  // namespace data
