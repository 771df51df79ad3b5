"""Golden values for three dialects of image resize, and for resize_small with a central crop.

Plain numpy, written from the published formulas and not from any other source of this repository;
every value is compared bit for bit with TensorFlow's or Pillow's own operator.
Run by hand from the root of the source tree:

    /usr/bin/python3 -m venv /tmp/tfvenv
    /tmp/tfvenv/bin/pip install tensorflow-cpu "Pillow>=13" numpy "safetensors>=0.8"
    OMP_NUM_THREADS=1 /tmp/tfvenv/bin/python tests/reference/golden_resize.py OUT_DIR

It writes OUT_DIR/resize.safetensors (the same bytes every time) and prints how many values tell
these formulas from others near to them.

Tensors. Images are (H, W, C), row-major; C is 3 or 1; K numbers the images.
input.K               uint8: image K.
out.tf_bilinear.K.HxW uint8: tf.cast(tf.image.resize(image, (H, W)), uint8), the cast truncates.
out.tf_area.K.HxW     f32: tf.image.resize(image, (H, W), "area"), not rounded.
out.pil_bilinear.K.HxW  uint8: Image.resize((W, H), BILINEAR), with antialiasing, of Pillow
                      before 12.2: first along the columns.
out.pil13_bilinear.K.HxW  uint8: the same of Pillow 13, only where it goes along the rows first.
small.K.S             f32: resize_small, the shorter side becomes S.
central.K.S.C         f32: rows and columns [(H - C) // 2, (H - C) // 2 + C) of small.K.S (H its
                      height; likewise the width).
small_size            i32 (N, 5): height, width, S, new height, new width of resize_small.

Arithmetic. Everything in brackets is float32, each operation rounded by itself (no fused
multiply-add, neither for coordinates nor for weights), from left to right but for the parentheses;
integers become float32 first. in, out: the size before and after along one axis. No result of
tf_bilinear or pil_bilinear needs a clip.

tf_bilinear. scale = [in / out] per axis. For output index i
    c = [(i + 0.5) * scale - 0.5]        three operations in this order
    f = floor(c); lower = max(f, 0); upper = min(ceil(c), in - 1); t = [c - f]
t counts from f also where lower is not f. ceil, not f + 1: the same values. Then along the columns
in both rows, then between the rows:
    top    = [p(y.lower, x.lower) + (p(y.lower, x.upper) - p(y.lower, x.lower)) * x.t]
    bottom = [p(y.upper, x.lower) + (p(y.upper, x.upper) - p(y.upper, x.lower)) * x.t]
    value  = [top + (bottom - top) * y.t]
TensorFlow copies if neither size changes; so do the formulas (t = 0).

tf_area. No half pixels. scale = [in / out] per axis. Output index i covers from b = [i * scale] to
e = [(i + 1) * scale], both products rounded, so that e of i is b of i + 1. Taps are
j = floor(b) ... ceil(e) - 1; tap j reads input min(j, in - 1) and weighs
    j < b:  j + 1 > e ? scale : [j + 1 - b]      (j + 1 is exact)
    else :  j + 1 > e ? [e - j] : 1
e of the last index may come out an ulp above in: then there is a tap j = in with a tiny weight,
which reads in - 1 again. It may be an ulp below in too. The weights are not normalised.
    row(y) = sum over the taps of x, from left to right, of [p(y, x) * weight of x]
    sum    = sum over the taps of y, from top to bottom, of [row(y) * weight of y]
    value  = [sum * k], k = [1 / (scale of y * scale of x)], from the two float32 scales
Sums are float32, one addition at a time, beginning with the first product (or with 0: the same).
k is the reciprocal of the rounded product, multiplied and not divided by. TensorFlow has separate
loops for three channels and for taps within the image; they compute the same. There is no short
cut for equal sizes; the formulas then give the image. A constant image may come out some ulps off,
also above 255.

pil_bilinear. Two passes: first every row gets its new width, rounded to uint8, then every column of
that its new height. A pass is left out if the size does not change along its axis; done, it would
give the same. Pillow 13 does the height first if h < H and H - h > 2 * (W - w), where h, w are the
new height and width and H, W the old ones (found by trial; the values then differ by at most 1);
12.2 does if H > 100 * W and h < H. In float64, each operation rounded:
    scale = in / out; support = max(scale, 1); r = 1 / support
    center = (i + 0.5) * scale
    first = max(int(center - support + 0.5), 0); last = min(int(center + support + 0.5), in)
    w(j) = max(0, 1 - abs((j - center + 0.5) * r)), first <= j < last
    sum of w from left to right, starting from 0; w(j) = w(j) / sum
    q(j) = int(0.5 + w(j) * 4194304)
int() drops the fraction (towards 0). The products are whole numbers in int32:
    value = (2097152 + sum of p(j) * q(j)) >> 22, clipped to [0, 255]
The q need not sum to 4194304; the clip has no effect for this filter. (j - center) + 0.5 in this
order. reducing_gap is None. Pillow's arithmetic is the same for one channel (mode L) and three.

resize_small. ratio = [S / min(h, w)]; new size (rint([h * ratio]), rint([w * ratio])), rint rounds
halves to even; then tf_area. For S = 224 the float32 product may be just below a half where the
exact one is a half: small_size has such rows. The shorter side always becomes S.
"""

