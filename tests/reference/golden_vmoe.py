"""Golden values for the V-MoE vision transformer and Pairwise Router Consistency (PRC).

An implementation of its own in PyTorch, written from a specification of the published systems and
not from any other source of this repository: forward pass, routing, dispatch, losses; gradients by
torch.autograd; Adam and SGD written out. Run by hand from the root of the source tree:

    /usr/bin/python3 -m venv --system-site-packages /tmp/gvenv  # Debian's python3-torch, -numpy
    /tmp/gvenv/bin/pip install "safetensors>=0.8"
    OMP_NUM_THREADS=1 /tmp/gvenv/bin/python tests/reference/golden_vmoe.py OUT_DIR [--check]

It asserts the specification's worked numbers, then writes OUT_DIR/vmoe-CASE.safetensors for every
case. With --check it reads each file back, builds the model again from that file alone (settings
from the metadata) and compares the gradients with finite differences.

Layouts. f64; labels, match and chosen int32. y = x W + b with W (in, out). Images (B, C, S, S);
input values of a patch in (row, column, channel) order. qkv columns: all of q, then k, then v,
each split into heads contiguously. Tokens are image-major; the class token is token 0. In
two-view batches images 2i and 2i+1 are the views of pair i, and match[i, p] is the patch of the
second that corresponds to patch p of the first (from 0, without the class token), or -1.
Metadata: "set" (settings as key=value lines), "about", "min_margin".

Soft MoE (moe.chooser=soft). The experts have P slots each, P = round(T * moe.capacity_factor / E),
half to even, T the tokens of an image with the class token. In place of router.weight a block has
router.slots (E*P, width), row e*P+p for slot p of expert e, and router.scale (1). The noise comes
on the E*P slot logits. Nothing is chosen and moe.top_k is not used.

Tensors. images, labels, match, noise.I (standard normal, MoE block I, the same in every step,
(tokens, E), with Soft MoE (tokens, E*P)), param.NAME, logits, chosen.I ((tokens, K), experts by
choice, -1 = dropped; not with Soft MoE), grad.NAME (of loss.total), adam.NAME and sgd.NAME
(weights after 5 updates on this batch, each from param.NAME).
Of shape (1): loss.total, loss.cross_entropy; loss.importance, .load, .gshard, .entropy
(unweighted, summed over layers, there if the weight is not 0); loss.prc (weighted, summed over
layers); loss.prc_diagonal, loss.prc_off_diagonal (unweighted, mean over layers).

Optimizers. Clip by global norm, then Adam or momentum, then for both decoupled weight decay of
the names ending in .weight, then the learning rate. The gradient of the key bias (middle third of
qkv.bias) is exactly zero in theory, rounding here: leave it out of comparisons.

Margins. Rounding must not decide anything. In every forward pass (the first and those of all
steps) the sorted noisy gates of a token differ by at least 1e-3 among the first K+1; with batch
priority the largest gates of the tokens of a group differ by 1e-5; the gradient norm is 1 % off
the clipping threshold. Soft MoE decides nothing: only the last applies to it, and its min_margin
is "none". Seeds are tried upwards from the one given in CASES until this holds.
"""

import collections
import itertools
import json
import math
import pathlib
import sys

import numpy
import safetensors
import safetensors.numpy
import torch
from torch.nn import functional

GATE_MARGIN, PRIORITY_MARGIN, CLIP_MARGIN = 1e-3, 1e-5, 1e-2
STEPS = 5

BASE = {
    "model.width": 8, "model.mlp": 12, "model.heads": 2, "model.layers": 3, "model.patch": 4,
    "model.image_size": 8, "model.channels": 3, "model.classes": 5, "model.gelu": "tanh",
    "model.pool": "token", "model.pre_logits": False,
    "moe.layers": [1, 2], "moe.experts": 4, "moe.top_k": 2, "moe.noise_std": 1.0,
    "moe.dispatch": "dropless", "moe.group_images": 4, "moe.importance_weight": 0.0,
    "moe.load_weight": 0.0, "prc.form": "none", "data.two_view": False,
    "train.loss": "softmax", "train.batch": 8, "train.steps": STEPS,
    "optimizer.beta1": 0.9, "optimizer.beta2": 0.999, "optimizer.eps": 1e-5,
    "optimizer.momentum": 0.9, "optimizer.weight_decay": 0.0, "optimizer.clip": 100.0,
    "schedule.kind": "cosine", "schedule.peak": 0.01, "schedule.end": 0.001,
    "schedule.warmup_steps": 1,
}
BALANCE = {"moe.importance_weight": 0.2, "moe.load_weight": 0.3}
DECAY = {"optimizer.weight_decay": 0.1, "optimizer.clip": 0.5}
LINEAR = {"schedule.kind": "linear", "schedule.warmup_steps": 2}
CONSTANT = {"schedule.kind": "constant", "schedule.end": 0.01, "schedule.warmup_steps": 0}
TOP1 = {"moe.top_k": 1}
CAPACITY = {"moe.dispatch": "capacity", "moe.capacity_factor": 0.58,
            "moe.capacity_multiple_of": 1}
