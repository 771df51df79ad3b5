#pragma once

#include "tools/commands/options.h"

namespace tools {

// `bench ops`: the rate of every matrix product of a recipe's training step, forward and both
// gradients, of layer norm and attention, beside what this machine can do at most, and an MoE
// layer beside a dense one, by --recipe, --set, --threads, --seconds and --json. With --rows the
// products of so many rows with the matrices of tokens and experts instead.
int bench_ops(const Options& options);

}  // namespace tools
