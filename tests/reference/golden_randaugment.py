"""Golden values for the pixel and geometric operations of RandAugment.

Plain numpy, written from a specification of the published systems and not from any other source of
this repository; compared with TensorFlow's own operators and with Pillow's wherever they exist.
Run by hand from the root of the source tree:

    /usr/bin/python3 -m venv /tmp/tfvenv
    /tmp/tfvenv/bin/pip install tensorflow-cpu Pillow numpy "safetensors>=0.8"
    OMP_NUM_THREADS=1 /tmp/tfvenv/bin/python tests/reference/golden_randaugment.py OUT_DIR

It asserts the specification's worked numbers, writes OUT_DIR/randaugment.safetensors (the same
bytes every time) and prints how many values depend on the order of float operations.

Tensors. Images are uint8 (H, W, 3), row-major, RGB; K numbers the images.
input.K         image K.
out.OP.K        AutoContrast, Equalize, Invert: the result for image K.
out.OP.K.ARG    the other operations. ARG is the rest of the name and may hold dots: bits of
                posterize, threshold of solarize (after the modulo), addend of solarize_add, factor
                of color, contrast, contrast_literal, brightness, sharpness; "cy,cx,h" of cutout;
                degrees of rotate_*, level of shear_*, pixels of translate_*. These last end in
                _grey (outside is 128) or _reflect: rotate_grey, shear_x_reflect and so on.
matrix.OP.K.ARG f64 (3, 3), OP without the border: forward matrix on (row, column, 1). That of
                rotate is the inverse of the sampling only if H = W.
args            f64 (4, 8): what M = 5, 10, 15, 20 (rows) mean for rotate, posterize, solarize,
                solarize_add, the enhancement factors, shear, translate, cutout (columns), without
                sign. Decimals without the noise of the formula: 1.9, not 1.9000000000000001.

Arithmetic. Everything in brackets is float32, each operation rounded by itself (no fused
multiply-add), constants and factors rounded to float32 first; trunc drops the fraction.
blend(a, b, f)  f = 0: a; f = 1: b; else t = [a + f * (b - a)], clipped to [0, 255] unless
                0 < f < 1, trunc. For the factors here this is what exact decimals give; with a
                fused multiply-add 185 of the 65536 pairs (a, b) come out one less at f = 3.7.
grey            s = [1 / 255]; trunc([(((R*s) * 0.2989 + (G*s) * 0.587) + (B*s) * 0.114) * 255.5]).
                Multiplied by s, not divided by 255; summed from left to right.
color           blend(grey, image, f). brightness: blend(0, image, f).
contrast        blend(m, image, f), m = trunc(min(255, H * W / 256)): the published quirk.
contrast_literal  the same with m = trunc(mean over all pixels of grey as above). Images are chosen
                such that m does not change if the mean is rounded instead, or if the grey is
                0.2989 R + 0.587 G + 0.114 B with or without trunc.
sharpness       blend(smooth, image, f). On the interior smooth is the sum from left to right over
                the nine neighbours in row-major order of [v * k], k = [1 / 13], for the centre
                [5 / 13], started from 0; clipped, trunc. On the border it is the image, so an
                image with less than three rows or columns stays as it is. A constant image may
                lose 1: this is what the published form does. Images are chosen such that fused
                multiply-adds give the same values, as TensorFlow has both kinds of kernel.
autocontrast    per channel, if max > min: scale = [255 / (max - min)], offset = [-min * scale],
                clip([v * scale + offset]), trunc. Here the order decides: many results are whole
                numbers, and a fused multiply-add gives others.
geometric       coordinates [(a0 * x + a1 * y) + a2], reflection in float32 too, nearest, halves
                away from zero; TensorFlow's kernel does exactly this. All coordinates here are at
                least 1e-4 away from a half, so that no rounding decides, but for shears by 0.5,
                which are exact: they fix what happens to halves.
"""

import collections
import itertools
import math
import os
import pathlib
import sys

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # its convolution uses fused multiply-adds
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import numpy  # noqa: E402
import PIL.Image  # noqa: E402
import PIL.ImageOps  # noqa: E402
import safetensors.numpy  # noqa: E402
import tensorflow  # noqa: E402