PRIORITY = {**CAPACITY, "moe.batch_priority": True}
SOFT = {"moe.chooser": "soft"}
PAIRS = {"data.two_view": True, "prc.class_token": True}
PRC = {**PAIRS, "prc.form": "paper", "prc.lambda_diag": 0.6, "prc.lambda_off": 1.5}

# name, first seed, what it is for, settings that differ from BASE
CASES = [
    ("dropless-top2", 30, "dropless, K=2, noise, importance and load loss", {**BALANCE, **DECAY}),
    ("dropless-top1-sigmoid", 1, "dropless, K=1, noise, importance and load loss, sigmoid loss",
     {**BALANCE, **TOP1, **LINEAR, "train.loss": "sigmoid", "moe.noise_std": 0.8}),
    ("capacity-top2", 272, "capacity with many drops, K=2, importance and load loss",
     {**BALANCE, **CAPACITY, **CONSTANT, **DECAY}),
    ("capacity-top2-priority", 99, "capacity with many drops, K=2, batch priority",
     {**BALANCE, **PRIORITY, "moe.layers": [0, 2]}),
    ("capacity-top1-priority", 12, "capacity rounded up to 4, K=1, batch priority",
     {**BALANCE, **PRIORITY, **TOP1, **LINEAR, **DECAY, "moe.capacity_factor": 1.0,
      "moe.capacity_multiple_of": 4}),
    ("prc-paper", 35, "PRC in the paper's form, class token on, K=2",
     {**PRC, **DECAY, "optimizer.beta2": 0.95}),
    ("prc-paper-capacity-top1", 2, "PRC in the paper's form, class token off, K=1, drops",
     {**PRC, **CAPACITY, **TOP1, **LINEAR, "prc.class_token": False,
      "moe.capacity_factor": 0.75, "moe.group_images": 2}),
    ("prc-fork", 665, "PRC in the fork's form, class token on",
     {**PRC, **CONSTANT, "prc.form": "fork", "optimizer.momentum": 0.8}),
    ("prc-fork-balance", 3, "PRC in the fork's form, class token off, with importance and load",
     {**PRC, **BALANCE, **DECAY, "prc.form": "fork", "prc.class_token": False}),
    ("prc-paper-noisy", 169, "PRC in the paper's form on the noisy router outputs",
     {**PRC, **LINEAR, "prc.router": "noisy", "moe.noise_std": 2.0}),
    ("l2-balance", 459, "L2 consistency, class token on, with importance and load",
     {**PAIRS, **BALANCE, **CONSTANT, **DECAY, "prc.form": "l2", "prc.weight": 0.7}),
    ("jsd-balance", 380, "Jensen-Shannon consistency, class token off, with importance and load",
     {**PAIRS, **BALANCE, **LINEAR, "prc.form": "jsd", "prc.weight": 1.3,
      "prc.class_token": False, "optimizer.beta1": 0.8}),
    ("gshard", 129, "gshard balance loss", {"moe.gshard_weight": 0.5, **DECAY}),
    ("entropy", 506, "router entropy penalty without PRC",
     {"moe.entropy_weight": 0.3, **LINEAR, "moe.layers": [0, 1]}),
    ("erf-mean-pre-logits", 28527, "erf GELU, mean pooling, pre_logits, E=5, K=3, no noise",
     {"model.gelu": "erf", "model.pool": "mean", "model.pre_logits": True, "model.mlp": 9,
      "moe.experts": 5, "moe.top_k": 3, "moe.noise_std": 0.0, "moe.importance_weight": 0.4,
      **DECAY}),
    ("soft", 1, "Soft MoE, two slots per expert, no noise",
     {**SOFT, **DECAY, "moe.capacity_factor": 1.6, "moe.noise_std": 0.0}),
    ("soft-noise-mean", 1, "Soft MoE, two slots per expert, noise, mean pooling",
     {**SOFT, **LINEAR, "moe.capacity_factor": 2.0, "model.pool": "mean", "moe.layers": [0, 2]}),
]


