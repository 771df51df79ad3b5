"""Golden values of JPEG decoding: files written by Pillow, pixels as TensorFlow reads them.

Run by hand from the root of the source tree:

    /usr/bin/python3 -m venv /tmp/tfvenv
    /tmp/tfvenv/bin/pip install tensorflow-cpu Pillow numpy "safetensors>=0.8"
    /tmp/tfvenv/bin/python tests/reference/golden_jpeg.py OUT_DIR

It writes OUT_DIR/jpeg.safetensors: for each NAME
file.NAME      uint8 (bytes): the JPEG file
accurate.NAME  uint8 (H, W, 3): tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE")
fast.NAME      uint8 (H, W, 3): tf.io.decode_jpeg(file, channels=3), whose default is INTEGER_FAST
and asserts that Pillow reads the first. Of CMYK, TensorFlow truncates C K / 255, Pillow rounds:
accurate.cmyk is Pillow's, fast.cmyk TensorFlow's.
"""

import io
import sys

import numpy as np
import tensorflow as tf
from PIL import Image
from safetensors.numpy import save_file


def photograph(height, width, seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x * rng.uniform(0.02, 0.9) + y * rng.uniform(0.02, 0.9) + c) for c in range(3)]
    return np.clip(128 + 90 * np.stack(waves, -1) + rng.normal(0, 12, (height, width, 3)), 0,
                   255).astype(np.uint8)


def encoded(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


colour, odd, large = (Image.fromarray(photograph(h, w, s)) for h, w, s in
                      [(48, 64, 1), (37, 23, 2), (70, 51, 3)])
files = {
    "420": encoded(colour, quality=90, subsampling=2),
    "422": encoded(odd, quality=85, subsampling=1),
    "444": encoded(odd, quality=95, subsampling=0),
    "420_odd": encoded(large, quality=75, subsampling=2),
    "progressive": encoded(large, quality=80, progressive=True),
    "restart": encoded(large, quality=80, restart_marker_blocks=3),
    "grey": encoded(odd.convert("L"), quality=90),
    "one": encoded(Image.fromarray(photograph(1, 1, 4)), quality=90),
    "cmyk": encoded(Image.merge("CMYK", [*large.split(), large.split()[1]]), quality=90),
}
tensors = {}
for name, file in files.items():
    tensors[f"file.{name}"] = np.frombuffer(file, np.uint8)
    pillow = Image.open(io.BytesIO(file))
    accurate = tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE").numpy()
    fast = tf.io.decode_jpeg(file, channels=3).numpy()
    theirs = np.asarray(pillow.convert("RGB"))
    if name == "cmyk":
        print("cmyk: truncated and rounded differ in", (accurate != theirs).sum(), "values")
        accurate = theirs
    assert (accurate == theirs).all(), name
    assert (fast == tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_FAST").numpy()).all()
    print(name, accurate.shape, "fast differs by", np.abs(accurate.astype(int) - fast).max())
    tensors[f"accurate.{name}"], tensors[f"fast.{name}"] = accurate, fast
save_file(tensors, f"{sys.argv[1]}/jpeg.safetensors")
