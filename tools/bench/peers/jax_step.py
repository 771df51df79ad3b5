"""A training step of a small V-MoE with PRC in jitted JAX on the CPU: a peer of `robustmoe bench train`.

    python -m venv VENV && VENV/bin/pip install jax
    taskset -c 0,1 VENV/bin/python tools/bench/peers/jax_step.py [--bf16] [--steps 5]

The work is torch_step.py's. XLA wants shapes that do not depend on the routing: tokens are sorted by expert
once a layer, each expert's are padded to whole blocks of 128, and a batched product takes each block's
expert. No token is dropped. --ragged takes jax.lax.ragged_dot instead. The whole step is one compiled
function that reuses its arguments' memory. XLA takes the cores it may run on: taskset says which. The last
line is JSON: median step in ms and views per second.
"""

import argparse
import functools
import json
import math
import os
import statistics
import time

import jax
import jax.numpy as jnp

WIDTH, HIDDEN, HEADS, BLOCKS, PATCH, SIZE, CLASSES = 192, 768, 3, 8, 4, 32, 10
EXPERTS, CHOICES, MOE_BLOCKS, ROWS = 8, 2, (5, 7), 128


def initial(key):
    keys = iter(jax.random.split(key, 200))

    def matrix(*shape):
        return jax.random.normal(next(keys), shape) / math.sqrt(shape[-2])

    def norm():
        return {"scale": jnp.ones(WIDTH), "bias": jnp.zeros(WIDTH)}

    def mlp(*experts):
        return {"up": matrix(*experts, WIDTH, HIDDEN), "up_bias": jnp.zeros((*experts, HIDDEN)),
                "down": matrix(*experts, HIDDEN, WIDTH), "down_bias": jnp.zeros((*experts, WIDTH))}

    def block(i):
        params = {"norm1": norm(), "norm2": norm(), "qkv": matrix(WIDTH, 3 * WIDTH), "qkv_bias": jnp.zeros(3 * WIDTH),
                  "out": matrix(WIDTH, WIDTH), "out_bias": jnp.zeros(WIDTH)}
        if i in MOE_BLOCKS:
            return params | {"router": matrix(WIDTH, EXPERTS), "mlp": mlp(EXPERTS)}
        return params | {"mlp": mlp()}

    tokens = (SIZE // PATCH) ** 2 + 1
    return {"patches": matrix(3 * PATCH * PATCH, WIDTH), "patches_bias": jnp.zeros(WIDTH),
            "token": jnp.zeros((1, 1, WIDTH)), "position": 0.02 * jax.random.normal(next(keys), (1, tokens, WIDTH)),
            "blocks": [block(i) for i in range(BLOCKS)], "norm": norm(),
            "head": matrix(WIDTH, CLASSES), "head_bias": jnp.zeros(CLASSES)}


def normalised(p, x):
    mean = x.mean(-1, keepdims=True)
    centred = x - mean
    return centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def product(options, a, b, equation="...k,kn->...n"):
    """In bf16 operands are rounded and the result is f32."""
    if options.bf16:
        a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    return jnp.einsum(equation, a, b, preferred_element_type=jnp.float32)


def ragged(options, a, b, counts):
    if options.bf16:
        a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    return jax.lax.ragged_dot(a, b, counts, preferred_element_type=jnp.float32)


def attention(options, p, x):
    images, tokens, _ = x.shape
    qkv = product(options, x, p["qkv"]) + p["qkv_bias"]
    q, k, v = jnp.moveaxis(qkv.reshape(images, tokens, 3, HEADS, WIDTH // HEADS), 2, 0)
    scores = product(options, q, k, "bqhd,bkhd->bhqk") / math.sqrt(WIDTH // HEADS)
    mixed = product(options, jax.nn.softmax(scores, -1), v, "bhqk,bkhd->bqhd")
    return product(options, mixed.reshape(x.shape), p["out"]) + p["out_bias"]


def experts_in_blocks(options, p, tokens, chosen):
    """Each token's rows from its experts: (tokens, CHOICES, WIDTH)."""
    flat = chosen.reshape(-1)
    order = jnp.argsort(flat, stable=True)
    counts = jnp.bincount(flat, length=EXPERTS)
    blocks = (counts + ROWS - 1) // ROWS
    ends = jnp.cumsum(blocks)
    rank = jnp.arange(flat.size) - (jnp.cumsum(counts) - counts)[flat[order]]
    place = ((ends - blocks)[flat[order]] * ROWS + rank)  # of each sorted row among the padded ones
    all_blocks = -(-flat.size // ROWS) + EXPERTS
    source = jnp.full(all_blocks * ROWS, tokens.shape[0], jnp.int32).at[place].set(order // CHOICES)
    expert = jnp.minimum(jnp.searchsorted(ends, jnp.arange(all_blocks), side="right"), EXPERTS - 1)
    padded = jnp.concatenate([tokens, jnp.zeros((1, WIDTH), tokens.dtype)])
    rows = padded[source].reshape(all_blocks, ROWS, WIDTH)
    hidden = product(options, rows, p["up"][expert], "bmk,bkn->bmn") + p["up_bias"][expert][:, None]
    out = product(options, jax.nn.gelu(hidden), p["down"][expert], "bmk,bkn->bmn") + p["down_bias"][expert][:, None]
    at = jnp.zeros(flat.size, jnp.int32).at[order].set(place)
    return out.reshape(-1, WIDTH)[at].reshape(-1, CHOICES, WIDTH)


def experts_ragged(options, p, tokens, chosen):
    flat = chosen.reshape(-1)
    order = jnp.argsort(flat, stable=True)
    counts = jnp.bincount(flat, length=EXPERTS)
    sorted_expert = flat[order]
    hidden = ragged(options, tokens[order // CHOICES], p["up"], counts) + p["up_bias"][sorted_expert]
    out = ragged(options, jax.nn.gelu(hidden), p["down"], counts) + p["down_bias"][sorted_expert]
    return jnp.zeros_like(out).at[order].set(out).reshape(-1, CHOICES, WIDTH)


def moe(options, p, x, key):
    tokens = x.reshape(-1, WIDTH)
    logits = tokens @ p["router"]  # routers stay f32
    gates = jax.nn.softmax(logits + jax.random.normal(key, logits.shape) / EXPERTS, -1)
    weight, chosen = jax.lax.top_k(gates, CHOICES)
    experts = experts_ragged if options.ragged else experts_in_blocks
    out = (experts(options, p["mlp"], tokens, chosen) * weight[..., None]).sum(1)
    return out.reshape(x.shape), jax.nn.softmax(logits, -1)


def mlp(options, p, x):
    hidden = jax.nn.gelu(product(options, x, p["up"]) + p["up_bias"])
    return product(options, hidden, p["down"]) + p["down_bias"]


def prc(clean):
    """The paper's Eq. 4 of one layer; views 1 come before views 2, patch for patch."""
    first, second = clean.reshape(2, -1, EXPERTS)
    s = first.T @ second * EXPERTS / first.shape[0]
    diagonal = jnp.diagonal(s)
    off = (s * s).sum() - (diagonal * diagonal).sum()
    return 5e-3 * ((1 - diagonal) ** 2).mean() + 5e-2 * off / (EXPERTS * (EXPERTS - 1))


def loss_of(options, params, images, labels, key):
    side = SIZE // PATCH
    x = images.reshape(-1, 3, side, PATCH, side, PATCH).transpose(0, 2, 4, 1, 3, 5).reshape(-1, side * side, 3 * PATCH**2)
    x = product(options, x, params["patches"]) + params["patches_bias"]
    x = jnp.concatenate([jnp.broadcast_to(params["token"], (len(x), 1, WIDTH)), x], 1) + params["position"]
    loss = 0.0
    for i, p in enumerate(params["blocks"]):
        x = x + attention(options, p, normalised(p["norm1"], x))
        if i in MOE_BLOCKS:
            y, clean = moe(options, p, normalised(p["norm2"], x), jax.random.fold_in(key, i))
            loss += prc(clean)
        else:
            y = mlp(options, p["mlp"], normalised(p["norm2"], x))
        x = x + y
    logits = product(options, normalised(params["norm"], x)[:, 0], params["head"]) + params["head_bias"]
    return loss - jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


def adam(params, first, second, gradient, count):
    def one(p, m, v, g):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        return p - 1e-3 * (m / (1 - 0.9**count)) / (jnp.sqrt(v / (1 - 0.999**count)) + 1e-8), m, v

    out = jax.tree.map(one, params, first, second, gradient)
    return tuple(jax.tree.map(lambda t, i=i: t[i], out, is_leaf=lambda t: isinstance(t, tuple)) for i in range(3))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--pairs", type=int, default=64)
    options.add_argument("--steps", type=int, default=5)
    options.add_argument("--bf16", action="store_true")
    options.add_argument("--ragged", action="store_true")
    options = options.parse_args()

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(params, first, second, count, key, images, labels):
        loss, gradient = jax.value_and_grad(functools.partial(loss_of, options))(params, images, labels, key)
        return *adam(params, first, second, gradient, count), loss

    key = jax.random.key(0)
    params = initial(key)
    first, second = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
    images = jax.random.normal(key, (2 * options.pairs, 3, SIZE, SIZE))
    labels = jnp.tile(jax.random.randint(key, (options.pairs,), 0, CLASSES), 2)
    seconds = []
    for i in range(3 + options.steps):
        start = time.perf_counter()
        params, first, second, loss = step(params, first, second, float(i + 1), jax.random.fold_in(key, i), images, labels)
        value = loss.item()
        if not math.isfinite(value):
            raise SystemExit(f"jax_step.py: the loss of step {i} is {value}")
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds[3:])
    print(json.dumps({"peer": "jax " + jax.__version__, "precision": "bf16" if options.bf16 else "f32", "loss": value,
                      "threads": len(os.sched_getaffinity(0)), "step_ms": 1e3 * median,
                      "views_per_s": 2 * options.pairs / median}))


if __name__ == "__main__":
    main()
