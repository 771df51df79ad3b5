"""Golden values of colour jitter: torchvision's functions on Pillow images.

Run by hand from the root of the source tree:

    /usr/bin/python3 -m venv /tmp/gvenv
    /tmp/gvenv/bin/pip install torch torchvision Pillow numpy "safetensors>=0.8"
    /tmp/gvenv/bin/python tests/reference/golden_jitter.py OUT_DIR

It writes OUT_DIR/jitter.safetensors. Images are uint8 (H, W, 3).
input.K              image K
OP.K.I               torchvision.transforms.functional.adjust_OP(image K, factor) with OP one of
                     brightness, contrast, saturation, hue
factors.OP           f64: factor I of OP
"""

import sys

import numpy as np
import torchvision.transforms.functional as F
from PIL import Image
from safetensors.numpy import save_file

rng = np.random.default_rng(5)
y, x = np.mgrid[0:19, 0:14]
images = [
    rng.integers(0, 256, (23, 17, 3)),
    np.stack([y * 13 % 256, x * 18 % 256, (x + y) * 7 % 256], -1),
    rng.choice([0, 1, 127, 128, 254, 255], (16, 16, 3)),
    np.repeat(rng.integers(0, 256, (9, 5, 1)), 3, -1),
    np.array([[[0, 0, 0]]]),
]
factors = {
    "brightness": [0.0, 0.7, 1.0, 1.25, 1.9],
    "contrast": [0.0, 0.7, 1.0, 1.25, 1.9],
    "saturation": [0.0, 0.7, 1.0, 1.25, 1.9],
    "hue": [-0.5, -0.3, -0.02, 0.0, 0.11, 0.3, 0.5],
}
tensors = {f"factors.{op}": np.array(values) for op, values in factors.items()}
for k, image in enumerate(images):
    image = image.astype(np.uint8)
    tensors[f"input.{k}"] = image
    for op, values in factors.items():
        for i, factor in enumerate(values):
            result = getattr(F, f"adjust_{op}")(Image.fromarray(image), factor)
            tensors[f"{op}.{k}.{i}"] = np.asarray(result).copy()
save_file(tensors, f"{sys.argv[1]}/jitter.safetensors")