class Unsuitable(Exception):
    """This seed lets rounding decide something, or does not show what the case is for."""


# ---- losses and dispatch: plain functions, checked against the specification's numbers ----

def squared_variation(v):
    mean = v.mean()
    return ((v - mean) ** 2).mean() / mean ** 2


def load_probability(logits, noisy_logits, k, sigma):
    """Mean over tokens of the chance that an expert is above the K-th largest noisy logit."""
    threshold = noisy_logits.sort(dim=1, descending=True, stable=True)[0][:, k - 1:k]
    return (1 - torch.special.ndtr((threshold - logits) / sigma)).mean(0)


def gshard_loss(noisy_gates):
    experts = noisy_gates.shape[1]
    first = functional.one_hot(noisy_gates.argmax(1), experts).to(noisy_gates.dtype)
    return experts ** 2 * (first.mean(0) * noisy_gates.mean(0)).mean()


def expert_capacity(tokens, k, factor, experts, multiple):
    return -(-math.ceil(tokens * k * factor / experts) // multiple) * multiple


def slots_per_expert(tokens, factor, experts):
    slots = round(tokens * factor / experts)  # half to even
    if slots < 1:
        raise ValueError(f"no slot: {tokens} tokens, factor {factor}, {experts} experts")
    return slots


def dispatch(gates, k, limit=None, batch_priority=False):
    """The K experts of every token of one group, (tokens, K), -1 where dropped."""
    tokens, experts = gates.shape
    chosen = gates.detach().sort(dim=1, descending=True, stable=True)[1][:, :k].clone()
    if limit is None:
        return chosen
    order = range(tokens)
    if batch_priority:
        order = gates.detach().max(1)[0].sort(dim=0, descending=True, stable=True)[1].tolist()
    requests = [0] * experts
    for choice in range(k):
        for token in order:
            expert = int(chosen[token, choice])
            if requests[expert] >= limit:
                chosen[token, choice] = -1
            requests[expert] += 1
    return chosen


def combine_weights(gates, chosen):
    """The gates of the chosen experts, zero elsewhere, (tokens, experts)."""
    kept = functional.one_hot(chosen + 1, gates.shape[1] + 1)[:, :, 1:]
    return gates * kept.sum(1)


def align(second, match):
    """The rows of the second view that belong to the slots of the first; which slots have one."""
    index = match.clamp(min=0)[:, :, None].expand(-1, -1, second.shape[2])
    return second.gather(1, index), match >= 0


def prc_terms(form, first, second, match):
    """Diagonal and off-diagonal term. first (pairs, slots, E), match: slots into second."""
    experts, slots = first.shape[2], first.shape[1]
    partner, valid = align(second, match)
    count = int(valid.sum())
    if count == 0:
        return first.sum() * 0, first.sum() * 0
    partner = partner * valid[:, :, None]
    similarity = experts / count * torch.einsum("bxe,bxf->ef", first, partner)
    if form == "paper":
        diagonal = ((1 - similarity.diagonal()) ** 2).mean()
    else:
        per_slot = experts / count * (first * partner).sum(0)
        diagonal = ((per_slot - 1) ** 2).sum() / (slots * experts)
    off = (similarity ** 2).sum() - (similarity.diagonal() ** 2).sum()
    return diagonal, off / (experts * (experts - 1))


def consistency(form, first, second, match):
    """Mean over valid pairs of the L2 distance or the Jensen-Shannon divergence."""
    partner, valid = align(second, match)
    a, b = first[valid], partner[valid]
    if form == "l2":
        return ((a - b) ** 2).sum(1).sqrt().mean()
    middle = (a + b) / 2
    return 0.5 * (a * (a / middle).log() + b * (b / middle).log()).sum(1).mean()


def class_loss(kind, logits, labels):
    if kind == "softmax":
        return functional.cross_entropy(logits, labels)
    target = functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return loss.sum(1).mean()


def learning_rate(t, kind, peak, end, warmup, steps):
    if t < warmup:
        return peak * t / warmup
    t = (t - warmup) / (steps - warmup)
    return {"constant": peak, "linear": peak - (peak - end) * t,
            "cosine": end + (peak - end) * (1 + math.cos(math.pi * t)) / 2}[kind]


# ---- the model ----

def is_soft(c):
    return c.get("moe.chooser") == "soft"


def soft_slots(c):
    """The slots of all experts together."""
    patches = (c["model.image_size"] // c["model.patch"]) ** 2
    tokens, experts = patches + (c["model.pool"] == "token"), c["moe.experts"]
    return experts * slots_per_expert(tokens, c["moe.capacity_factor"], experts)


def make_parameters(random, c):
    """All parameters random: kernels of scale 1/sqrt(inputs), nothing left at zero."""
    p = {}
    width, mlp, experts = c["model.width"], c["model.mlp"], c["moe.experts"]
    inputs = c["model.patch"] ** 2 * c["model.channels"]
    patches = (c["model.image_size"] // c["model.patch"]) ** 2
    has_class_token = c["model.pool"] == "token"

    def normal(name, shape, scale, mean=0.0):
        p[name] = torch.from_numpy(mean + scale * random.standard_normal(shape))

    def dense(name, rows, columns, *lead):
        normal(name + ".weight", (*lead, rows, columns), 1 / math.sqrt(rows))
        normal(name + ".bias", (*lead, columns), 0.1)

    def norm(name):
        normal(name + ".scale", (width,), 0.2, 1.0)
        normal(name + ".bias", (width,), 0.1)

    dense("stem.patch", inputs, width)
    if has_class_token:
        normal("stem.class_token", (width,), 0.7)
    normal("stem.position", (patches + has_class_token, width), 0.3)
    for i in range(c["model.layers"]):
        block = f"blocks.{i}."
        norm(block + "norm1")
        dense(block + "attention.qkv", width, 3 * width)
        dense(block + "attention.out", width, width)
        norm(block + "norm2")
        if i in c["moe.layers"]:
            if is_soft(c):
                normal(block + "moe.router.slots", (soft_slots(c), width), 1.0)
                normal(block + "moe.router.scale", (1,), 0.3, 3.0)
            else:
                normal(block + "moe.router.weight", (width, experts), 1.5 / math.sqrt(width))
            dense(block + "moe.experts.up", width, mlp, experts)
            dense(block + "moe.experts.down", mlp, width, experts)
        else:
            dense(block + "mlp.up", width, mlp)
            dense(block + "mlp.down", mlp, width)
    norm("head.norm")
    if c["model.pre_logits"]:
        dense("head.pre_logits", width, width)
    dense("head.output", width, c["model.classes"])
    return p


def make_batch(random, c):
    batch, classes, layers = c["train.batch"], c["model.classes"], c["moe.layers"]
    patches = (c["model.image_size"] // c["model.patch"]) ** 2
    tokens = patches + (c["model.pool"] == "token")
    shape = (batch, c["model.channels"], c["model.image_size"], c["model.image_size"])
    data = {"images": torch.from_numpy(random.standard_normal(shape))}
    if c["data.two_view"]:
        data["labels"] = torch.from_numpy(random.integers(0, classes, batch // 2).repeat(2))
        match = random.integers(-1, patches, (batch // 2, patches))
        match[0] = random.permutation([-1, 0, 2, 2])  # one without partner, two that share
        data["match"] = torch.from_numpy(match)
    else:
        data["labels"] = torch.from_numpy(random.integers(0, classes, batch))
    if c["moe.noise_std"] > 0:
        columns = soft_slots(c) if is_soft(c) else c["moe.experts"]
        for i in layers:
            noise = random.standard_normal((batch * tokens, columns))
            data[f"noise.{i}"] = torch.from_numpy(noise)
    return data


def linear(x, p, name):
    return x @ p[name + ".weight"] + p[name + ".bias"]


def layer_norm(x, p, name):
    scale, bias = p[name + ".scale"], p[name + ".bias"]
    return functional.layer_norm(x, scale.shape, scale, bias, eps=1e-6)


def gelu(x, kind):
    return functional.gelu(x, approximate={"tanh": "tanh", "erf": "none"}[kind])


def patch_rows(images, patch):
    """(B, C, S, S) to (B, patches, patch*patch*C), values in (row, column, channel) order."""
    b, channels, size, _ = images.shape
    grid = size // patch
    cut = images.reshape(b, channels, grid, patch, grid, patch).permute(0, 2, 4, 3, 5, 1)
    return cut.reshape(b, grid * grid, patch * patch * channels)


def attention(x, p, name, heads):
    b, tokens, width = x.shape
    q, k, v = (part.reshape(b, tokens, heads, width // heads).transpose(1, 2)
               for part in linear(x, p, name + ".qkv").split(width, 2))
    weights = (q @ k.transpose(2, 3) / math.sqrt(width // heads)).softmax(3)
    return linear((weights @ v).transpose(1, 2).reshape(b, tokens, width), p, name + ".out")


def all_experts(x, p, name, kind):
    """Every expert on every token, (tokens, experts, width)."""
    hidden = torch.einsum("nd,edm->nem", x, p[name + ".up.weight"]) + p[name + ".up.bias"]
    hidden = gelu(hidden, kind)
    return torch.einsum("nem,emd->ned", hidden, p[name + ".down.weight"]) + p[name + ".down.bias"]


def record_margins(gates, k, batch_priority, note):
    """How far the decisions of a group are from a tie."""
    ranked = gates.detach().sort(dim=1, descending=True)[0]
    note["gate"] = min(note["gate"], float((ranked[:, :k] - ranked[:, 1:k + 1]).min()))
    if batch_priority:
        top = ranked[:, 0].sort()[0]
        note["priority"] = min(note["priority"], float((top[1:] - top[:-1]).min()))


def router_pair_loss(c, gates, match, losses):
    """PRC or another consistency loss of one MoE layer; gates (pairs, 2, tokens, experts)."""
    first, second = gates[:, 0], gates[:, 1]
    if c["prc.class_token"]:
        match = torch.where(match < 0, match, match + 1)
        match = torch.cat([torch.zeros_like(match[:, :1]), match], 1)
    elif c["model.pool"] == "token":
        first, second = first[:, 1:], second[:, 1:]
    form = c["prc.form"]
    if form in ("l2", "jsd"):
        losses["prc"] += c["prc.weight"] * consistency(form, first, second, match)
        return
    diagonal, off = prc_terms(form, first, second, match)
    losses["prc"] += c["prc.lambda_diag"] * diagonal + c["prc.lambda_off"] * off
    losses["prc_diagonal"] += diagonal / len(c["moe.layers"])
    losses["prc_off_diagonal"] += off / len(c["moe.layers"])


def moe(c, p, data, i, x, losses, note):
    """The mixture of block i on x (B, T, width); adds its losses, returns output and choices."""
    b, tokens, width = x.shape
    name, k, experts = f"blocks.{i}.moe.", c["moe.top_k"], c["moe.experts"]
    x = x.reshape(b * tokens, width)
    logits, sigma = x @ p[name + "router.weight"], c["moe.noise_std"] / experts
    noisy_logits = logits + sigma * data[f"noise.{i}"] if sigma > 0 else logits
    clean, noisy = logits.softmax(1), noisy_logits.softmax(1)
    size = c["moe.group_images"] * tokens
    limit, priority = None, c.get("moe.batch_priority", False)
    if c["moe.dispatch"] == "capacity":
        limit = expert_capacity(size, k, c["moe.capacity_factor"], experts,
                                c["moe.capacity_multiple_of"])
    chosen = []
    for start in range(0, b * tokens, size):
        rows, part = slice(start, start + size), size / (b * tokens)
        record_margins(noisy[rows], k, priority, note)
        chosen.append(dispatch(noisy[rows], k, limit, priority))
        if priority and not torch.equal(chosen[-1], dispatch(noisy[rows], k, limit)):
            note["priority_matters"] = True
        if c["moe.importance_weight"] > 0:
            losses["importance"] += part * squared_variation(clean[rows].sum(0))
        if c["moe.load_weight"] > 0:
            losses["load"] += part * squared_variation(
                load_probability(logits[rows], noisy_logits[rows], k, sigma))
        if c.get("moe.gshard_weight", 0) > 0:
            losses["gshard"] += part * gshard_loss(noisy[rows])
    if c.get("moe.entropy_weight", 0) > 0:
        losses["entropy"] += -(clean * (clean + 1e-7).log()).sum(1).mean()
    if c["prc.form"] != "none":
        r = noisy if c.get("prc.router", "clean") == "noisy" else clean
        r = r.reshape(b // 2, 2, tokens, experts)
        router_pair_loss(c, r, data["match"], losses)
    chosen = torch.cat(chosen)
    y = all_experts(x, p, name + "experts", c["model.gelu"])
    y = (combine_weights(noisy, chosen)[:, :, None] * y).sum(1)
    return y.reshape(b, tokens, width), chosen


def unit(v):
    return v / ((v ** 2).sum(-1, keepdim=True) + 1e-6).sqrt()


def soft_moe(c, p, data, i, x):
    """The Soft MoE of block i on x (B, T, width): slots are mixtures of the tokens of an image."""
    b, tokens, width = x.shape
    name, experts = f"blocks.{i}.moe.", c["moe.experts"]
    sigma = c["moe.noise_std"] / experts
    logits = p[name + "router.scale"] * (unit(x) @ unit(p[name + "router.slots"]).T)
    if sigma > 0:
        logits = logits + sigma * data[f"noise.{i}"].reshape(logits.shape)
    # Dispatch weights sum to 1 over the tokens of an image, combine weights over all slots.
    to_slots, to_tokens = logits.softmax(1), logits.softmax(2)
    slots = (to_slots.transpose(1, 2) @ x).reshape(b, experts, -1, width)
    outputs = []
    for e in range(experts):
        up, down = ([p[f"{name}experts.{layer}.{part}"][e] for part in ("weight", "bias")]
                    for layer in ("up", "down"))
        outputs.append(gelu(slots[:, e] @ up[0] + up[1], c["model.gelu"]) @ down[0] + down[1])
    return to_tokens @ torch.cat(outputs, 1)


def forward(c, p, data):
    """Logits, losses (tensors by name), choices per MoE block, margins."""
    losses, chosen = collections.defaultdict(float), {}
    note = {"gate": math.inf, "priority": math.inf}
    x = linear(patch_rows(data["images"], c["model.patch"]), p, "stem.patch")
    if c["model.pool"] == "token":
        x = torch.cat([p["stem.class_token"].expand(len(x), 1, -1), x], 1)
    x = x + p["stem.position"]
    for i in range(c["model.layers"]):
        block = f"blocks.{i}."
        x = x + attention(layer_norm(x, p, block + "norm1"), p, block + "attention",
                          c["model.heads"])
        h = layer_norm(x, p, block + "norm2")
        if i in c["moe.layers"] and is_soft(c):
            y = soft_moe(c, p, data, i, h)
        elif i in c["moe.layers"]:
            y, chosen[i] = moe(c, p, data, i, h, losses, note)
        else:
            y = linear(gelu(linear(h, p, block + "mlp.up"), c["model.gelu"]), p, block + "mlp.down")
        x = x + y
    x = layer_norm(x, p, "head.norm")
    x = x[:, 0] if c["model.pool"] == "token" else x.mean(1)
    if c["model.pre_logits"]:
        x = torch.tanh(linear(x, p, "head.pre_logits"))
    logits = linear(x, p, "head.output")
    losses["cross_entropy"] = class_loss(c["train.loss"], logits, data["labels"])
    weighted = [c[f"moe.{name}_weight"] * losses[name]
                for name in ("importance", "load", "gshard", "entropy") if name in losses]
    losses["total"] = losses["cross_entropy"] + sum(weighted) + losses.get("prc", 0)
    return logits, losses, chosen, note


def require(condition):
    if not condition:
        raise Unsuitable


def gradients(c, p, data, least):
    """Forward and backward; asserts the margins and keeps the smallest in least."""
    p = {name: value.detach().requires_grad_() for name, value in p.items()}
    result = forward(c, p, data)
    note = result[3]
    require(note["gate"] >= GATE_MARGIN and note["priority"] >= PRIORITY_MARGIN)
    for name in least:
        least[name] = min(least[name], note[name])
    result[1]["total"].backward()
    return result, {name: value.grad for name, value in p.items()}


def train(c, p, data, kind, least):
    """The weights after STEPS updates with Adam or with SGD and momentum."""
    beta1, beta2, momentum, clip = (c["optimizer." + key]
                                    for key in ("beta1", "beta2", "momentum", "clip"))
    schedule = [c["schedule." + key] for key in ("kind", "peak", "end", "warmup_steps")]
    first, second = collections.defaultdict(float), collections.defaultdict(float)
    for t in range(STEPS):
        _, grad = gradients(c, p, data, least)
        norm = math.sqrt(sum(float((g ** 2).sum()) for g in grad.values()))
        require(abs(norm / clip - 1) > CLIP_MARGIN)
        rate = learning_rate(t, *schedule, STEPS)
        after = {}
        for name, w in p.items():
            g = grad[name] * (clip / norm) if norm >= clip else grad[name]
            if kind == "adam":
                first[name] = beta1 * first[name] + (1 - beta1) * g
                second[name] = beta2 * second[name] + (1 - beta2) * g ** 2
                update = (first[name] / (1 - beta1 ** (t + 1))) / (
                    (second[name] / (1 - beta2 ** (t + 1))).sqrt() + c["optimizer.eps"])
            else:
                update = first[name] = g + momentum * first[name]
            if name.endswith(".weight"):
                update = update + c["optimizer.weight_decay"] * w
            after[name] = w - rate * update
        p = after
    return p


# ---- files ----

def from_text(key, text):
    try:
        return json.loads(f"[{text}]" if key == "moe.layers" else text)
    except ValueError:
        return text


def in_fixed_order(file):
    """The same file with sorted metadata; the library writes it in a random order."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode().ljust(end - 8)
    assert len(text) == end - 8
    return file[:8] + text + file[end:]


def make_case(c, seed):
    """All tensors and the margins of one case, or Unsuitable."""
    random = numpy.random.default_rng(seed)
    p, data = make_parameters(random, c), make_batch(random, c)
    least = {"gate": math.inf, "priority": math.inf}
    (logits, losses, chosen, note), grad = gradients(c, p, data, least)
    if c["moe.dispatch"] == "capacity":
        require(all(int((choice < 0).sum()) > 2 for choice in chosen.values()))
        require(note.get("priority_matters", not c.get("moe.batch_priority", False)))
    tensors = {**data, "logits": logits}
    tensors.update({f"chosen.{i}": choice for i, choice in chosen.items()})
    tensors.update({f"loss.{name}": value.reshape(1) for name, value in losses.items()})
    for prefix, values in (("param", p), ("grad", grad), ("adam", train(c, p, data, "adam", least)),
                           ("sgd", train(c, p, data, "sgd", least))):
        tensors.update({f"{prefix}.{name}": value for name, value in values.items()})
    arrays = {name: value.detach().numpy() for name, value in tensors.items()}
    return {name: numpy.ascontiguousarray(a, numpy.int32 if a.dtype == numpy.int64 else a.dtype)
            for name, a in arrays.items()}, least


def write_case(folder, name, first_seed, about, settings):
    c = {**BASE, **settings}
    for seed in itertools.count(first_seed):
        try:
            tensors, least = make_case(c, seed)
            break
        except Unsuitable:
            pass
    margin = "none" if is_soft(c) else f"gate {least['gate']:.2e}"
    if least["priority"] < math.inf:
        margin += f", priority {least['priority']:.2e}"
    path = folder / f"vmoe-{name}.safetensors"
    settings = "".join(f"{key}={json.dumps(value)}\n" for key, value in c.items())
    settings = settings.translate(str.maketrans("", "", '[]" '))
    path.write_bytes(in_fixed_order(safetensors.numpy.save(
        tensors, {"about": about, "min_margin": margin, "set": settings})))
    drops = sum(int((a < 0).sum()) for n, a in tensors.items() if n.startswith("chosen"))
    norm = math.sqrt(sum((a ** 2).sum() for n, a in tensors.items() if n.startswith("grad")))
    print(f"{path.name}: {path.stat().st_size} bytes, seed {seed}, margin {margin}, {drops} drops, "
          f"gradient norm {norm:.3f}", flush=True)
    return path


# ---- checks ----

def near(value, expected, tolerance):
    value, expected = (torch.as_tensor(v, dtype=torch.float64).detach() for v in (value, expected))
    assert float((value - expected).abs().max()) <= tolerance, (value, expected)


def self_test():
    """The worked numbers of the specification."""
    f64 = lambda values: torch.tensor(values, dtype=torch.float64)  # noqa: E731
    gates = f64([[.5, .3, .2], [.6, .1, .3], [.45, .15, .4], [.2, .7, .1]])  # 2.3
    near(combine_weights(gates, dispatch(gates, 2, 1)),
         [[.5, 0, 0], [0, 0, .3], [0, 0, 0], [0, .7, 0]], 0)
    near(combine_weights(gates, dispatch(gates, 2, 1, True)),
         [[0, 0, 0], [.6, 0, .3], [0, 0, 0], [0, .7, 0]], 0)
    for s, k, factor, expected in ((400, 2, 1.05, 108), (400, 2, 4, 400), (1160, 2, 1.5, 436),
                                   (1160, 1, 1.5, 220), (136, 2, 1.5, 52), (136, 1, 1.5, 28)):
        assert expert_capacity(s, k, factor, 8, 4) == expected
    for tokens, factor, expected in ((5, 1.6, 2), (4, 1, 1), (6, 1, 2), (10, 1, 2), (14, 1, 4)):
        assert slots_per_expert(tokens, factor, 4) == expected

    logits = f64([[1, .5, 0], [.2, .1, .9], [0, 1.5, .3], [.7, .6, .5]])  # 2.5
    noisy = logits + f64([[.1, -.2, .3], [0, .2, -.1], [-.3, .1, .2], [.05, -.05, .15]])
    near(logits.softmax(1).sum(0), [1.275219, 1.526358, 1.198423], 1e-6)
    near(squared_variation(logits.softmax(1).sum(0)), .01103189, 1e-8)
    load = load_probability(logits, noisy, 2, 1 / 3)
    near(load, [.497662, .609758, .437185], 1e-6)
    near(squared_variation(load), .01928267, 1e-8)
    near(gshard_loss(noisy.softmax(1)), .98425787, 1e-8)
    v = f64([1.275219, 1.526358, 1.198423]).requires_grad_()
    near(torch.autograd.grad(squared_variation(v), v)[0], [-.027309, .066868, -.056107], 1e-6)

    eye, none = torch.eye(8, dtype=torch.float64)[None], torch.full((1, 8), -1)  # 4.1
    match = torch.arange(8)[None]
    near(prc_terms("paper", eye, eye, match), [0, 0], 0)
    near(prc_terms("paper", eye, eye, none), [0, 0], 0)
    turned = torch.cat([eye.roll(shift, 2) for shift in range(8)])  # 4.2, every D is 1/X
    near(prc_terms("fork", turned, turned, match.expand(8, 8)), [(1 - 1 / 8) ** 2, 0], 1e-12)
    even = torch.full_like(eye, 1 / 8)
    near(prc_terms("paper", even, even, match), [.765625, .015625], 1e-12)
    one = torch.zeros_like(eye)
    one[:, :, 3] = 1
    near(prc_terms("paper", one, one, match)[0], 7, 1e-12)
    halves = (eye + eye.reshape(4, 2, 8).flip(1).reshape(1, 8, 8)) / 2
    diagonal, off = prc_terms("paper", halves, halves, match)
    near(5e-3 * diagonal + 5e-2 * off, .00303571, 1e-8)

    first = f64([[[.9, .1], [.2, .8], [.6, .4]], [[.7, .3], [.1, .9], [.5, .5]]])  # 4.2
    second = f64([[[.8, .2], [.3, .7], [.55, .45]], [[.6, .4], [.2, .8], [.4, .6]]])
    match = torch.tensor([[0, 1, -1], [0, 2, 2]])
    for form, expected, total in (("paper", .163616, .00899888), ("fork", .67384533, .01155003)):
        diagonal, off = prc_terms(form, first, second, match)
        near([diagonal, off], [expected, .163616], 1e-8)
        near(5e-3 * diagonal + 5e-2 * off, total, 1e-8)

    for step, expected in ((250, .0015), (500, .003), (5250, .001505), (10000, 1e-5)):  # 3.2
        near(learning_rate(step, "cosine", .003, 1e-5, 500, 10000), expected, 1e-12)
    start = torch.full((1, 1000), -math.log(1000), dtype=torch.float64)  # 3.1
    near(class_loss("sigmoid", start, torch.tensor([7])), 7.907256, 1e-6)


def check_file(path):
    """Model and losses from the file alone; gradients against central differences."""
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
        arrays = {name: torch.from_numpy(file.get_tensor(name)) for name in file.keys()}
    c = dict(line.split("=", 1) for line in metadata["set"].splitlines())
    c = {key: from_text(key, text) for key, text in c.items()}
    wide = {n: a.long() if a.dtype == torch.int32 else a for n, a in arrays.items()}
    p = {n[6:]: a for n, a in wide.items() if n.startswith("param.")}
    logits, losses, chosen, _ = forward(c, p, wide)
    near(logits, wide["logits"], 1e-12)
    for name, value in losses.items():
        near(value, wide["loss." + name][0], 1e-12)
    assert all(torch.equal(wide[f"chosen.{i}"], choice) for i, choice in chosen.items())
    assert all(bool(torch.isfinite(a).all()) for a in arrays.values())
    random, worst, h = numpy.random.default_rng(0), 0.0, 1e-5
    for name in p:
        grad, step = wide["grad." + name], torch.from_numpy(random.standard_normal(p[name].shape))
        step = h * step / step.norm()
        up, down = (float(forward(c, {**p, name: p[name] + sign * step}, wide)[1]["total"])
                    for sign in (1, -1))
        worst = max(worst, abs((up - down) / 2 - float((grad * step).sum())) / float(grad.norm()))
    assert worst < 1e-6 * h, (path.name, worst)
    print(f"  read back; finite differences agree to {worst / h:.1e}", flush=True)


def main(folder, check):
    torch.set_num_threads(1)
    self_test()
    folder.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        path = write_case(folder, *case)
        if check:
            check_file(path)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), "--check" in sys.argv[2:])