import collections
import fractions
import itertools
import os
import pathlib
import sys

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import numpy  # noqa: E402
import PIL.Image  # noqa: E402
import safetensors.numpy  # noqa: E402
import tensorflow  # noqa: E402

F32 = numpy.float32
F64 = numpy.float64
PRECISION = 22

# height, width, channels, contents
IMAGES = [(1, 1, 3, "noise"), (1, 9, 3, "extremes"), (7, 1, 3, "slope"), (8, 8, 3, "extremes"),
          (13, 10, 3, "noise"), (24, 17, 3, "noise"), (31, 40, 3, "slope"), (64, 48, 3, "mixed"),
          (14, 11, 1, "noise"), (16, 21, 3, "extremes"), (23, 16, 3, "slope"),
          (12, 9, 3, "constant")]
BIG = (6, 7)       # only few enlargements
LONG = (1, 2, 11)  # no resize_small to 20
AREA_ENDS = {4: [(11, 39)], 6: [(29, 14)]}  # in float32 index * scale misses the end of the image
MOST = (700, 1600)      # pixels of an output: not of BIG, of BIG
MOST_AREA = (440, 660)  # the same for tf_area
SMALL_SIDES = (8, 11, 20)
CROPS = {8: (8, 5), 11: (8,), 20: (7,)}
TABLE_SIDES = (8, 11, 20, 224, 256, 384, 512)

ABOUT = ("Image resize in three dialects, resize_small and central crops: inputs and outputs; "
         "written by tests/reference/golden_resize.py")


# ---- the formulas ----

def separate(x, y, z):
    return x * y + z


def fused(x, y, z):
    """x * y + z rounded nearly once: the product of two float32 is exact in float64."""
    return (x.astype(F64) * y.astype(F64) + z).astype(F32)


def linear_taps(size, new, real=F32, multiply_add=separate):
    """lower, upper, t for every output index."""
    scale = real(size) / real(new)
    i = numpy.arange(new).astype(real)
    c = multiply_add(i + real(0.5), numpy.full(new, scale), real(-0.5))
    f = numpy.floor(c)
    lower = numpy.maximum(f.astype(int), 0)
    upper = numpy.minimum(numpy.ceil(c).astype(int), size - 1)
    return lower, upper, c - f


