"""A training step of a V-MoE with PRC in PyTorch: a peer of `robustmoe bench train`.

    python -m venv VENV && VENV/bin/pip install torch numpy
    VENV/bin/python tools/bench/peers/torch_step.py [--bf16] [--compile] [--threads 2] [--steps 5]
    python3 tools/bench/peers/torch_step.py --work s32 --device cuda --pairs 512 --bf16 [--compile]

The work "small" is that of the recipe cifar10-small-prc: 64 pairs of views of 32 x 32, patches of 4, width 192,
hidden width 768, 3 heads, 8 blocks, of which those at 5 and 7 have 8 experts, two for each token, chosen
under noise; cross-entropy plus PRC on the pairs' clean probabilities; Adam, without clipping. "s32" is that of
prc-s32-imagenet (dropless, without expert dropout): views of 224 x 224, patches of 32, width 512, hidden width
2048, 8 heads, 1000 classes. Tokens are sorted by expert once a layer and experts' weights lie in one tensor, so
that there is no search for an expert's tokens: one product an expert, or on a GPU in bf16
torch.nn.functional.grouped_mm where PyTorch has it, which needs no number on the host; Adam is fused. --compile
compiles model, loss and gradient, except the loop over experts. The last line is JSON: median step in ms and views per
second.
"""

import argparse
import json
import math
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

WORKS = {"small": (192, 768, 3, 8, 4, 32, 10), "s32": (512, 2048, 8, 8, 32, 224, 1000)}
WIDTH, HIDDEN, HEADS, BLOCKS, PATCH, SIZE, CLASSES = WORKS["small"]
EXPERTS, CHOICES, MOE_BLOCKS = 8, 2, (5, 7)
DEVICE = "cpu"
GROUPED = getattr(F, "grouped_mm", None) or getattr(torch, "_grouped_mm", None)


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x):
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class Experts(nn.Module):
    """Rows sorted by expert through two products, `counts` rows an expert."""

    def __init__(self):
        super().__init__()
        self.up = nn.Parameter(torch.randn(EXPERTS, WIDTH, HIDDEN) / math.sqrt(WIDTH))
        self.up_bias = nn.Parameter(torch.zeros(EXPERTS, HIDDEN))
        self.down = nn.Parameter(torch.randn(EXPERTS, HIDDEN, WIDTH) / math.sqrt(HIDDEN))
        self.down_bias = nn.Parameter(torch.zeros(EXPERTS, WIDTH))

    def forward(self, rows, counts):
        if DEVICE == "cuda" and GROUPED is not None and torch.is_autocast_enabled("cuda"):
            return self.grouped(rows, counts)
        return self.one_by_one(rows, counts)

    def grouped(self, rows, counts):
        ends = counts.cumsum(0).to(torch.int32)
        expert = torch.repeat_interleave(torch.arange(EXPERTS, device=rows.device), counts, output_size=len(rows))
        up, down = self.up.to(torch.bfloat16), self.down.to(torch.bfloat16)
        hidden = GROUPED(rows.to(torch.bfloat16), up, offs=ends) + self.up_bias.to(torch.bfloat16)[expert]
        hidden = F.gelu(hidden, approximate="tanh")
        return GROUPED(hidden, down, offs=ends) + self.down_bias.to(torch.bfloat16)[expert]

    @torch.compiler.disable  # how many rows an expert has changes: compiled again and again otherwise
    def one_by_one(self, rows, counts):
        out = []
        for e, part in enumerate(torch.split(rows, counts.tolist())):
            hidden = F.gelu(torch.addmm(self.up_bias[e], part, self.up[e]), approximate="tanh")
            out.append(torch.addmm(self.down_bias[e], hidden, self.down[e]))
        return torch.cat(out)


