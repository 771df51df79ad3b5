"""Golden values of plain vision transformers as timm has them, under timm's names.

Run by hand from the root of the source tree:

    /usr/bin/python3 -m venv --system-site-packages /tmp/gvenv  # python3-torch, -torchvision
    /tmp/gvenv/bin/pip install "safetensors>=0.8"
    /tmp/gvenv/bin/pip install --no-deps timm huggingface_hub
    OMP_NUM_THREADS=1 /tmp/gvenv/bin/python tests/reference/golden_timm.py OUT_DIR

It makes small models of timm.models.vision_transformer with all parameters random and writes
OUT_DIR/timm-CASE.safetensors for every case: the state_dict (f32, timm's names and layouts),
golden.images (f32, (3, 3, 16, 16), NCHW) and golden.logits (f64, (3, 5)). The logits are those
of the f32 values in the file, in evaluation mode and f64 arithmetic. Metadata: "set" (settings of
our program as key=value lines), "about", "timm" (its version). The cases split and split-proj hold
the model of token with attn.qkv cut into three tensors.

The other direction reads a plain vision transformer that another program wrote under timm's names:

    ... golden_timm.py --read FILE --images IMAGES --heads 3 --gelu erf

builds the timm model whose sizes follow from the tensors of FILE, loads all of them (a name too
many or too few is an error; names that begin with "golden." do not count), runs the tensor
"images" of the file IMAGES in f64 and prints the logits, one image a line.
"""

import argparse
import contextlib
import functools
import pathlib
import sys

import numpy
import safetensors.numpy
import torch
from torch import nn

from golden_vmoe import in_fixed_order

# Standard output is for the logits; the import may print notes about parts not needed here.
with contextlib.redirect_stdout(sys.stderr):
    import timm
    from timm.models.vision_transformer import VisionTransformer

# name, names of q, k and v (None: one tensor, as timm has it), pooling, what it is for
CASES = [
    ("token", None, "token", "class token"),
    ("mean", None, "mean", "no class token, mean over the patches after the norm"),
    ("split", ("q", "k", "v"), "token", "the model of token with attn.q, attn.k and attn.v"),
    ("split-proj", ("q_proj", "k_proj", "v_proj"), "token",
     "the model of token with attn.q_proj, attn.k_proj and attn.v_proj"),
]
SEED, BATCH = 1, 3
SIZES = {"img_size": 16, "patch_size": 4, "in_chans": 3, "num_classes": 5, "embed_dim": 24,
         "depth": 2, "num_heads": 3, "mlp_ratio": 2}
SETTINGS = {"model.width": 24, "model.mlp": 48, "model.heads": 3, "model.layers": 2,
            "model.patch": 4, "model.image_size": 16, "model.channels": 3, "model.classes": 5,
            "model.gelu": "erf"}


def make_model(sizes, pool, gelu="erf"):
    """The model in f64, ready to evaluate."""
    pooling = {"token": {"class_token": True, "global_pool": "token"},
               "mean": {"class_token": False, "global_pool": "avg", "fc_norm": False}}[pool]
    act = {"erf": nn.GELU, "tanh": functools.partial(nn.GELU, approximate="tanh")}[gelu]
    model = VisionTransformer(**sizes, **pooling, act_layer=act).double().eval()
    norms = [m for m in model.modules() if isinstance(m, nn.LayerNorm)]
    assert len(norms) == 2 * sizes["depth"] + 1 and all(m.eps == 1e-6 for m in norms)
    return model


def random_tensor(random, name, shape):
    """Kernels of a scale that leaves attention far from uniform, nothing near zero."""
    if "norm" in name:
        scale, mean = 0.3, float(name.endswith(".weight"))
    elif name.endswith(".bias"):
        scale, mean = 0.3, 0.0
    elif name.endswith(".weight"):
        scale, mean = 1.3 / numpy.sqrt(numpy.prod(shape[1:])), 0.0
    else:  # cls_token, pos_embed
        scale, mean = 0.7, 0.0
    return (mean + scale * random.standard_normal(shape)).astype(numpy.float32)


def load(model, tensors):
    tensors = {name: torch.from_numpy(a.astype(numpy.float64)) for name, a in tensors.items()}
    model.load_state_dict(tensors, strict=True)