def tf_bilinear_float(image, height, width, real=F32, multiply_add=separate, rows_first=False):
    if rows_first:
        return tf_bilinear_float(image.swapaxes(0, 1), width, height, real,
                                 multiply_add).swapaxes(0, 1)
    top, bottom, ty = linear_taps(image.shape[0], height, real, multiply_add)
    left, right, tx = linear_taps(image.shape[1], width, real, multiply_add)
    p = image.astype(real)
    along = multiply_add(p[:, right] - p[:, left], tx[None, :, None], p[:, left])
    return multiply_add(along[bottom] - along[top], ty[:, None, None], along[top])


def tf_bilinear(image, height, width, **other):
    return tf_bilinear_float(image, height, width, **other).astype(numpy.uint8)


def area_taps(size, new, real=F32):
    """For every output index the pairs (input index, weight); how many read past the end."""
    scale, taps, past = real(size) / real(new), [], 0
    for i in range(new):
        b, e = real(i) * scale, real(i + 1) * scale
        taps.append([])
        for j in range(int(numpy.floor(b)), int(numpy.ceil(e))):
            if j < b:
                weight = scale if j + 1 > e else real(j + 1) - b
            else:
                weight = e - real(j) if j + 1 > e else real(1)
            past += j >= size
            taps[-1].append((min(j, size - 1), weight))
    return scale, taps, past


def add(total, part, weight, multiply_add=separate):
    return part * weight if total is None else multiply_add(part, numpy.full_like(part, weight),
                                                            total)


def tf_area(image, height, width, real=F32, multiply_add=separate, rows_first=False,
            divided=False):
    if rows_first:
        return tf_area(image.swapaxes(0, 1), width, height).swapaxes(0, 1)
    scale_y, taps_y, _ = area_taps(image.shape[0], height, real)
    scale_x, taps_x, _ = area_taps(image.shape[1], width, real)
    p, columns, rows = image.astype(real), [], []
    for taps in taps_x:  # every input row at once
        total = None
        for j, weight in taps:
            total = add(total, p[:, j], weight, multiply_add)
        columns.append(total)
    along = numpy.stack(columns, 1)
    for taps in taps_y:
        total = None
        for j, weight in taps:
            total = add(total, along[j], weight, multiply_add)
        rows.append(total)
    if divided:
        return numpy.stack(rows) / (scale_y * scale_x)
    return numpy.stack(rows) * (real(1) / (scale_y * scale_x))


def triangle_taps(size, new):
    """For every output index the first input index and the weights, float64."""
    scale = size / new
    support = max(scale, 1.0)
    r = 1.0 / support
    for i in range(new):
        center = (i + 0.5) * scale
        first = max(int(center - support + 0.5), 0)
        last = min(int(center + support + 0.5), size)
        weights = [max(0.0, 1.0 - abs((j - center + 0.5) * r)) for j in range(first, last)]
        total = 0.0
        for w in weights:
            total += w
        yield first, [w / total for w in weights]


def whole_pass(image, new):
    """Along the first axis."""
    out = numpy.empty((new, *image.shape[1:]), numpy.uint8)
    for i, (first, weights) in enumerate(triangle_taps(image.shape[0], new)):
        total = numpy.full(image.shape[1:], 1 << (PRECISION - 1), numpy.int64)
        for j, w in enumerate(weights, first):
            total += image[j].astype(numpy.int64) * int(0.5 + w * (1 << PRECISION))
        assert total.max() < 1 << 31
        value = total >> PRECISION
        assert value.min() >= 0 and value.max() <= 255  # the clip has no effect
        out[i] = value
    return out


def pil_bilinear(image, height, width, skip=True, rows_first=False):
    if rows_first:
        return pil_bilinear(image.swapaxes(0, 1), width, height).swapaxes(0, 1)
    if width != image.shape[1] or not skip:
        image = whole_pass(image.swapaxes(0, 1), width).swapaxes(0, 1)
    if height != image.shape[0] or not skip:
        image = whole_pass(image, height)
    return image


