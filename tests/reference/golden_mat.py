"""Golden values of MATLAB level-5 files: written by SciPy, in several number formats.

Run by hand from the root of the source tree:

    /usr/bin/python3 -m venv /tmp/tfvenv
    /tmp/tfvenv/bin/pip install scipy numpy "safetensors>=0.8"
    /tmp/tfvenv/bin/python tests/reference/golden_mat.py OUT_DIR

It writes OUT_DIR/mat.safetensors: file.NAME, uint8 (bytes), a MAT file with the variables `first`
and `second`, and first.NAME, second.NAME, i32: what they hold, in column order.
"""

import io
import sys

import numpy as np
import scipy.io
from safetensors.numpy import save_file

numbers = np.arange(1, 8190, 37) % 102 + 1
grid = np.arange(12).reshape(3, 4) * 1000 - 3000
variants = {
    "double": (np.float64, False),
    "double_compressed": (np.float64, True),
    "uint8": (np.uint8, False),
    "uint8_compressed": (np.uint8, True),
    "uint16_compressed": (np.uint16, True),
    "int32": (np.int32, False),
    "int64_compressed": (np.int64, True),
    "single": (np.float32, False),
}
tensors = {}
for name, (dtype, compress) in variants.items():
    second = np.abs(grid) % 251 if dtype in (np.uint8, np.uint16) else grid
    values = {"first": numbers[None, :].astype(dtype), "second": second.astype(dtype)}
    file = io.BytesIO()
    scipy.io.savemat(file, values, do_compression=compress)
    tensors[f"file.{name}"] = np.frombuffer(file.getvalue(), np.uint8).copy()
    for key, value in values.items():
        tensors[f"{key}.{name}"] = value.flatten(order="F").astype(np.int32)
# Three numbers: a small data element.
file = io.BytesIO()
scipy.io.savemat(file, {"first": np.array([[7, 8, 9]], np.uint8), "second": np.zeros((0, 0))})
tensors["file.small"] = np.frombuffer(file.getvalue(), np.uint8).copy()
tensors["first.small"] = np.array([7, 8, 9], np.int32)
tensors["second.small"] = np.zeros(0, np.int32)
# The time of writing stands in the heading.
for name, value in tensors.items():
    if name.startswith("file."):
        value[:116] = np.frombuffer(b"MATLAB 5.0 MAT-file".ljust(116), np.uint8)
save_file(tensors, f"{sys.argv[1]}/mat.safetensors")