class Moe(nn.Module):
    def __init__(self):
        super().__init__()
        self.router, self.experts = nn.Linear(WIDTH, EXPERTS, bias=False), Experts()

    def forward(self, x):
        tokens = x.reshape(-1, WIDTH)
        with torch.autocast(DEVICE, enabled=False):  # routers stay f32
            logits = self.router(tokens.float())
            clean = logits.softmax(-1)
            gates = (logits + torch.randn_like(logits) / EXPERTS).softmax(-1)
            weight, chosen = gates.topk(CHOICES, -1)
        order = chosen.reshape(-1).argsort(stable=True)
        rows = self.experts(tokens[order // CHOICES], torch.bincount(chosen.reshape(-1), minlength=EXPERTS))
        place = torch.empty_like(order)
        place[order] = torch.arange(order.numel(), device=order.device)
        chosen_rows = rows[place].reshape(-1, CHOICES, WIDTH)
        out = (chosen_rows * weight.unsqueeze(-1)).sum(1)
        return out.reshape(x.shape), clean


class Block(nn.Module):
    def __init__(self, moe):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = Moe() if moe else Mlp()
        self.moe = moe

    def forward(self, x):
        images, tokens, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(images, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = x + self.out(mixed)
        y = self.mlp(self.norm2(x))
        return (x + y[0], y[1]) if self.moe else (x + y, None)


class Vit(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Linear(3 * PATCH * PATCH, WIDTH)
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.position = nn.Parameter(torch.randn(1, (SIZE // PATCH) ** 2 + 1, WIDTH) * 0.02)
        self.blocks = nn.ModuleList(Block(i in MOE_BLOCKS) for i in range(BLOCKS))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, images):
        x = self.patches(F.unfold(images, PATCH, stride=PATCH).transpose(1, 2))
        x = torch.cat([self.token.expand(len(x), -1, -1).to(x.dtype), x], 1) + self.position
        routed = []
        for block in self.blocks:
            x, clean = block(x)
            if clean is not None:
                routed.append(clean)
        return self.head(self.norm(x)[:, 0]), routed


def prc(clean):
    """The paper's Eq. 4 of one layer; views 1 come before views 2, patch for patch."""
    first, second = clean.reshape(2, -1, EXPERTS)
    s = first.t() @ second * EXPERTS / first.shape[0]
    diagonal = s.diagonal()
    off = (s * s).sum() - (diagonal * diagonal).sum()
    return 5e-3 * ((1 - diagonal) ** 2).mean() + 5e-2 * off / (EXPERTS * (EXPERTS - 1))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--work", choices=sorted(WORKS), default="small")
    options.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options.add_argument("--pairs", type=int, default=64)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--steps", type=int, default=5)
    options.add_argument("--bf16", action="store_true")
    options.add_argument("--compile", action="store_true")
    options = options.parse_args()
    global WIDTH, HIDDEN, HEADS, BLOCKS, PATCH, SIZE, CLASSES, DEVICE
    WIDTH, HIDDEN, HEADS, BLOCKS, PATCH, SIZE, CLASSES = WORKS[options.work]
    DEVICE = options.device
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    model = Vit().to(DEVICE)
    adam = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0, fused=True)
    images = torch.randn(2 * options.pairs, 3, SIZE, SIZE, device=DEVICE)
    labels = torch.randint(0, CLASSES, (options.pairs,), device=DEVICE).repeat(2)

    def loss_of(images, labels):
        with torch.autocast(DEVICE, torch.bfloat16, enabled=options.bf16):
            logits, routed = model(images)
        return F.cross_entropy(logits.float(), labels) + sum(prc(clean) for clean in routed)

    run = torch.compile(loss_of) if options.compile else loss_of

    def step():
        adam.zero_grad(set_to_none=True)
        loss = run(images, labels)
        loss.backward()
        adam.step()
        return loss.item()  # waits for the device

    for _ in range(3):
        step()
    seconds = []
    for _ in range(options.steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    print(json.dumps({"peer": "torch " + torch.__version__, "precision": "bf16" if options.bf16 else "f32",
                      "compiled": options.compile, "threads": options.threads, "device": DEVICE,
                      "grouped_mm": DEVICE == "cuda" and options.bf16 and GROUPED is not None, "step_ms": 1e3 * median,
                      "views_per_s": 2 * options.pairs / median}))


if __name__ == "__main__":
    main()
