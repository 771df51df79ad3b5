"""Training steps of ResNet-18 on images of 32 px in turn: ours and PyTorch's, f32.

    python -m venv VENV && VENV/bin/pip install torch torchvision
    VENV/bin/python tools/bench/peers/resnet_step.py [--rounds 5] [--threads 2] [--batch 128] [--program build/release/robustmoe]

The work is a step of the recipe cifar100-resnet18 on synthetic images: forward, cross-entropy, backward,
SGD with Nesterov's momentum and weight decay, in training mode. PyTorch runs torchvision's resnet18 with the
stem for small images, on its default oneDNN, eager, in both memory formats. In every round each contender runs
once, one after the other; printed are medians over rounds of images per second, and of each round's ratio of
ours to the better of the peers. Neither has a loader.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent


def torch_rate(options):
    """Images per second, as the median of seven steps after two."""
    import torch
    import torchvision
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=100)
    model.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    model.maxpool = torch.nn.Identity()
    images, labels = torch.rand(options.batch, 3, 32, 32), torch.randint(0, 100, (options.batch,))
    if options.peer == "channels_last":
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=.1, momentum=.9, nesterov=True, weight_decay=5e-4)
    seconds = []
    for _ in range(9):
        begin = time.perf_counter()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begin)
    print(json.dumps({"views_per_s": options.batch / statistics.median(seconds[2:]),
                      "version": torch.__version__}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--program", default=str(HERE.parents[2] / "build/release/robustmoe"))
    parser.add_argument("--peer", choices=["contiguous", "channels_last"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        return torch_rate(options)
    cores = len(os.sched_getaffinity(0))
    if not 1 <= options.threads <= cores:
        sys.exit(f"resnet_step.py: --threads is {options.threads}, expected 1 to {cores}")
    size = ["--threads", str(options.threads)]
    ours = [options.program, "bench", "train", "--recipe", "cifar100-resnet18", "--json", "-", "--set",
            f"train.batch={options.batch}", "--set", "model.classes=100", "--set", "model.channels=3"]
    torch = [sys.executable, __file__, "--batch", str(options.batch), "--peer"]
    contenders = {"ours": ours + size, "torch contiguous": torch + ["contiguous"] + size,
                  "torch channels_last": torch + ["channels_last"] + size}
    rates = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, command in contenders.items():
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f"resnet_step.py: {' '.join(command)} failed:\n{done.stderr[-2000:]}")
            figures = json.loads(done.stdout.strip().splitlines()[-1])
            rates[name].append(figures["views_per_s"])
            version = figures.get("version", "")
    for name, values in rates.items():
        print(f"{name:20} {statistics.median(values):8.1f} images/s ({min(values):.1f} to {max(values):.1f})")
    best = [max(a, b) for a, b in zip(rates["torch contiguous"], rates["torch channels_last"])]
    ratio = statistics.median(o / b for o, b in zip(rates["ours"], best))
    print(f"ours / the better of torch {version}: {ratio:.2f}, median of {options.rounds} rounds, "
          f"{options.threads} threads, batch {options.batch}")


if __name__ == "__main__":
    main()