def pillow_13_goes_rows_first(image, height, width):
    less_height, less_width = image.shape[0] - height, image.shape[1] - width
    return less_height > 0 and less_height > 2 * less_width


def pil_without_rounding(image, height, width):
    """Other than Pillow: float64 from the first pass to the last rounding."""
    p = image.astype(F64)
    for axis, new in ((1, width), (0, height)):
        q = p.swapaxes(0, axis)
        p = numpy.stack([sum(w * q[first + j] for j, w in enumerate(weights))
                         for first, weights in triangle_taps(q.shape[0], new)]).swapaxes(0, axis)
    return numpy.floor(p + 0.5).astype(numpy.uint8)


def small_size(height, width, side):
    ratio = F32(side) / F32(min(height, width))
    return int(numpy.rint(F32(height) * ratio)), int(numpy.rint(F32(width) * ratio))


def central(image, crop):
    y, x = ((n - crop) // 2 for n in image.shape[:2])
    return image[y:y + crop, x:x + crop]


# ---- the same by TensorFlow and Pillow ----

def by_tf_bilinear(image, height, width):
    out = tensorflow.image.resize(image, (height, width), method="bilinear", antialias=False)
    assert out.dtype == tensorflow.float32
    return out.numpy()


def by_tf_area(image, height, width):
    return tensorflow.image.resize(image, (height, width), method="area").numpy()


def by_pillow(image, height, width):
    one = image.shape[2] == 1
    picture = PIL.Image.fromarray(image[..., 0] if one else image)
    out = numpy.asarray(picture.resize((width, height), PIL.Image.Resampling.BILINEAR))
    return out[..., None] if one else out


def tf_small_sizes(heights, widths, side):
    heights, widths = (tensorflow.constant(n, "int32") for n in (heights, widths))
    ratio = tensorflow.cast(side, "float32") / tensorflow.cast(
        tensorflow.minimum(heights, widths), "float32")
    return [tensorflow.cast(tensorflow.round(tensorflow.cast(n, "float32") * ratio), "int32")
            for n in (heights, widths)]


def by_tf_small(image, side):
    size = tensorflow.stack(tf_small_sizes(*image.shape[:2], side))
    return tensorflow.raw_ops.ResizeArea(images=image[None], size=size)[0].numpy()


def by_tf_central(image, crop):
    y, x = ((tensorflow.shape(image)[a] - crop) // 2 for a in (0, 1))
    return tensorflow.image.crop_to_bounding_box(image, y, x, crop, crop).numpy()


def same(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# ---- images and cases ----

def make_image(k):
    height, width, channels, contents = IMAGES[k]
    random, shape = numpy.random.default_rng([7, k]), (height, width, channels)
    if contents == "constant":
        return numpy.broadcast_to(numpy.array([255, 1, 77], numpy.uint8), shape).copy()
    if contents == "extremes":
        return random.choice(numpy.array([0, 255], numpy.uint8), shape)
    noise = random.integers(0, 255, shape, numpy.uint8, endpoint=True)
    if contents == "noise":
        return noise
    y, x = (n[..., None] / max(m - 1, 1) for n, m in zip(numpy.indices(shape[:2]), shape))
    a, b = numpy.array([1, 0, 0.5]), numpy.array([0, -1, 0.5])  # down, to the left, both
    slope = numpy.rint(255 * (a * y + b * x + (b < 0))).astype(numpy.uint8)
    if contents == "slope":
        return slope
    blocks = (numpy.indices(shape[:2]) // 16).sum(0) % 3  # slope, noise, extremes
    return numpy.select([blocks[..., None] == 0, blocks[..., None] == 1],
                        [slope, noise], 255 * (noise & 1))


def targets(k):
    """Heights and widths. Ceiling of p / q of the size: up, down, both, whole, not whole."""
    height, width, _, contents = IMAGES[k]
    one, same_size = (1, 1), (height, width)
    part = lambda n, p, q: -(-n * p // q)  # noqa: E731
    factors = [((1, 2), (1, 2)), ((1, 3), (1, 4)), ((3, 5), (1, 1)), ((1, 1), (7, 10)),
               ((37, 100), (71, 100)), ((17, 20), (2, 5)), ((1, 1), (13, 50)), ((1, 4), (1, 1))]
    if contents == "constant":
        factors = factors[3:6]
    ups = [((2, 1), (2, 1)), ((13, 10), (9, 5)), ((1, 1), (3, 1)), ((7, 3), (1, 1)),
           ((19, 10), (2, 5)), ((3, 10), (23, 10)), ((5, 4), (3, 2))]
    if k in BIG:
        ups = [((3, 10), (7, 5))] if k == 7 else ups[4:6]
    elif contents in ("slope", "constant"):
        ups = ups[1::2]
    sizes = [same_size, one]
    sizes += [(part(height, *a), part(width, *b)) for a, b in factors + ups]
    sizes += [(8, 8), (13, 13), (5, 21), (21, 4), *AREA_ENDS.get(k, ())]
    return sorted(s for s in set(sizes) if s[0] * s[1] <= MOST[k in BIG])


def area_is_written(k, height, width):
    return height * width <= MOST_AREA[k in BIG]


def table_of_small_sizes():
    """All sizes with an exact half that float32 misses, some other halves, some others."""
    random, rows = numpy.random.default_rng(11), []
    for side in TABLE_SIDES:
        limit = 65 if side < 100 else 600
        longer, shorter = numpy.tril_indices(limit - 1)
        longer, shorter = longer + 1, shorter + 1
        twice, rest = numpy.divmod(2 * side * longer, shorter)
        half = (rest == 0) & (twice % 2 == 1)
        new = tf_small_sizes(shorter, longer, side)
        assert (new[0].numpy() == side).all()
        for i in numpy.flatnonzero(half):
            exact = round(fractions.Fraction(side * int(longer[i]), int(shorter[i])))
            if exact != new[1][i]:
                rows.append((shorter[i], longer[i], side))
                rows.append((longer[i], shorter[i], side))
        halves = numpy.flatnonzero(half)
        chosen = [*random.permutation(halves)[:12], *random.permutation(longer.size)[:12]]
        for n, i in enumerate(chosen):
            pair = (longer[i], shorter[i]) if n % 2 else (shorter[i], longer[i])
            rows.append((*pair, side))
    out = []
    for height, width, side in sorted(set(tuple(map(int, row)) for row in rows)):
        new = small_size(height, width, side)
        assert new == tuple(int(n) for n in tf_small_sizes(height, width, side))
        out.append((height, width, side, *new))
    return numpy.array(out, numpy.int32)


def compare_with_others(image, height, width, with_area, note):
    """How many values other arithmetic changes: what these cases can tell apart."""
    mine = tf_bilinear(image, height, width)
    for name, other in (("with fused multiply-add", {"multiply_add": fused}),
                        ("rows first", {"rows_first": True}), ("in float64", {"real": F64})):
        note[f"tf_bilinear values that differ {name}"] += int(
            (mine != tf_bilinear(image, height, width, **other)).sum())
    mine = tf_area(image, height, width)
    for name, other in (("with fused multiply-add", {"multiply_add": fused}),
                        ("rows first", {"rows_first": True}), ("in float64", {"real": F64}),
                        ("divided at the end", {"divided": True})) * with_area:
        note[f"tf_area values that differ {name}"] += int(
            (mine != tf_area(image, height, width, **other).astype(F32)).sum())
    mine = pil_bilinear(image, height, width)
    same(mine, pil_bilinear(image, height, width, skip=False))
    note["pil_bilinear values that differ rows first"] += int(
        (mine != pil_bilinear(image, height, width, rows_first=True)).sum())
    note["pil_bilinear values that differ without rounding between"] += int(
        (mine != pil_without_rounding(image, height, width)).sum())


def check(image, height, width):
    """The formulas against TensorFlow and Pillow, bit for bit; the results by name."""
    exact = tf_bilinear_float(image, height, width)
    same(exact, by_tf_bilinear(image, height, width))
    assert exact.min() >= 0 and exact.max() <= 255
    linear = tf_bilinear(image, height, width)
    same(linear, tensorflow.cast(exact, "uint8").numpy())
    area = tf_area(image, height, width)
    same(area, by_tf_area(image, height, width))
    columns_first = pil_bilinear(image, height, width)
    same(columns_first, by_pillow(by_pillow(image, image.shape[0], width), height, width))
    results = {"tf_bilinear": linear, "tf_area": area, "pil_bilinear": columns_first}
    if pillow_13_goes_rows_first(image, height, width) and width != image.shape[1]:
        results["pil13_bilinear"] = pil_bilinear(image, height, width, rows_first=True)
    same(results.get("pil13_bilinear", columns_first), by_pillow(image, height, width))
    return results


def more_checks(note):
    """Sizes that are not written."""
    random = numpy.random.default_rng(5)
    for n in range(150):
        height, width, new_height, new_width = (int(2 ** random.uniform(0, 8)) for _ in range(4))
        shape = (height, width, (3, 1)[n % 3 == 0])
        check(random.integers(0, 255, shape, numpy.uint8, endpoint=True), new_height, new_width)
        note["further cases checked, not written"] += 1


def write(folder):
    images = [make_image(k) for k in range(len(IMAGES))]
    tensors = {f"input.{k}": image for k, image in enumerate(images)}
    note, seen = collections.Counter(), set()
    for k, image in enumerate(images):
        for height, width in targets(k):
            for name, out in check(image, height, width).items():
                if name == "tf_area" and not area_is_written(k, height, width):
                    continue
                tensors[f"out.{name}.{k}.{height}x{width}"] = out
                note[f"{name} cases"] += 1
                note[f"{name} values"] += out.size
            compare_with_others(image, height, width, area_is_written(k, height, width), note)
            for size, new in zip(image.shape, (height, width)):
                kind = "same" if size == new else "up" if new > size else "down"
                whole = max(size, new) % min(size, new) == 0
                seen.add((kind, whole, image.shape[2]))
                if area_is_written(k, height, width):
                    note["tf_area axes with a tap past the end"] += area_taps(size, new)[2]
        for side in SMALL_SIDES[:2] if k in LONG else SMALL_SIDES:
            small = tf_area(image, *small_size(*image.shape[:2], side))
            same(small, by_tf_small(image, side))
            assert min(small.shape[:2]) == side
            tensors[f"small.{k}.{side}"] = small
            note["small cases"] += 1
            for crop in CROPS[side]:
                part = central(small, crop)
                same(part, by_tf_central(small, crop))
                tensors[f"central.{k}.{side}.{crop}"] = part
                note["central cases"] += 1
    assert seen >= {*itertools.product(("up", "down"), (True, False), (1, 3)), ("same", True, 3)}
    assert note["tf_area axes with a tap past the end"] > 0
    tensors["small_size"] = table_of_small_sizes()
    note["small_size rows"] = len(tensors["small_size"])
    note["small_size rows where float32 misses an exact half"] = sum(
        (new[0], new[1]) != tuple(round(fractions.Fraction(n * side, min(h, w))) for n in (h, w))
        for h, w, side, *new in tensors["small_size"].tolist())
    more_checks(note)
    tensors = {name: numpy.ascontiguousarray(a) for name, a in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "resize.safetensors"
    path.write_bytes(safetensors.numpy.save(tensors, {"about": ABOUT}))
    print(f"{path.name}: {path.stat().st_size} bytes, {len(tensors)} tensors")
    for name, count in note.items():
        print(f"  {name}: {count}")


def main(folder):
    tensorflow.config.threading.set_intra_op_parallelism_threads(1)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    write(folder)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
