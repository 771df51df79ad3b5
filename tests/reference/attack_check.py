"""Our attacks against PyTorch's arithmetic: the same weights, images and starts.

Run by hand, with PyPI's torch, numpy and safetensors, on a residual network:

    robustmoe export --checkpoint RUN --out weights.safetensors
    robustmoe attack --checkpoint RUN --data SET --limit 500 --attack noise --save clean.safetensors
    python tests/reference/attack_check.py starts clean.safetensors --eps 8/255 starts.safetensors
    robustmoe attack --checkpoint RUN --data SET --limit 500 --attack pgd,apgd \\
        --starts starts.safetensors --save ours.safetensors
    python tests/reference/attack_check.py compare weights.safetensors ours.safetensors \\
        starts.safetensors --eps 8/255 --mean 0.5 --std 0.25 [--imagenet-stem]

`starts` writes a random image within eps of each clean one. `compare` runs PGD (20 steps of eps/4)
and APGD (20 steps, cross-entropy), written from the published descriptions alone, in f32 and
evaluation mode, with the published networks' operators of PyTorch, and counts the images whose
verdict (misclassified at any point of the way) differs; of those it prints the least margin, the
logit of the right class over the largest other, that the attack reached there. The exit code is 1
if fewer than 99 % agree.
"""

import argparse
import sys

import numpy
import safetensors.numpy
import torch
from torch.nn import functional


def fraction(text):
    a, _, b = text.partition("/")
    return float(a) / float(b or 1)


