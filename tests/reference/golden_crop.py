"""Golden distributions of the inception crop: TensorFlow's own sampler, counted.

Run by hand from the root of the source tree (about two minutes):

    /usr/bin/python3 -m venv /tmp/tfvenv
    /tmp/tfvenv/bin/pip install tensorflow-cpu numpy "safetensors>=0.8"
    /tmp/tfvenv/bin/python tests/reference/golden_crop.py OUT_DIR

It writes OUT_DIR/crop.safetensors. For each case K of 100,000 boxes drawn by
tf.image.stateless_sample_distorted_bounding_box, without objects and with min_object_covered = 0:

case.K    f64 (6): height and width of the picture, smallest and largest share of its area,
          smallest and largest aspect (width / height)
height.K  i32 (H + 1), width.K  i32 (W + 1): how many boxes have that height or width
top.K     i32 (H), left.K  i32 (W): how many begin there
area.K    i32 (101): how many have floor(100 h w / (H W)) = i
whole.K   i32 (1): how many are the whole picture (in small pictures also by chance)
"""

import sys

import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file

DRAWS = 100_000
CASES = [
    (375, 500, 0.05, 1.0, 0.75, 1.33),
    (500, 333, 0.05, 0.7, 0.75, 1.33),
    (64, 64, 0.6, 1.0, 0.75, 1.33),
    (32, 32, 0.05, 1.0, 0.75, 1.33),
    (60, 20, 0.3, 0.6, 0.5, 2.0),
    (9, 400, 0.05, 1.0, 0.75, 1.33),
    (5, 5, 0.05, 1.0, 0.75, 1.33),
    (1, 50, 0.05, 1.0, 0.75, 1.33),
]


@tf.function
def draw(case, first):
    height, width, area_min, area_max, aspect_min, aspect_max = case

    def one(i):
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.constant([height, width, 3]),
            bounding_boxes=tf.zeros([1, 0, 4]),
            seed=tf.stack([first, i]),
            min_object_covered=0.0,
            aspect_ratio_range=(aspect_min, aspect_max),
            area_range=(area_min, area_max),
            max_attempts=100,
            use_image_if_no_bounding_boxes=True,
        )
        return tf.concat([begin[:2], size[:2]], 0)

    return tf.map_fn(one, tf.range(DRAWS), fn_output_signature=tf.int32)


def main(folder):
    tensors = {}
    for k, case in enumerate(CASES):
        height, width = case[:2]
        top, left, h, w = draw(case, tf.constant(k + 1)).numpy().T
        # A box as wide or high as the picture is reported with size -1.
        h = np.where(h < 0, height - top, h)
        w = np.where(w < 0, width - left, w)
        share = np.floor(100.0 * h * w / (height * width)).astype(np.int64)
        counts = {
            "height": np.bincount(h, minlength=height + 1),
            "width": np.bincount(w, minlength=width + 1),
            "top": np.bincount(top, minlength=height),
            "left": np.bincount(left, minlength=width),
            "area": np.bincount(share, minlength=101),
            "whole": np.array([np.sum((h == height) & (w == width))]),
        }
        tensors[f"case.{k}"] = np.array(case, np.float64)
        for name, count in counts.items():
            tensors[f"{name}.{k}"] = count.astype(np.int32)
        print(case, "whole", counts["whole"][0], "mean share", share.mean())
    save_file(tensors, f"{folder}/crop.safetensors")


main(sys.argv[1])