def run(model, images):
    with torch.no_grad():
        return model(torch.from_numpy(images.astype(numpy.float64))).numpy()


def check_sensitivity(model, images):
    """Every tensor matters, and so does every third of qkv but the bias of the keys."""
    model.zero_grad()
    (model(torch.from_numpy(images).double()) ** 2).sum().backward()
    for name, p in model.named_parameters():
        parts = p.grad.chunk(3) if ".qkv." in name else [p.grad]
        for i, part in enumerate(parts):
            key_bias = name.endswith(".qkv.bias") and i == 1  # the softmax cancels it
            assert key_bias or float(part.norm()) > 0.1, (name, i)


def split_qkv(tensors, parts):
    """The same tensors with every attn.qkv cut into those of q, k and v."""
    out = {}
    for name, a in tensors.items():
        if ".qkv." not in name:
            out[name] = a
            continue
        for part, rows in zip(parts, numpy.split(a, 3)):
            out[name.replace(".qkv.", f".{part}.")] = rows.copy()
    return out


def write_case(folder, name, parts, pool, about):
    random = numpy.random.default_rng(SEED)  # the same for all: split is the model of token
    model = make_model(SIZES, pool)
    tensors = {key: random_tensor(random, key, tuple(value.shape))
               for key, value in model.state_dict().items()}
    shape = (BATCH, SIZES["in_chans"], SIZES["img_size"], SIZES["img_size"])
    images = random.standard_normal(shape).astype(numpy.float32)
    load(model, tensors)
    logits = run(model, images)
    check_sensitivity(model, images)
    if parts:
        tensors = split_qkv(tensors, parts)
    settings = {**SETTINGS, "model.pool": pool, "moe.layers": "none"}
    metadata = {"about": about, "timm": timm.__version__,
                "set": "".join(f"{key}={value}\n" for key, value in settings.items())}
    path = folder / f"timm-{name}.safetensors"
    path.write_bytes(in_fixed_order(safetensors.numpy.save(
        {**tensors, "golden.images": images, "golden.logits": logits}, metadata)))
    print(f"{path.name}: {path.stat().st_size} bytes, logits of the first image "
          + " ".join(f"{v:.6f}" for v in logits[0]), flush=True)


def sizes_of(tensors, heads):
    """The arguments of the model, and its pooling, from the shapes of its tensors."""
    width, channels, patch, _ = tensors["patch_embed.proj.weight"].shape
    class_token = "cls_token" in tensors
    patches = tensors["pos_embed"].shape[1] - class_token
    grid = round(patches ** 0.5)
    assert grid * grid == patches, f"{patches} patches are not a square"
    sizes = {"img_size": grid * patch, "patch_size": patch, "in_chans": channels,
             "num_classes": len(tensors["head.bias"]), "embed_dim": width, "num_heads": heads,
             "depth": len({name.split(".")[1] for name in tensors if name.startswith("blocks.")}),
             "mlp_ratio": len(tensors["blocks.0.mlp.fc1.bias"]) / width}
    return sizes, "token" if class_token else "mean"


def read(file, images, heads, gelu):
    tensors = {name: a for name, a in safetensors.numpy.load_file(file).items()
               if not name.startswith("golden.")}
    model = make_model(*sizes_of(tensors, heads), gelu)
    load(model, tensors)
    for row in run(model, safetensors.numpy.load_file(images)["images"]):
        print(" ".join(f"{value:.9g}" for value in row))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=pathlib.Path, metavar="OUT_DIR")
    parser.add_argument("--read", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--images", type=pathlib.Path)
    parser.add_argument("--heads", type=int)
    parser.add_argument("--gelu", choices=("erf", "tanh"), default="erf")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.read:
        if not (given.images and given.heads):
            parser.error("--read needs --images and --heads")
        read(given.read, given.images, given.heads, given.gelu)
    elif given.folder:
        given.folder.mkdir(parents=True, exist_ok=True)
        for case in CASES:
            write_case(given.folder, *case)
    else:
        parser.error("OUT_DIR or --read FILE")


if __name__ == "__main__":
    main()