class Network:
    """A residual network from its weights alone, in torchvision's names."""

    def __init__(self, weights, mean, std, imagenet_stem):
        self.w = {k: torch.from_numpy(v) for k, v in weights.items()}
        self.mean = torch.tensor(mean).reshape(1, -1, 1, 1)
        self.std = torch.tensor(std).reshape(1, -1, 1, 1)
        self.imagenet_stem = imagenet_stem

    def norm(self, name, x):
        w = self.w
        return functional.batch_norm(x, w[name + ".running_mean"], w[name + ".running_var"],
                                     w[name + ".weight"], w[name + ".bias"], False, 0, 1e-5)

    def block(self, name, x, stride):
        w, y = self.w, x
        count = sum(f"{name}.conv{i}.weight" in w for i in (1, 2, 3))
        for i in range(1, count + 1):
            kernel = w[f"{name}.conv{i}.weight"]
            here = stride if i == (2 if count == 3 else 1) else 1
            y = functional.conv2d(y, kernel, stride=here, padding=kernel.shape[2] // 2)
            y = self.norm(f"{name}.bn{i}", y)
            if i < count:
                y = functional.relu(y)
        if name + ".downsample.0.weight" in w:
            x = functional.conv2d(x, w[name + ".downsample.0.weight"], stride=stride)
            x = self.norm(name + ".downsample.1", x)
        return functional.relu(x + y)

    def __call__(self, pixels):
        x = (pixels - self.mean) / self.std
        stem = self.w["conv1.weight"]
        x = functional.conv2d(x, stem, stride=2 if self.imagenet_stem else 1,
                              padding=stem.shape[2] // 2)
        x = functional.relu(self.norm("bn1", x))
        if self.imagenet_stem:
            x = functional.max_pool2d(x, 3, 2, 1)
        for stage in range(1, 5):
            i = 0
            while f"layer{stage}.{i}.conv1.weight" in self.w:
                x = self.block(f"layer{stage}.{i}", x, 2 if stage > 1 and i == 0 else 1)
                i += 1
        return x.mean((2, 3)) @ self.w["fc.weight"].T + self.w["fc.bias"]


def margins(logits, labels):
    right = logits.gather(1, labels[:, None])[:, 0]
    return right - logits.scatter(1, labels[:, None], -numpy.inf).amax(1)


class Attack:
    """Loss, gradient and the least margin so far of a batch."""

    def __init__(self, model, clean, labels, eps):
        self.model, self.clean, self.labels, self.eps = model, clean, labels, eps
        self.least = torch.full(labels.shape, numpy.inf)

    def project(self, x):
        return torch.clamp(torch.clamp(x, self.clean - self.eps, self.clean + self.eps), 0, 1)

    def look(self, x):
        x = x.detach().requires_grad_()
        logits = self.model(x)
        loss = functional.cross_entropy(logits, self.labels, reduction="none")
        gradient, = torch.autograd.grad(loss.sum(), x)
        self.least = torch.minimum(self.least, margins(logits.detach(), self.labels))
        return loss.detach(), gradient


def pgd(attack, start, steps):
    x = attack.project(start)
    for _ in range(steps):
        _, g = attack.look(x)
        x = attack.project(x + attack.eps / 4 * g.sign())
    attack.look(x)
    return attack.least


def apgd(attack, start, steps):
    x = attack.project(start)
    old = x.clone()
    loss, g = attack.look(x)
    best, best_g, best_loss = x.clone(), g.clone(), loss.clone()
    at_check = best_loss.clone()
    step = torch.full((len(x), 1, 1, 1), 2 * attack.eps)
    history = [torch.zeros_like(loss)]
    halved = torch.ones(len(x), dtype=torch.bool)
    window, since = max(int(.22 * steps), 1), 0
    for i in range(steps):
        z = attack.project(x + step * g.sign())
        a = 1.0 if i == 0 else .75
        x, old = attack.project(x + a * (z - x) + (1 - a) * (x - old)), x
        loss, g = attack.look(x)
        history.append(loss)
        better = loss > best_loss
        best[better], best_g[better] = x[better], g[better]
        best_loss = torch.maximum(best_loss, loss)
        since += 1
        if since < window:
            continue
        rises = sum((history[j] > history[j - 1]).int()
                    for j in range(len(history) - window, len(history)))
        halved = (rises <= .75 * window) | (~halved & (at_check >= best_loss))
        at_check, since = best_loss.clone(), 0
        step[halved] /= 2
        x[halved], g[halved] = best[halved], best_g[halved]
        window = max(window - max(int(.03 * steps), 1), max(int(.06 * steps), 1))
    return attack.least


def compare(args):
    model = Network(safetensors.numpy.load_file(args.weights), args.mean, args.std,
                    args.imagenet_stem)
    ours = safetensors.numpy.load_file(args.ours)
    starts = torch.from_numpy(safetensors.numpy.load_file(args.starts)["starts"])
    clean = torch.from_numpy(ours["images"])
    labels = torch.from_numpy(ours["labels"]).long()
    good = True
    with torch.no_grad():
        right = model(clean).argmax(1) == labels
    print(f"{len(labels)} images; right without an attack: ours {int(ours['right'].sum())}, "
          f"PyTorch {int(right.sum())}, differing {int((right.numpy() != ours['right']).sum())}")
    for name, run in (("pgd", pgd), ("apgd", apgd)):
        attack = Attack(model, clean, labels, args.eps)
        attack.least = torch.where(right, attack.least, torch.tensor(-1.0))
        least = run(attack, starts[:len(labels)], args.steps)
        theirs = (least <= 0).numpy()
        mine = ours[name + ".broken"].astype(bool)
        differ = numpy.flatnonzero(theirs != mine)
        share = 1 - len(differ) / len(labels)
        good &= share >= .99
        print(f"{name}: broken or wrong: ours {int(mine.sum())}, PyTorch {int(theirs.sum())}; "
              f"{100 * share:.1f} % agree")
        for i in differ:
            print(f"  image {i}: ours {'broken' if mine[i] else 'right'}, PyTorch's least margin "
                  f"{float(least[i]):.5f}")
    return 0 if good else 1


def make_starts(args):
    clean = safetensors.numpy.load_file(args.clean)["images"]
    noise = numpy.random.default_rng(1).uniform(-args.eps, args.eps, clean.shape)
    safetensors.numpy.save_file({"starts": (clean + noise).clip(0, 1).astype(numpy.float32)},
                                args.out)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(required=True)
    s = verbs.add_parser("starts")
    s.add_argument("clean")
    s.add_argument("out")
    s.add_argument("--eps", type=fraction, default=8 / 255)
    s.set_defaults(run=make_starts)
    c = verbs.add_parser("compare")
    for name in ("weights", "ours", "starts"):
        c.add_argument(name)
    c.add_argument("--eps", type=fraction, default=8 / 255)
    c.add_argument("--steps", type=int, default=20)
    c.add_argument("--mean", type=float, nargs="+", default=[.5])
    c.add_argument("--std", type=float, nargs="+", default=[.25])
    c.add_argument("--imagenet-stem", action="store_true")
    c.set_defaults(run=compare)
    args = parser.parse_args()
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
