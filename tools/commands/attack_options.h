#pragma once

#include <string>
#include <vector>

#include "tools/commands/options.h"
#include "train/attacks/attack.h"
#include "train/config.h"
#include "train/metrics.h"

namespace tools {

// Adds --attack, --norm, --eps, --step, --steps, --restarts, --from-clean, --sigma, --seed and
// --starts. `attacks`: what --attack is by default, empty for none.
void add_attack_options(Options& options, const std::string& attacks);

// What they ask for, without starts; none where --attack is empty. UsageError.
std::vector<train::AttackPlan> attack_plans(const Options& options);
// Tensor "starts" of the file that --starts names, one image a row; empty without it.
// Error(kFormat, kValue) for another shape and for numbers that are not finite.
std::vector<float> attack_starts(const Options& options, const train::Config& config);

// The settings for JSON, and in a line for a person: "linf, eps 0.031373 (8/255)".
train::Fields attack_fields(const Options& options);
std::string attack_headline(const Options& options);

}  // namespace tools
