"""Training steps of cifar10-small-prc in turn: ours, PyTorch's and JAX's, f32 and bf16.

    python -m venv VENV && VENV/bin/pip install torch numpy jax
    VENV/bin/python tools/bench/peers/train_step.py [--rounds 5] [--threads 2] [--precision both] [--program build/release/robustmoe]

In every round each contender runs once, one after the other. Printed are the medians over rounds of views
per second, and of each round's ratio of ours to the best of the peers. See torch_step.py for the peers' work;
it does not clip, and it has no loader, as `robustmoe bench train` has none. A peer that is not installed is an
error unless --without names it.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
PEERS = ["torch eager", "torch compiled", "jax jitted"]


def views_per_s(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"train_step.py: {' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--program", default=str(HERE.parents[2] / "build/release/robustmoe"))
    options.add_argument("--precision", choices=["f32", "bf16", "both"], default="both",
                         help="bf16 is for machines with AMX")
    options.add_argument("--without", choices=PEERS, action="append", default=[], help="leave out a peer")
    options = options.parse_args()
    if set(options.without) == set(PEERS):
        sys.exit("train_step.py: --without names every peer, expected one to be left")
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= options.threads <= len(cores):
        sys.exit(f"train_step.py: --threads is {options.threads}, expected 1 to {len(cores)}")
    contenders = {}
    precisions = ["f32", "bf16"] if options.precision == "both" else [options.precision]
    for precision in precisions:
        ours = [options.program, "bench", "train", "--recipe", "cifar10-small-prc", "--json", "-",
                "--threads", str(options.threads), "--set", f"train.precision={precision}"]
        torch = [sys.executable, str(HERE / "torch_step.py"), "--threads", str(options.threads)]
        jax = ["taskset", "-c", ",".join(map(str, cores[:options.threads])), sys.executable, str(HERE / "jax_step.py")]
        flags = ["--bf16"] if precision == "bf16" else []
        commands = [torch + flags, torch + flags + ["--compile"], jax + flags]
        contenders[precision, "ours"] = ours
        for name, command in zip(PEERS, commands):
            if name not in options.without:
                contenders[precision, name] = command
    rates = {key: [] for key in contenders}
    peers = set()
    for _ in range(options.rounds):
        for key, command in contenders.items():
            result = views_per_s(command)
            rates[key].append(result["views_per_s"])
            peers.add(result.get("peer", ""))
    print(f"cifar10-small-prc, {options.threads} threads, {options.rounds} rounds; {', '.join(sorted(peers - {''}))}")
    for precision in precisions:
        names = [name for p, name in contenders if p == precision]
        for name in names:
            values = rates[precision, name]
            print(f"  {precision:5} {name:15} {statistics.median(values):7.1f} views/s"
                  f"  ({min(values):.1f} to {max(values):.1f})")
        best = [max(rates[precision, n][i] for n in names if n != "ours") for i in range(options.rounds)]
        ratio = statistics.median(o / b for o, b in zip(rates[precision, "ours"], best))
        print(f"  {precision:5} ours / best peer {ratio:.2f}")
    if len(precisions) == 2:
        gain = statistics.median(b / f for b, f in zip(rates["bf16", "ours"], rates["f32", "ours"]))
        print(f"  ours bf16 / ours f32 {gain:.2f}")


if __name__ == "__main__":
    main()