F32 = numpy.float32
HALF_MARGIN = 1e-4
BORDERS = ("grey", "reflect")
FACTORS = (0.0, 0.4, 1.0, 1.9, 2.8, 3.7)
ENHANCE = ("color", "contrast", "contrast_literal", "brightness", "sharpness")
WITHOUT_ARGUMENT = ("autocontrast", "equalize", "invert")
EXACT_TIES = (0.5, -0.5)

# height, width, contents
IMAGES = [(1, 1, "noise"), (1, 7, "extremes"), (6, 1, "extremes"), (8, 8, "extremes"),
          (9, 9, "levels"), (13, 10, "narrow"), (16, 16, "extremes"), (24, 17, "one-value"),
          (5, 12, "extremes"), (12, 5, "levels"), (7, 6, "constant"), (40, 33, "levels"),
          (48, 56, "narrow")]
SMALL = range(11)  # all pixel operations with all arguments
BIG = (11, 12)     # only what needs many pixels
SHARP = range(11)  # fused and separate multiply-add agree

ABOUT = ("RandAugment operations on small uint8 images: inputs, outputs, forward matrices, "
         "arguments of M = 5, 10, 15, 20; written by tests/reference/golden_randaugment.py")


# ---- magnitudes ----

def arguments(m):
    """rotate, posterize, solarize, solarize_add, factor, shear, translate, cutout."""
    return (30 * m / 10, min(8, int(4 * m / 10)), int(256 * m / 10) % 256, int(110 * m / 10),
            round(1.8 * m / 10 + 0.1, 12), round(0.3 * m / 10, 12), 100 * m // 10, int(40 * m / 10))


# ---- pixel operations ----

def clip_to_u8(t):
    return numpy.clip(t, F32(0), F32(255)).astype(numpy.uint8)


def fused(x, y, z):
    """x * y + z rounded once: the product of two float32 is exact in float64."""
    return (x.astype(numpy.float64) * y.astype(numpy.float64) + z).astype(F32)


def separate(x, y, z):
    return x * y + z


def blend(a, b, factor, multiply_add=separate):
    if factor in (0, 1):
        return (b if factor else a).copy()
    a, b = a.astype(F32), b.astype(F32)
    t = multiply_add(b - a, F32(factor), a)
    return t.astype(numpy.uint8) if 0 < factor < 1 else clip_to_u8(t)


def grey(image):
    scaled = image.astype(F32) * F32(1 / 255)
    r, g, b = (scaled[..., c] * F32(w) for c, w in enumerate((0.2989, 0.587, 0.114)))
    return (((r + g) + b) * F32(255.5)).astype(numpy.uint8)


def whole_grey(image):
    """10000 (0.2989 R + 0.587 G + 0.114 B), exact."""
    return image.astype(numpy.int64) @ numpy.array([2989, 5870, 1140])


def on_all_channels(plane):
    return numpy.repeat(plane[..., None], 3, axis=-1)


def color(image, factor):
    return blend(on_all_channels(grey(image)), image, factor)


def contrast_level(height, width):
    """The published quirk: the sum of the histogram over 256, not the mean grey value."""
    return int(min(F32(255), F32(height * width) / F32(256)))


def contrast(image, factor):
    return blend(numpy.full_like(image, contrast_level(*image.shape[:2])), image, factor)


def contrast_literal(image, factor):
    g = grey(image)
    return blend(numpy.full_like(image, int(F32(g.sum()) / F32(g.size))), image, factor)


def brightness(image, factor):
    return blend(numpy.zeros_like(image), image, factor)


KERNEL = numpy.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], F32) / F32(13)


def smooth_interior(image, multiply_add=separate):
    height, width, _ = image.shape
    total = numpy.zeros((height - 2, width - 2, 3), F32)
    for i, j in itertools.product(range(3), range(3)):
        part = image[i:i + height - 2, j:j + width - 2].astype(F32)
        total = multiply_add(part, KERNEL[i, j], total)
    return total


