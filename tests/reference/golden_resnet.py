"""Golden values of residual networks as torchvision has them: logits, gradients, statistics.

Run by hand from the root of the source tree, with PyPI's torch, torchvision, numpy and safetensors:

    OMP_NUM_THREADS=1 python tests/reference/golden_resnet.py OUT_DIR

It builds torchvision.models.resnet18, resnet50 and wide_resnet50_2, with their own stem or with
the one that small images get (3x3 convolution of stride 1, no pooling), gives every parameter and
running statistic numbers from a formula that our test computes too, and writes
OUT_DIR/resnet-CASE.safetensors with what f64 arithmetic makes of them for a cotangent of the
logits:

    logits.train, logits.eval      (B, classes)
    train.NAME                     of the gradient of each parameter NAME and of "images"
    eval.images                    of the gradient of the images with running statistics
    after.NAME                     of each running statistic after the training pass

Of logits all is kept; of the others, which would be megabytes, the norm and 64 numbers, those at
i * n / 64 of n, rounded down, or all where there are no more. Names are torchvision's, layouts
ours: convolutions (K, K, in, out), the classifier (in, out). Metadata: "model", "small", "size", "classes", "about".

The formula: splitmix64 of (seed, i) as a number u in [-1, 1), seed the FNV-1a hash of the name. A
convolution is u sqrt(6 / fan_out), the classifier's weight 3u / sqrt(in), scales and running
variances 1 + u/2, all others u/2; images and cotangents are u.
"""

import math
import pathlib
import sys

import numpy
import safetensors.numpy
import torch
import torchvision

from golden_vmoe import in_fixed_order

CASES = [  # name, torchvision's model, ours, small stem, pixels
    ("resnet18-small", "resnet18", "resnet18", True, 16),
    ("resnet18", "resnet18", "resnet18", False, 48),
    ("resnet50-small", "resnet50", "resnet50", True, 16),
    ("wide-resnet50-2", "wide_resnet50_2", "wide-resnet50-2", False, 40),
]
BATCH, CLASSES = 3, 7


def formula(name, count):
    """The numbers u of a name."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    with numpy.errstate(over="ignore"):
        u64 = numpy.uint64
        z = u64(seed) * u64(0x9E3779B97F4A7C15)
        z = z + (numpy.arange(count, dtype=u64) + u64(1)) * u64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> u64(30))) * u64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> u64(27))) * u64(0x94D049BB133111EB)
        z = z ^ (z >> u64(31))
    return (z >> u64(11)).astype(numpy.float64) * (2.0 / 9007199254740992.0) - 1.0


def ours(value):
    """A tensor of torchvision's in our layout."""
    order = {4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim, tuple(range(value.ndim)))
    return value.detach().permute(order).contiguous()


def fill(name, value):
    """Gives a tensor of torchvision's the formula's numbers, counted in our layout."""
    target = ours(value)
    u = torch.from_numpy(formula(name, target.numel())).reshape(target.shape)
    if value.ndim == 4:
        u = u * math.sqrt(6 / (value.shape[0] * value.shape[2] * value.shape[3]))
    elif value.ndim == 2:
        u = u * 3 / math.sqrt(value.shape[1])
    elif name.endswith("running_var") or (name.endswith("weight") and value.ndim == 1):
        u = 1 + u / 2
    else:
        u = u / 2
    back = {4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim, tuple(range(value.ndim)))
    with torch.no_grad():
        value.copy_(u.permute(back))


def make_model(name, small):
    model = getattr(torchvision.models, name)(weights=None, num_classes=CLASSES)
    if small:
        model.conv1 = torch.nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
        model.maxpool = torch.nn.Identity()
    return model.double()


def sample(value):
    """The norm of a tensor and 64 of its numbers."""
    flat = ours(value).flatten().numpy()
    n = flat.size
    at = numpy.arange(n) if n <= 64 else numpy.arange(64) * n // 64
    return numpy.concatenate([[numpy.sqrt((flat ** 2).sum())], flat[at]])


def run(model, mode, size, tensors):
    model.train(mode == "train")
    model.zero_grad()
    images = torch.from_numpy(formula("images", BATCH * 3 * size * size))
    images = images.reshape(BATCH, 3, size, size).requires_grad_()
    logits = model(images)
    cotangent = torch.from_numpy(formula("cotangent", BATCH * CLASSES)).reshape(BATCH, CLASSES)
    (logits * cotangent).sum().backward()
    tensors[f"logits.{mode}"] = logits.detach().numpy()
    for name, parameter in model.named_parameters():
        if mode == "train":
            tensors[f"train.{name}"] = sample(parameter.grad)
    # The images stay as they are given: (B, C, H, W).
    flat = images.grad.flatten()
    tensors[f"{mode}.images"] = sample(flat)


def make_case(case, theirs, name, small, size, out):
    model = make_model(theirs, small)
    for path, value in model.state_dict().items():
        if not path.endswith("num_batches_tracked"):
            fill(path, value)
    tensors = {}
    run(model, "eval", size, tensors)
    run(model, "train", size, tensors)
    for path, value in model.named_buffers():
        if not path.endswith("num_batches_tracked"):
            tensors[f"after.{path}"] = sample(value)
    about = f"torchvision {torchvision.__version__}, torch {torch.__version__}"
    path = out / f"resnet-{case}.safetensors"
    path.write_bytes(in_fixed_order(safetensors.numpy.save(
        tensors, {"about": about, "model": name, "small": "true" if small else "false",
                  "size": str(size), "classes": str(CLASSES)})))
    norm = math.sqrt(sum(v[0] ** 2 for n, v in tensors.items() if n.startswith("train.")))
    print(f"{path.name}: {path.stat().st_size} bytes, logits up to "
          f"{abs(tensors['logits.train']).max():.3f}, gradient norm {norm:.3f}")


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        make_case(*case, out)


if __name__ == "__main__":
    main()
