#!/usr/bin/env python3
"""Learning rates of PyTorch's schedulers, chained as the code of Robust Experts chains them.

Prints the constants of tests/train/schedule_test.cc. The main schedule is made first and the
linear warm-up after it, since a scheduler sets the first rate when it is made; then a step of the
chain steps the warm-up first. Needs PyTorch (2.15 gave the numbers there).
"""

import warnings

import torch
from torch.optim.lr_scheduler import (
    ChainedScheduler, CosineAnnealingLR, LambdaLR, LinearLR, StepLR)

warnings.filterwarnings("ignore")  # of optimizers whose parameters have no gradient


def rates(epochs, peak, main, warmup_epochs=None):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    schedule = main(optimizer)
    if warmup_epochs is not None:
        warmup = LinearLR(optimizer, start_factor=0.01, end_factor=1, total_iters=warmup_epochs)
        schedule = ChainedScheduler((warmup, schedule))
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def show(name, values):
    print(f"constexpr double {name}[] = {{")
    for i in range(0, len(values), 4):
        print("    " + " ".join(f"{v!r}," for v in values[i:i + 4]))
    print("};")


show("kRsmPolynomial",
     rates(100, 0.1, lambda o: LambdaLR(o, lambda e: (1 - e / 100) ** 0.9), warmup_epochs=0))
show("kRsmCosine",
     rates(30, 0.1, lambda o: CosineAnnealingLR(o, T_max=25, eta_min=5e-5), warmup_epochs=5))
show("kRsmCosineCold",
     rates(12, 0.1, lambda o: CosineAnnealingLR(o, T_max=12, eta_min=0), warmup_epochs=0))
show("kRsmCosineLongWarmup",
     rates(12, 0.1, lambda o: CosineAnnealingLR(o, T_max=3, eta_min=1e-5), warmup_epochs=9))
by_steps = rates(90, 0.1, lambda o: StepLR(o, step_size=30, gamma=0.1))
show("kStep", [by_steps[e] for e in (0, 29, 30, 59, 60, 89)])