def sharpness(image, factor):
    smooth = image.copy()
    if min(image.shape[:2]) > 2:
        smooth[1:-1, 1:-1] = clip_to_u8(smooth_interior(image))
    return blend(smooth, image, factor)


def autocontrast(image, multiply_add=separate, real=F32):
    out = image.copy()
    for c in range(3):
        v = image[..., c]
        low, high = real(v.min()), real(v.max())
        if high > low:
            scale = real(255) / (high - low)
            out[..., c] = numpy.clip(multiply_add(v.astype(real), scale, -low * scale), 0, 255)
    return out


def equalize(image):
    out = image.copy()
    for c in range(3):
        counts = numpy.bincount(image[..., c].ravel(), minlength=256)
        step = (counts.sum() - counts[counts > 0][-1]) // 255
        if step > 0:
            table = (numpy.cumsum(counts) - counts + step // 2) // step
            out[..., c] = numpy.clip(table, 0, 255)[image[..., c]]
    return out


def invert(image):
    return 255 - image


def posterize(image, bits):
    return image >> (8 - bits) << (8 - bits)


def solarize(image, threshold):
    return numpy.where(image < threshold, image, 255 - image)


def solarize_add(image, add):
    wide = image.astype(numpy.int32)
    return numpy.where(wide < 128, numpy.clip(wide + add, 0, 255), wide).astype(numpy.uint8)


def cutout(image, cy, cx, half):
    out, (height, width, _) = image.copy(), image.shape
    out[max(0, cy - half):min(height, cy + half), max(0, cx - half):min(width, cx + half)] = 128
    return out


# ---- geometric operations ----

def rotation(degrees, height, width, real=float):
    angle = real(real(degrees) * real(math.pi / 180))
    c, s = real(numpy.cos(angle)), real(numpy.sin(angle))
    w, h = real(width - 1), real(height - 1)
    return c, s, (w - (c * w - s * h)) / real(2), (h - (s * w + c * h)) / real(2)


def sampling(op, arg, height, width, real=float):
    """a0 a1 a2 b0 b1 b2: output (x, y) reads input (a0 x + a1 y + a2, b0 x + b1 y + b2)."""
    if op == "rotate":
        c, s, x, y = rotation(arg, height, width, real)
        return c, -s, x, s, c, y
    return {"shear_x": (1, arg, 0, 0, 1, 0), "shear_y": (1, 0, 0, arg, 1, 0),
            "translate_x": (1, 0, arg, 0, 1, 0), "translate_y": (1, 0, 0, 0, 1, arg)}[op]


def forward_matrix(op, arg, height, width):
    """On (row, column, 1) of the input, giving the place in the output."""
    if op == "rotate":
        c, s, x, y = rotation(arg, height, width)
        top = [[c, -s, x], [s, c, y]]
    else:
        top = {"shear_x": [[1, 0, 0], [-arg, 1, 0]], "shear_y": [[1, -arg, 0], [0, 1, 0]],
               "translate_x": [[1, 0, 0], [0, 1, -arg]],
               "translate_y": [[1, 0, -arg], [0, 1, 0]]}[op]
    return numpy.array(top + [[0, 0, 1]], numpy.float64)


def coordinates(numbers, height, width, real):
    a0, a1, a2, b0, b1, b2 = (real(n) for n in numbers)
    y, x = (i.astype(real) for i in numpy.indices((height, width)))
    return (a0 * x + a1 * y) + a2, (b0 * x + b1 * y) + b2


def near_half(numbers, height, width):
    """How many coordinates are too near to a half."""
    count = 0
    for c in coordinates(numbers, height, width, numpy.float64):
        count += int((numpy.abs(c - numpy.floor(c) - 0.5) < HALF_MARGIN).sum())
    return count


def half_away(c):
    return numpy.trunc(c + numpy.copysign(F32(0.5), c)).astype(numpy.int64)


def reflected(c, n):
    """The coordinate inside [0, n - 1] for every float32 in c."""
    out = numpy.empty_like(c)
    for i, v in numpy.ndenumerate(c):
        if v < 0:
            v = v + F32(2 * n) * numpy.trunc(-v / F32(2 * n))
            v = v + F32(2 * n) if v < -n else -v - F32(1)
        elif v > n - 1:
            v = v - F32(2 * n) * numpy.trunc(v / F32(2 * n))
            v = F32(2 * n) - v - F32(1) if v >= n else v
        out[i] = min(max(v, F32(0)), F32(n - 1))
    return out


def transform(image, numbers, border):
    height, width, _ = image.shape
    x, y = coordinates(numbers, height, width, F32)
    if border == "reflect":
        return image[half_away(reflected(y, height)), half_away(reflected(x, width))]
    x, y = half_away(x), half_away(y)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return numpy.where(inside[..., None], image[y * inside, x * inside], numpy.uint8(128))


# ---- the same by TensorFlow and Pillow ----

def tf_transform(image, numbers, border):
    height, width, _ = image.shape
    four = numpy.concatenate([image, numpy.ones((height, width, 1), numpy.uint8)], axis=2)
    out = tensorflow.raw_ops.ImageProjectiveTransformV3(
        images=four[None], transforms=numpy.array([[*numbers, 0, 0]], F32),
        output_shape=[height, width], fill_value=0.0, interpolation="NEAREST",
        fill_mode="REFLECT" if border == "reflect" else "CONSTANT").numpy()[0]
    return numpy.where(out[..., 3:] == 0, numpy.uint8(128), out[..., :3])


def tf_smooth_interior(image):
    kernel = numpy.tile(KERNEL[:, :, None, None], (1, 1, 3, 1))
    return tensorflow.nn.depthwise_conv2d(image[None].astype(F32), kernel, [1, 1, 1, 1],
                                          "VALID").numpy()[0]


def tf_blend(a, b, factor):
    a, b = tensorflow.cast(a, "float32"), tensorflow.cast(b, "float32")
    t = a + tensorflow.constant(factor, "float32") * (b - a)
    return tensorflow.cast(tensorflow.clip_by_value(t, 0.0, 255.0), "uint8").numpy()


def tf_autocontrast(image):
    v = tensorflow.cast(image, "float32")
    low, high = (f(v, [0, 1], keepdims=True) for f in (tensorflow.reduce_min,
                                                       tensorflow.reduce_max))
    scale = 255.0 / (high - low)
    out = tensorflow.clip_by_value(v * scale + -low * scale, 0.0, 255.0)
    return numpy.where(high > low, tensorflow.cast(out, "uint8"), image)


def pillow(function, image, *arguments):
    return numpy.asarray(function(PIL.Image.fromarray(image), *arguments))


def pillow_transform(image, numbers):
    """Grey border. Pillow counts from the edge of a pixel: half a pixel more on both sides."""
    a0, a1, a2, b0, b1, b2 = numbers
    return pillow(PIL.Image.Image.transform, image, image.shape[1::-1],
                  PIL.Image.Transform.AFFINE,
                  (a0, a1, a2 + (1 - a0 - a1) / 2, b0, b1, b2 + (1 - b0 - b1) / 2),
                  PIL.Image.Resampling.NEAREST, 1, (128, 128, 128))


def same(a, b):
    assert a.dtype == b.dtype and numpy.array_equal(a, b)


def check_image(image, sharp, note):
    """Every operator of TensorFlow and Pillow that exists, on one image."""
    same(grey(image), tensorflow.image.rgb_to_grayscale(image).numpy()[..., 0])
    if sharp and min(image.shape[:2]) > 2:
        smooth = smooth_interior(image)
        same(smooth, tf_smooth_interior(image))
        wide, (height, width, _) = image.astype(int), image.shape
        whole = 4 * wide[1:-1, 1:-1] + sum(
            wide[i:i + height - 2, j:j + width - 2] for i in range(3) for j in range(3))
        note["smoothed values"] += whole.size
        note["smoothed values that are not the whole sum // 13"] += int(
            (clip_to_u8(smooth) != whole // 13).sum())
    same(autocontrast(image), tf_autocontrast(image))
    same(equalize(image), pillow(PIL.ImageOps.equalize, image))
    same(invert(image), pillow(PIL.ImageOps.invert, image))
    for bits in range(1, 9):
        same(posterize(image, bits), pillow(PIL.ImageOps.posterize, image, bits))
    for threshold in range(256):
        same(solarize(image, threshold), pillow(PIL.ImageOps.solarize, image, threshold))
    note["autocontrast values"] += image.size
    for name, other in (
            ("with fused multiply-add", autocontrast(image, fused)),
            ("in float64", autocontrast(image, real=numpy.float64)),
            ("by Pillow", pillow(PIL.ImageOps.autocontrast, image))):
        note[f"autocontrast values that differ {name}"] += int(
            (autocontrast(image) != other).sum())


# ---- images ----

def draw(random, height, width, contents):
    shape = (height, width, 3)
    if contents == "constant":
        return numpy.broadcast_to(random.integers(1, 255, 3, numpy.uint8), shape).copy()
    if contents == "levels":  # a slope per channel in few steps
        y, x = numpy.indices((height, width))[..., None] / max(height, width)
        slope = random.uniform(-1, 1, (2, 3))
        level = numpy.floor(6 * (slope[0] * y + slope[1] * x)).astype(int)
        level -= level.min((0, 1))
        return (random.integers(5, 40, 3) + level * random.integers(9, 27, 3)).astype(numpy.uint8)
    low, high = random.integers(20, 100, 3), random.integers(130, 240, 3)
    if contents != "narrow":
        low, high = 0, 255
    image = random.integers(low, high, shape, numpy.uint8, endpoint=True)
    if contents == "extremes":
        image.reshape(-1, 3)[random.permutation(height * width)[:2]] = [[0, 255, 0], [255, 0, 255]]
    if contents == "one-value":
        image[..., 1] = random.integers(1, 255)
    return image


def suitable(image, sharp):
    """What must not depend on the order of float operations does not."""
    g, exact = grey(image), whole_grey(image)
    if (g != exact * 511 // 5100000).any():
        return False
    mean, truncated = g.mean(), (exact // 10000).mean()
    level = math.floor(mean)
    if mean > level + 0.48 or not level <= truncated < level + 0.48:
        return False
    if math.floor(exact.mean() / 10000) != level:
        return False
    if sharp and min(image.shape[:2]) > 2:
        a, b = (clip_to_u8(smooth_interior(image, f)) for f in (separate, fused))
        return numpy.array_equal(a, b)
    return True


def make_image(k):
    height, width, contents = IMAGES[k]
    for seed in itertools.count():
        image = draw(numpy.random.default_rng([k, seed]), height, width, contents)
        if suitable(image, k in SHARP):
            return image


# ---- cases ----

def pixel_cases():
    """Operation, image, arguments."""
    levels = [arguments(m) for m in (5, 10, 15, 20)]
    for k in range(len(IMAGES)):
        height, width, _ = IMAGES[k]
        for op in WITHOUT_ARGUMENT:
            if k in SMALL or op != "invert":
                yield op, k, ()
        halves = [a[7] for a in levels] if k in (0, 3, 7, 12) else [20]
        spots = [(0, 0), (height - 1, width - 1), (height // 2, width // 3)]
        for i, half in enumerate(halves):
            yield "cutout", k, (*spots[(i + k) % 3], half)
        if k in BIG:
            yield "cutout", k, (*spots[2], 7)
            for op in ("color", "contrast", "contrast_literal"):
                yield op, k, (1.9,)
            continue
        for spot in spots:
            yield "cutout", k, (*spot, 2)
        for bits in sorted({1, *(a[1] for a in levels)}):
            yield "posterize", k, (bits,)
        for threshold in sorted({200, *(a[2] for a in levels)}):
            yield "solarize", k, (threshold,)
        for a in levels:
            yield "solarize_add", k, (a[3],)
        for op, factor in itertools.product(ENHANCE, FACTORS):
            yield op, k, (factor,)


def geometric_cases():
    """Operation, image, argument, borders. Some of them come too near to a half."""
    levels = [arguments(m) for m in (5, 10, 15, 20)]
    signed = lambda column: [s * a[column] for a in levels for s in (1, -1)]  # noqa: E731
    for k in range(10):
        for degrees in [*signed(0), 7.5, -7.5]:
            yield "rotate", k, degrees, BORDERS
        for op in ("shear_x", "shear_y"):
            for level in [*signed(5), 0.31, -0.29, *EXACT_TIES]:
                if k != 6:
                    yield op, k, level, BORDERS
        for op in ("translate_x", "translate_y"):
            for pixels in (1, -2, 3):
                if k not in (6, 7):
                    yield op, k, pixels, BORDERS
            for pixels in signed(6):
                if k < 5 or k == 7:
                    yield op, k, pixels, BORDERS if k < 4 else ["reflect"]


def check_coverage(seen):
    """Every operation with every argument, on even and odd sizes, 1x1, 1xN and Nx1."""
    levels = [arguments(m) for m in (5, 10, 15, 20)]
    wanted = {"rotate": 0, "posterize": 1, "solarize": 2, "solarize_add": 3, "color": 4,
              "contrast": 4, "contrast_literal": 4, "brightness": 4, "sharpness": 4, "shear_x": 5,
              "shear_y": 5, "translate_x": 6, "translate_y": 6, "cutout": 7}
    for op, places in seen.items():
        shapes = {IMAGES[k][:2] for k, _ in places}
        assert (1, 1) in shapes
        for kind in (lambda h, w: h == 1 < w, lambda h, w: w == 1 < h,
                     lambda h, w: h % 2 == w % 2 == 0, lambda h, w: h % 2 == w % 2 == 1 < h):
            assert any(kind(*shape) for shape in shapes), op
        base = op.removesuffix("_grey").removesuffix("_reflect")
        if base not in wanted:
            continue
        for a in levels:
            value = a[wanted[base]]
            for v in {value, -value if wanted[base] in (0, 5, 6) else value}:
                assert any(arg[-1] == v for _, arg in places), (op, v)


def write(folder):
    images = [make_image(k) for k in range(len(IMAGES))]
    tensors = {f"input.{k}": image for k, image in enumerate(images)}
    tensors["args"] = numpy.array([arguments(m) for m in (5, 10, 15, 20)], numpy.float64)
    note, seen = collections.Counter(), collections.defaultdict(list)
    for k, image in enumerate(images):
        check_image(image, k in SHARP, note)
    for op, k, arg in pixel_cases():
        name = ".".join([f"out.{op}.{k}"] + [",".join(map(repr, arg))] * bool(arg))
        tensors[name] = globals()[op](images[k], *arg)
        seen[op].append((k, arg))
        note["pixel cases"] += 1
    for op, k, arg, borders in geometric_cases():
        height, width, _ = IMAGES[k]
        numbers = sampling(op, arg, height, width)
        near = near_half(numbers, height, width)
        if near and arg not in EXACT_TIES:
            note["geometric cases left out, a coordinate within 1e-4 of a half"] += len(borders)
            continue
        if arg in EXACT_TIES:  # the same in both precisions
            for pair in zip(*(coordinates(numbers, height, width, r) for r in (F32, float))):
                assert numpy.array_equal(*pair)
            note["exact halves in the shears by 0.5"] += near
        else:
            note["coordinates within 1e-4 of a half in all others"] += near
        tensors[f"matrix.{op}.{k}.{arg!r}"] = forward_matrix(op, arg, height, width)
        for border in borders:
            out = transform(images[k], numbers, border)
            same(out, tf_transform(images[k], numbers, border))
            same(out, transform(images[k], sampling(op, arg, height, width, F32), border))
            if border == "grey" and not near:  # Pillow rounds halves up
                same(out, pillow_transform(images[k], numbers))
            tensors[f"out.{op}_{border}.{k}.{arg!r}"] = out
            seen[f"{op}_{border}"].append((k, (arg,)))
            note["geometric cases"] += 1
    check_coverage(seen)
    assert (equalize(images[11]) != images[11]).any(axis=(0, 1)).all()
    assert (autocontrast(images[5]) != images[5]).any(axis=(0, 1)).all()
    tensors = {name: numpy.ascontiguousarray(a) for name, a in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "randaugment.safetensors"
    path.write_bytes(safetensors.numpy.save(tensors, {"about": ABOUT}))
    print(f"{path.name}: {path.stat().st_size} bytes, {len(tensors)} tensors")
    for name, count in note.items():
        print(f"  {name}: {count}")


# ---- checks of the specification's numbers ----

def self_test():
    plane = numpy.repeat([10, 50, 200], [400, 300, 500]).astype(numpy.uint8).reshape(30, 40)
    image = on_all_channels(plane)  # equalize
    expected = numpy.repeat([0, 200, 255], [400, 300, 500]).reshape(30, 40)
    assert (equalize(image) == expected[..., None]).all()

    for side, level in ((224, 196), (384, 255), (128, 64), (32, 4)):  # contrast
        assert contrast_level(side, side) == level
    image = numpy.zeros((224, 224, 3), numpy.uint8)
    image[0, :5, 0] = [0, 100, 192, 196, 255]
    assert contrast(image, 1.9)[0, :5, 0].tolist() == [0, 13, 188, 196, 255]

    every = on_all_channels(numpy.arange(256, dtype=numpy.uint8)[None])  # solarize
    assert [arguments(m)[2] for m in (10, 15, 20)] == [0, 128, 0]
    assert (solarize(every, 0) == 255 - every).all()
    for m, row in ((10, (30, 4, 0, 110, 1.9, 0.3, 100, 40)),
                   (15, (45, 6, 128, 165, 2.8, 0.45, 150, 60)),
                   (20, (60, 8, 0, 220, 3.7, 0.6, 200, 80))):
        assert arguments(m) == row
    for m in (5, 10, 15, 20):  # the decimals mean the same float32
        assert F32(arguments(m)[4]) == F32(1.8 * m / 10 + 0.1)
        assert F32(arguments(m)[5]) == F32(0.3 * m / 10)

    places = numpy.arange(-6, 11).astype(F32)  # reflection
    sequence = [2, 3, 3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0, 0, 1, 2]
    assert half_away(reflected(places, 4)).tolist() == sequence
    numbers = sampling("rotate", 30.0, 224, 224)  # rotation
    for value, expected in zip(numbers, (.866, -.5, 70.688, .5, .866, -40.812)):
        assert abs(value - expected) <= 5.0001e-4, numbers

    for op, arg in (("rotate", 33.0), ("shear_x", 0.3), ("shear_y", -0.45), ("translate_x", 7),
                    ("translate_y", -5)):  # the forward matrix undoes the sampling
        x, y = coordinates(sampling(op, arg, 9, 9), 9, 9, numpy.float64)
        back = forward_matrix(op, arg, 9, 9) @ [y.ravel(), x.ravel(), numpy.ones(81)]
        assert numpy.abs(back[:2] - numpy.indices((9, 9)).reshape(2, 81)).max() < 1e-12

    # Blends of all pairs: as in TensorFlow, in Pillow and in whole numbers.
    wide = numpy.indices((256, 256))
    a, b = wide.astype(numpy.uint8)
    for factor in FACTORS:
        out = blend(a, b, factor)
        same(out, tf_blend(a, b, factor))
        same(out, numpy.asarray(PIL.Image.blend(*map(PIL.Image.fromarray, (a, b)), factor)))
        tenths = 10 * wide[0] + round(10 * factor) * (wide[1] - wide[0])
        same(out, numpy.clip(tenths // 10, 0, 255).astype(numpy.uint8))
        assert (out != blend(a, b, factor, fused)).sum() == (185 if factor == 3.7 else 0)


def main(folder):
    tensorflow.config.threading.set_intra_op_parallelism_threads(1)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    self_test()
    write(folder)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
