#pragma once

#include <cstdint>
#include <span>

// Information theory on counts; natural logarithms, so everything is in nats. Sums run in the
// order of the counts, so the same counts give the same bits.
namespace train {

// H = -sum_i p_i ln p_i with p_i = counts_i / sum; a count of 0 adds nothing. 0 for no counts.
double entropy(std::span<const int64_t> counts);

// exp(H): how many equally used experts a load is worth. E for a uniform load, 1 when all
// goes to one expert.
double effective_number(std::span<const int64_t> counts);

// I = sum_ij p_ij ln(p_ij / (p_i. p_.j)), the plug-in estimate from a table of joint counts
// (R, C), row-major. For choices of two views (R = C = E): how much the choice for one view says
// about the choice for the other. 0 for independent choices and for a collapsed router, ln E when
// both views always agree and use E experts equally. Unlike the matching ratio it does not rise
// when a router collapses. The estimate is too high by about (R - 1) (C - 1) / (2 n) for n pairs.
double mutual_information(std::span<const int64_t> joint, int64_t columns);

// sum_e p_e. p_.e of the same table: how often two choices drawn independently from the two
// marginals would agree. What a matching ratio has to be compared with.
double chance_agreement(std::span<const int64_t> joint, int64_t experts);

}  // namespace train
